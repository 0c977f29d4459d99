"""Is what was restored what was backed up, and does the database protect it again? One sentence for each no."""

from collections.abc import Iterator

import pgtrigger
from django.db import IntegrityError, connection, transaction
from psycopg import sql

from loyalty.models import Transaction
from loyalty.services.ledger_check import check_ledger
from loyalty_site.backup.fingerprints import Fingerprint, fingerprints, snapshot

SEQUENCES = """
SELECT sequence_space.nspname, sequence.relname, table_space.nspname, owner.relname, attname
FROM pg_class sequence
JOIN pg_depend ON objid = sequence.oid AND classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
    AND deptype IN ('a', 'i')
JOIN pg_class owner ON owner.oid = refobjid
JOIN pg_attribute ON attrelid = owner.oid AND attnum = refobjsubid
JOIN pg_namespace sequence_space ON sequence_space.oid = sequence.relnamespace
JOIN pg_namespace table_space ON table_space.oid = owner.relnamespace
WHERE sequence.relkind = 'S' ORDER BY 1, 2
"""
# Foreign keys are triggers too. On a replica alone (R) is as good as never.
RESTING = """
SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgenabled IN ('D', 'R') ORDER BY relname, tgname
"""
POSITION = "SELECT last_value - (NOT is_called)::int, (SELECT coalesce(max({}), 0) FROM {}) FROM {}"


def rows_that_differ(expected: dict[str, Fingerprint]) -> Iterator[str]:
    """Tables that do not hold what the manifest says."""
    with snapshot():
        found = fingerprints()
    for table in sorted(expected.keys() | found.keys()):
        if table not in found:
            yield f"The table {table} is missing."
        elif table not in expected:
            yield f"The table {table} is not in the manifest."
        elif found[table].rows != expected[table].rows:
            yield f"The table {table} has {found[table].rows:,} rows instead of {expected[table].rows:,}."
        elif found[table] != expected[table]:
            yield f"The rows of the table {table} are not those that were backed up."


def triggers_that_rest() -> Iterator[str]:
    """Triggers that the code asks for and the database has not, or not switched on; and the ledger, tried."""
    for model, trigger in pgtrigger.registered():
        status, is_enabled = trigger.get_installation_status(model)
        if status != "INSTALLED" or not is_enabled:
            yield f"The trigger {trigger.name} of {model._meta.db_table} is not in force."
    ours = {trigger.get_pgid(model) for model, trigger in pgtrigger.registered()}
    with connection.cursor() as cursor:
        cursor.execute(RESTING)
        yield from (
            f"The trigger {name} of {table} is not in force." for table, name in cursor.fetchall() if name not in ours
        )
    if not _ledger_is_append_only():
        yield "The ledger let a row be deleted (it was put back); its triggers are not in force."


class _Deleted(Exception):
    """It worked, and must not stay."""


def _ledger_is_append_only() -> bool:
    row = Transaction.objects.order_by("pk").values_list("pk", flat=True).first()
    if row is None:
        return True
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("DELETE FROM loyalty_transaction WHERE id = %s", [row])
            raise _Deleted
    except IntegrityError:
        return True
    except _Deleted:
        return False


def sequences_behind() -> Iterator[str]:
    """Sequences that would give out a number that a row has."""
    with connection.cursor() as cursor:
        cursor.execute(SEQUENCES)
        for schema, name, table_schema, table, column in cursor.fetchall():
            sequence, owner = sql.Identifier(schema, name), sql.Identifier(table_schema, table)
            cursor.execute(sql.SQL(POSITION).format(sql.Identifier(column), owner, sequence))
            last, highest = cursor.fetchone()
            if last < highest:
                yield f"The sequence {name} is at {last}, but {table} has a row {highest}."


def balances_that_are_wrong() -> Iterator[str]:
    """What check_ledger finds."""
    report = check_ledger()
    if report.mismatched_cards:
        yield f"check_ledger found {report.mismatched_cards} cards whose balance is not what the ledger says."
