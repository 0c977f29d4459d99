"""What tests of expiry share: starting a run, and looking at all that it may have written."""

from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import connection
from django.utils import timezone

from loyalty.models import ExpirationRun
from loyalty.services import expiration
from loyalty.services.expiration import ExpirationReport


def expire(as_of: datetime, **choices: Any) -> ExpirationReport:
    """A run as of a moment, on a machine whose clock is right."""
    choices.setdefault("trigger", ExpirationRun.Trigger.COMMAND)
    return expiration.expire_points(as_of=as_of, at=timezone.now(), **choices)


def counts(report: ExpirationReport) -> tuple[int, int, int]:
    """Cards expired, points expired, warnings."""
    return report.tally.cards_expired, report.tally.points_expired, report.tally.warnings


def row_of(report: ExpirationReport) -> ExpirationRun:
    """The run as it is kept."""
    assert report.run_id is not None
    return ExpirationRun.objects.get(pk=report.run_id)


def table_hashes() -> dict[str, tuple[int, str]]:
    """Rows and a hash of the content of every table, so that a test can prove that nothing was written."""
    tables = [model._meta.db_table for model in apps.get_models(include_auto_created=True)]
    with connection.cursor() as cursor:
        found = {}
        for table in tables:
            cursor.execute(
                f"SELECT count(*), coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '') FROM {table} t"
            )
            found[table] = cursor.fetchone()
    return found
