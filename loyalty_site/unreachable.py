"""One sentence instead of a traceback when PostgreSQL or the broker cannot be reached."""

from django.conf import settings
from django.db import OperationalError
from redis.connection import ConnectionPool


def is_unreachable(error: OperationalError) -> bool:
    """Tell a failed or ended connection, class 08 or 57 or without a SQLSTATE, from an error of a statement."""
    state = getattr(error.__cause__, "sqlstate", None)
    return state is None or state.startswith(("08", "57P"))


def explain_database(error: OperationalError) -> str:
    database = settings.DATABASES["default"]
    place = f"{database.get('HOST') or 'localhost'}:{database.get('PORT') or 5432}/{database.get('NAME')}"
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return (
        f"PostgreSQL cannot be reached at {place} ({first_line}). "
        "Start it, or set DATABASE_URL, or use `make shell`, which starts one for you."
    )


def explain_broker(error: Exception) -> str:
    options = ConnectionPool.from_url(settings.CELERY_BROKER_URL).connection_kwargs
    place = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return (
        f"The broker (Valkey or Redis) cannot be reached at {place} ({str(error).rstrip('.')}). "
        "Start it, or set REDIS_URL, or use `make shell`, which starts one for you. Nothing is lost: "
        "what was to be done is in PostgreSQL and is picked up when the broker is back."
    )
