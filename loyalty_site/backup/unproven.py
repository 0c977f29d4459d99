"""A mark in a database that is being restored: there from before its first row until the whole proof is done.

It is a table of its own, committed before pg_restore begins, so that a restore that is killed at any moment leaves it.
Nobody takes it for a table of ours: fingerprints do not count it, and so it makes no database "not empty".
"""

from django.db import DatabaseError, connection

from loyalty_site.backup.refusals import ClientFailed

TABLE = "loyalty_site_unproven_restore"
SENTENCE = (
    "This database was restored and not proven. Drop it, and begin again at step 3 of "
    "docs/runbooks/backup-and-restore.md#restore."
)


def mark() -> None:
    """Note, for whoever looks from now on, that nobody may use this database.

    Raises:
        ClientFailed: this role may not make tables here.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ()")
    except DatabaseError as error:
        raise ClientFailed(f"No table can be made in this database: {str(error).splitlines()[0]}") from None


def is_marked() -> bool:
    """Whether a restore into this database was begun, and did not end with everything proven."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [TABLE])
        found: bool = cursor.fetchone()[0]
    return found


def take_away() -> None:
    """Let the database be used."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")
