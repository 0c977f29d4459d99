"""One sentence instead of a traceback when PostgreSQL or the broker cannot be reached."""

import re

from django.conf import settings
from django.db import DatabaseError, OperationalError
from redis.connection import ConnectionPool

# What PostgreSQL, libpq and PgBouncer say of a login or a database's name: a failed connection has no SQLSTATE.
REFUSED = re.compile(
    r"authentication failed|no password supplied|not permitted to log in|pg_hba\.conf"
    r'|(?:role|database) ".*" does not exist|no such (?:user|database)'
)


def is_unreachable(error: OperationalError) -> bool:
    """Tell a failed or ended connection, class 08 or 57 or without a SQLSTATE, from an error of a statement."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))


def is_refused(error: DatabaseError) -> bool:
    """Tell a login or a database that PostgreSQL does not know, class 28 or 3D, from one that may come back."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state.startswith(("28", "3D")) if state else bool(REFUSED.search(str(error)))


def explain_database(error: OperationalError) -> str:
    database = settings.DATABASES["default"]
    place = f"{database.get('HOST') or 'localhost'}:{database.get('PORT') or 5432}/{database.get('NAME')}"
    return f"PostgreSQL cannot be reached at {place} ({first_line(error)}). {_remedy('DATABASE_URL')}"


def explain_broker(error: Exception) -> str:
    options = ConnectionPool.from_url(settings.CELERY_BROKER_URL).connection_kwargs
    place = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return (
        f"The broker (Valkey or Redis) cannot be reached at {place} ({str(error).rstrip('.')}). "
        f"{_remedy('REDIS_URL')} Nothing is lost: "
        "what was to be done is in PostgreSQL and is picked up when the broker is back."
    )


def first_line(error: Exception) -> str:
    """Why PostgreSQL cannot be reached, for a log or a person: never with the password, whoever repeats it."""
    said = str(error).strip() or "no reason given"
    return without_secret(said.splitlines()[0], settings.DATABASES["default"].get("PASSWORD"))


def without_secret(text: str, secret: str | None) -> str:
    return text.replace(secret, "...") if secret else text


def _remedy(name: str) -> str:
    otherwise = ", or use `make shell`, which starts one for you" if settings.DEVELOPMENT else ""
    return f"Start it, or put right what {name} or {name}_FILE says{otherwise}."
