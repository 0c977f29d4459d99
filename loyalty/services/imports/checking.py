"""What is wrong with the lines of an import, found by SQL over all of them at once."""

from datetime import date
from typing import Any

from django.db import connection

from loyalty.models import CardImport
from loyalty.services.csv_files import PROBLEMS_KEPT, Problem, Problems
from loyalty.services.ledger import MAX_BALANCE

EARLIEST_ACTIVITY, EARLIEST_BIRTH = date(1970, 1, 1), date(1900, 1, 1)
# Codes that move the cursor or end a line would garble lists, passes and files that are written from them.
CONTROL = r"[\u0001-\u001f\u007f-\u009f\u2028\u2029]"


def find_problems(card_import: CardImport, *, today: date) -> None:
    """Note in each line what is wrong with it: alone, beside the other lines, and beside known customers.

    `today` is the merchant's local date; a line must not say that something happens after it.
    """
    parameters: dict[str, Any] = {
        "card_import": card_import.pk,
        "merchant": card_import.merchant_id,
        "today": today,
        "unreadable": '[{"column": ""}]',
    }
    with connection.cursor() as cursor:
        # Statistics still say that the table is empty, and then comparing each line with each looks cheap.
        cursor.execute("SET LOCAL enable_nestloop = off")
        for statement in STATEMENTS:
            cursor.execute(statement, parameters)


def problems_of(card_import: CardImport) -> Problems:
    """The problems that were noted, in the order of the file."""
    with connection.cursor() as cursor:
        cursor.execute(NOTED, {"card_import": card_import.pk, "kept": PROBLEMS_KEPT})
        noted = cursor.fetchall()
    return Problems(noted[0][0] if noted else 0, [Problem(*place) for _count, *place in noted])


def _shown(column: str) -> str:
    """SQL for a value in quotes, short and harmless."""
    return f"""'"' || left(regexp_replace({column}, '{CONTROL}', '?', 'g'), 40) || '"'"""


def _text(column: str, longest: int) -> str:
    return f"""
        WHEN {column} ~ '{CONTROL}' THEN 'holds a control character, such as a tab or a line break'
        WHEN length({column}) > {longest} THEN 'is longer than {longest} characters'"""


def _whole_number(column: str) -> str:
    value = _shown(column)
    return f"""
        WHEN {column} ~ '^-[0-9]' THEN {value} || ' is negative'
        WHEN {column} !~ '^[0-9]+$' THEN {value} || ' is not a whole number, such as 1250'
        WHEN length({column}) > 10 OR {column}::bigint > {MAX_BALANCE}
            THEN {value} || ' is more than {MAX_BALANCE:,}'"""


def _day(column: str, earliest: date) -> str:
    """PostgreSQL 14 has no test that a cast would succeed, hence the arithmetic."""
    value = _shown(column)
    year, month, day = f"left({column}, 4)::int", f"substr({column}, 6, 2)::int", f"right({column}, 2)::int"
    last_of_month = f"extract(day FROM make_date({year}, {month}, 1) + interval '1 month - 1 day')"
    return f"""
        WHEN {column} !~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}$' THEN {value} || ' is not a date, such as 2026-03-31'
        WHEN {year} = 0 OR {month} NOT BETWEEN 1 AND 12 THEN {value} || ' is not a day of the calendar'
        WHEN {day} NOT BETWEEN 1 AND {last_of_month} THEN {value} || ' is not a day of the calendar'
        WHEN {column}::date > %(today)s THEN {value} || ' is in the future'
        WHEN {column}::date < '{earliest}' THEN {value} || ' is before {earliest}'"""


def _form(column: str, pattern: str, otherwise: str) -> str:
    return f"""
        WHEN {column} <> '' AND {column} !~ '{pattern}' THEN {_shown(column)} || ' {otherwise}'"""


MISSING = "WHEN {} = '' THEN 'is missing'"
NOTHING = "WHEN {} = '' THEN NULL"
CHECKS = {
    "external_id": MISSING.format("external_id") + _text("external_id", 80),
    "first_name": _text("first_name", 80),
    "last_name": _text("last_name", 80),
    "email": _text("email", 254),
    "phone": _text("phone", 16),
    "birth_date": NOTHING.format("birth_date") + _day("birth_date", EARLIEST_BIRTH),
    "locale": _text("locale", 16)
    + _form("locale", "^[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*$", "is not a language, such as fr"),
    "points": MISSING.format("points") + _whole_number("points"),
    "stamps": NOTHING.format("stamps") + _whole_number("stamps"),
    "last_activity_on": NOTHING.format("last_activity_on") + _day("last_activity_on", EARLIEST_ACTIVITY),
}

ALONE = f"""
UPDATE loyalty_cardimportrow bad SET problems = bad.problems || found.problems
FROM (
    SELECT id, jsonb_agg(jsonb_build_object('column', verdict.name, 'reason', reason)) AS problems
    FROM loyalty_cardimportrow
    CROSS JOIN LATERAL (
        VALUES {", ".join(f"('{column}', CASE {whens} END)" for column, whens in CHECKS.items())}
    ) AS verdict (name, reason)
    WHERE card_import_id = %(card_import)s AND reason IS NOT NULL AND NOT problems @> %(unreadable)s
      AND NOT problems @> jsonb_build_array(jsonb_build_object('column', verdict.name))
    GROUP BY id
) found
WHERE bad.id = found.id
"""  # noqa: S608  columns of our own table


def _beside_other_lines(column: str, key: str) -> str:
    return f"""
UPDATE loyalty_cardimportrow again
SET problems = again.problems
    || jsonb_build_object('column', '{column}', 'reason', 'is on line ' || seen.first || ' already')
FROM (
    SELECT {key.format("one")} AS key, min(line) AS first
    FROM loyalty_cardimportrow one
    WHERE card_import_id = %(card_import)s AND {column} <> ''
    GROUP BY 1 HAVING count(*) > 1
) seen (key, first)
WHERE again.card_import_id = %(card_import)s AND {key.format("again")} = seen.key AND again.line > seen.first
"""  # noqa: S608


def _beside_customers(column: str, key: str) -> str:
    return f"""
UPDATE loyalty_cardimportrow known
SET problems = known.problems
    || jsonb_build_object('column', '{column}', 'reason', 'belongs to customer ' || customer.id || ' already')
FROM loyalty_customer customer
WHERE known.card_import_id = %(card_import)s AND known.{column} <> ''
  AND customer.merchant_id = %(merchant)s AND customer.{column} <> ''
  AND {key.format("customer")} = {key.format("known")}
"""  # noqa: S608


NOTED = """
SELECT count(*) OVER (), line, problem->>'column', problem->>'reason'
FROM loyalty_cardimportrow, jsonb_array_elements(problems) WITH ORDINALITY AS noted (problem, place)
WHERE card_import_id = %(card_import)s AND problems <> '[]'
ORDER BY line, place
LIMIT %(kept)s
"""

UNIQUE = {"external_id": "{}.external_id", "email": "lower({}.email)", "phone": "{}.phone"}
STATEMENTS = [
    ALONE,
    *(_beside_other_lines(column, key) for column, key in UNIQUE.items()),
    *(_beside_customers(column, key) for column, key in UNIQUE.items()),
]
