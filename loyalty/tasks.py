"""What beat asks a worker to do. Each task is one call of a verb and returns its report."""

from dataclasses import asdict
from typing import Any

from celery import shared_task
from django.utils import timezone

from loyalty.models import ExpirationRun
from loyalty.services import expiration, ledger_check, purging
from notifications.tasks import wake_sender

# A million due cards take minutes; the broker delivers again after an hour.
LONGEST_SECONDS = 3000


@shared_task(name="loyalty.expire_points", time_limit=LONGEST_SECONDS)
def expire_points() -> dict[str, Any]:
    now = timezone.now()
    report = expiration.expire_points(as_of=now, at=now, trigger=ExpirationRun.Trigger.SCHEDULE)
    wake_sender()
    return report.as_json()


@shared_task(name="loyalty.check_ledger", time_limit=LONGEST_SECONDS)
def check_ledger() -> dict[str, Any]:
    return asdict(ledger_check.check_ledger())


@shared_task(name="loyalty.purge", time_limit=LONGEST_SECONDS)
def purge() -> dict[str, Any]:
    return asdict(purging.purge(at=timezone.now()))
