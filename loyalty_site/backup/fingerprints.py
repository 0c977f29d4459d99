"""A count and a hash of the rows of every table, whatever order they lie in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.db import connection, transaction
from psycopg import sql

from loyalty_site.backup import unproven

TABLES = f"""
SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' AND relname <> '{unproven.TABLE}'
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
ORDER BY nspname, relname
"""  # noqa: S608  a name of our own
# A sum forgets no row that is there twice, unlike an exclusive or. No hash of PostgreSQL's own: they may change
# from one version to the next, and a backup outlives its server.
ROWS = """
WITH hashes AS (
    SELECT ('x' || left(encode(sha256(convert_to(one::text, 'UTF8')), 'hex'), 16))::bit(64)::bigint AS hash FROM {} one
)
SELECT count(*), coalesce(sum(hash), 0) FROM hashes
"""
# What the text of a value depends on.
SPELLING = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


class Fingerprint(NamedTuple):
    """What all rows of a table come to."""

    rows: int
    hash: str


@contextmanager
def snapshot() -> Iterator[str]:
    """One moment of the database, for as long as the block lasts; yields the name under which others can look at it."""
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for name, value in SPELLING.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])
        cursor.execute("SELECT pg_export_snapshot()")
        yield cursor.fetchone()[0]


def fingerprints() -> dict[str, Fingerprint]:
    """Of every table, by its name, as the snapshot around it has them."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        tables = cursor.fetchall()
        found = {}
        for schema, table in tables:
            cursor.execute(sql.SQL(ROWS).format(sql.Identifier(schema, table)))
            rows, total = cursor.fetchone()
            found[f"{schema}.{table}"] = Fingerprint(rows, str(total))
        return found


def has_tables() -> bool:
    """Whether anybody has made a table here."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        return cursor.fetchone() is not None
