"""Files of cards, and what an import left behind, for the tests of imports."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.db import connection

from loyalty.models import CardBalance, Merchant
from loyalty.services.imports import ImportReport, import_cards, preview_import
from tests.factories import NOON

HEADER = "external_id,points,last_activity_on"


def write(path: Path, lines: Iterable[str], *, header: str = HEADER) -> Path:
    path.write_text("".join(f"{line}\n" for line in [header, *lines]))
    return path


def run(path: Path, merchant: Merchant, **options: Any) -> ImportReport:
    asked: dict[str, Any] = {"skip_bad": False, "actor": "Mia", "at": NOON, **options}
    return import_cards(path=path, merchant=merchant, **asked)


def preview(path: Path, merchant: Merchant, **options: Any) -> ImportReport:
    asked: dict[str, Any] = {"skip_bad": False, "at": NOON, **options}
    return preview_import(path=path, merchant=merchant, **asked)


def named(report: ImportReport) -> list[tuple[int, str, str]]:
    return [(problem.line, problem.column, problem.reason) for problem in report.problems.first]


def balances(merchant: Merchant) -> dict[str, int]:
    """Points by external id."""
    cards = CardBalance.objects.filter(card__customer__merchant=merchant)
    return dict(cards.values_list("card__customer__external_id", "points_balance"))


def all_tables() -> dict[str, str]:
    """A checksum for the contents of each table there is."""
    with connection.cursor() as cursor:
        contents = {}
        for table in sorted(connection.introspection.table_names(cursor)):
            cursor.execute(f'SELECT row::text FROM "{table}" row ORDER BY 1')
            contents[table] = hashlib.sha256(repr(cursor.fetchall()).encode()).hexdigest()
    return contents
