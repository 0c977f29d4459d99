"""How tests that commit end: with tables as empty as Django's flush leaves them, in a fifth of its time.

A flush truncates every table, and writes hundreds of rows about content types, permissions and the schedule again.
Most tests fill a handful of tables with a handful of rows, which are deleted faster.
"""

from functools import cache

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from loyalty_site.apps import after_migrate

MANY_ROWS = 2_000  # from here on a flush is faster
KEPT = (ContentType, Permission)
_schedules: dict[str, str] = {}


def emptied() -> bool:
    """Whether the tables could be emptied in the fast way. If not, nothing was done."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SHOW is_superuser")
        if cursor.fetchone() != ("on",):
            return False
        # Like a flush, wait for what other processes still write.
        cursor.execute(f"LOCK TABLE {', '.join(_tables())} IN ACCESS EXCLUSIVE MODE")
        cursor.execute(_counts())
        numbers = dict(cursor.fetchall())
        if max(numbers.values()) > MANY_ROWS:
            return False
        is_schedule_untouched = _schedule() == _schedules.get(_database())
        # Then the order of the tables does not matter, and the ledger lets it happen.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table, number in numbers.items():
            if number and not (is_schedule_untouched and table in _schedule_tables()):
                cursor.execute(f"DELETE FROM {table}")
        cursor.execute("SET LOCAL session_replication_role = origin")
        if not is_schedule_untouched:
            after_migrate()
            _schedules[_database()] = _schedule()
    return True


def _database() -> str:
    return str(connection.settings_dict["NAME"])


@cache
def _tables() -> list[str]:
    kept = {model._meta.db_table for model in KEPT}
    return sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)} - kept)


@cache
def _schedule_tables() -> list[str]:
    return [table for table in _tables() if table.startswith("django_celery_beat_")]


@cache
def _counts() -> str:
    """One statement that says of each table how many rows it has, as far as that matters."""
    one = "SELECT '{0}', (SELECT count(*) FROM (SELECT FROM {0} LIMIT {1}) found)"
    return " UNION ALL ".join(one.format(table, MANY_ROWS + 1) for table in _tables())


def _schedule() -> str:
    """All that the tables of the schedule hold."""
    one = "(SELECT coalesce(string_agg({0}::text, '|' ORDER BY {0}::text), '') FROM {0})"
    with connection.cursor() as cursor:
        cursor.execute("SELECT concat_ws('||', " + ", ".join(map(one.format, _schedule_tables())) + ")")
        return str(cursor.fetchone()[0])
