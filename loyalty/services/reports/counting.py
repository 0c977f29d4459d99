"""What all reports do: ask one question, and put a part beside a whole."""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django.db import connection

from loyalty.errors import InvalidInput


def fetch(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def share(part: int, whole: int) -> str | None:
    """A part of a whole as a decimal with four digits, such as "0.1250"; None when there is no whole."""
    if whole <= 0:
        return None
    return str((Decimal(part) / whole).quantize(Decimal("0.0001"), ROUND_HALF_UP))


def require_between(least: int, number: int, most: int, *, field: str) -> None:
    """Refuse a number outside of what a report can show.

    Raises:
        InvalidInput: it is.
    """
    if not least <= number <= most:
        raise InvalidInput(f"Choose a number from {least} to {most}.", field=field)
