"""System checks: what would make this installation unsafe to start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from loyalty_site.schedules import JOBS


@register()
def database_is_postgresql(**_: Any) -> list[CheckMessage]:
    """SQLite and others ignore SKIP LOCKED without a word, and points would expire twice."""
    engine = settings.DATABASES["default"].get("ENGINE", "")
    if engine == "django.db.backends.postgresql":
        return []
    return [
        Error(
            f"The database engine is {engine!r}, but only PostgreSQL locks rows the way expiry needs.",
            hint="Set DATABASE_URL to postgresql://..., or use `make shell`, which starts one for you.",
            id="loyalty.E001",
        )
    ]


@register()
def secret_key_is_set(**_: Any) -> list[CheckMessage]:
    if settings.SECRET_KEY:
        return []
    return [Error("SECRET_KEY is not set.", hint="Set it to 50 random characters or more.", id="loyalty.E002")]


@register()
def pin_pepper_is_set(**_: Any) -> list[CheckMessage]:
    if settings.PIN_PEPPER:
        return []
    return [Error("PIN_PEPPER is not set.", hint="Set it to 50 random characters or more.", id="loyalty.E003")]


@register()
def job_ping_urls_name_jobs(**_: Any) -> list[CheckMessage]:
    """A pair that nobody understands would be a dead-man switch that is never fed. Addresses are not shown: secrets."""
    known = {job.task for job in JOBS}
    pairs = [entry.partition("=") for entry in settings.JOB_PING_URLS]
    wrong = [task[:60] for task, _, url in pairs if task not in known or not url.startswith(("https://", "http://"))]
    return [
        Error(
            f"JOB_PING_URLS has an entry for {task!r}, which is no job with an address after it.",
            hint="Write it as loyalty.expire_points=https://..., with commas between several.",
            id="loyalty.E004",
        )
        for task in wrong
    ]
