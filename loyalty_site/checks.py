"""System checks: what would make this installation unsafe to start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


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
