"""A shop's purchase log, staged in a temporary table, checked as a whole and read day by day."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connection

from loyalty.errors import ImportRefused
from loyalty.models.money import to_minor
from loyalty.services import staging

TABLE = "staged_purchases"
COLUMNS = {"customer": "customer", "date": "day", "amount": "amount", "amount_usd": "amount"}
PROBLEMS_NAMED = 1000

# Two decimals; more only when they are zeros. At most what a sale can be: ten thousand million.
WRONG = f"""
SELECT line, 'customer' AS name, 'is missing or longer than 80 characters' AS reason
FROM {TABLE} WHERE length(customer) NOT BETWEEN 1 AND 80
UNION ALL
SELECT line, 'amount', format('%%s is not an amount such as 12.99, zero or larger, in whole cents', left(amount, 40))
FROM {TABLE} WHERE amount !~ '^[0-9]{{1,10}}(\\.[0-9]{{1,2}}0*)?$'
UNION ALL
SELECT line, 'date', format('%%s is not a date such as 2026-03-31', left(day, 40))
FROM {TABLE} WHERE day = ANY(%(not_dates)s)
UNION ALL
SELECT line, 'date', format('%%s is in the future', day)
FROM {TABLE} WHERE day = ANY(%(future)s)
ORDER BY 1, 2
"""  # noqa: S608  constants of this module


class Purchase(NamedTuple):
    """Who bought, and for how much in cents."""

    customer: str
    amount_minor: int


@dataclass(frozen=True)
class PurchaseLog:
    """A staged log. Its days are those of the file, moved by `shift`."""

    purchases: int
    first_day: date
    last_day: date
    shift: timedelta
    currency: str

    def on(self, day: date) -> list[Purchase]:
        """The purchases of a day in the order of the file."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT customer, amount FROM {TABLE} WHERE day = %s ORDER BY line",  # noqa: S608
                [(day - self.shift).isoformat()],
            )
            return [Purchase(customer, to_minor(amount, self.currency)) for customer, amount in cursor.fetchall()]

    def count_until(self, day: date) -> int:
        """How many purchases there are up to and including a day."""
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT count(*) FROM {TABLE} WHERE day <= %s",  # noqa: S608
                [(day - self.shift).isoformat()],
            )
            return int(cursor.fetchone()[0])


@contextmanager
def staged(path: Path, *, currency: str, today: date, last_day: date | None = None) -> Iterator[PurchaseLog]:
    """Read a log into a temporary table, in constant memory, for the length of the block.

    `last_day` moves all dates by whole days so that the last purchase falls on it.

    Raises:
        InvalidInput: the file cannot be read.
        ImportRefused: it has problems, named by line in the details.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE {TABLE} (line bigint, customer text, day text, amount text)")
    try:
        rows = staging.stage(
            path, table=TABLE, columns=COLUMNS, required=["customer", "day", "amount"], ignore_others=True
        ).rows
        yield _checked(path, rows, currency=currency, today=today, last_day=last_day)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")


def _checked(path: Path, rows: int, *, currency: str, today: date, last_day: date | None) -> PurchaseLog:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX ON {TABLE} (day, line)")
        cursor.execute(f"ANALYZE {TABLE}")
        cursor.execute(f"SELECT DISTINCT day FROM {TABLE}")  # noqa: S608
        written = [day for (day,) in cursor.fetchall()]
    days = {text: day for text in written if (day := _as_date(text))}
    if not rows:
        raise _refusal(path, [(1, "", "there are no purchases under the header")], 1)
    shift = last_day - max(days.values()) if last_day and days else timedelta(0)
    future = [text for text, day in days.items() if day + shift > today]
    _refuse_wrong(path, not_dates=[text for text in written if text not in days], future=future)
    return PurchaseLog(rows, min(days.values()) + shift, max(days.values()) + shift, shift, currency)


def _as_date(text: str) -> date | None:
    """The date, if it is written in full: other forms of ISO 8601 would not sort as text."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text and day.year >= 1980 else None


def _refuse_wrong(path: Path, *, not_dates: Sequence[str], future: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {"not_dates": list(not_dates), "future": list(future)}
        cursor.execute(f"SELECT count(*) FROM ({WRONG}) wrong", parameters)  # noqa: S608
        count = cursor.fetchone()[0]
        if count:
            cursor.execute(f"{WRONG} LIMIT {PROBLEMS_NAMED}", parameters)
            raise _refusal(path, cursor.fetchall(), count)


def _refusal(path: Path, problems: Sequence[tuple[int, str, str]], count: int) -> ImportRefused:
    named = [
        {"line": line, "column": name, "reason": reason} if name else {"line": line, "reason": reason}
        for line, name, reason in problems
    ]
    return ImportRefused(f"{staging.shown(path)} has {count:,} problems.", problems=named, problem_count=count)
