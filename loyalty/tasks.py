"""What beat asks a worker to do. Each task is one call of a verb and returns its report."""

from dataclasses import asdict
from typing import Any

from celery import current_app, shared_task
from django.utils import timezone

from loyalty.models import ExpirationRun
from loyalty.services import expiration, ledger_check


@shared_task(name="loyalty.expire_points")
def expire_points() -> dict[str, Any]:
    now = timezone.now()
    report = expiration.expire_points(as_of=now, at=now, trigger=ExpirationRun.Trigger.SCHEDULE)
    # A wake-up, so that mail leaves at once; the messages are rows and beat would find them in 15 seconds.
    current_app.send_task("notifications.send_messages", queue="notifications")
    return report.as_json()


@shared_task(name="loyalty.check_ledger")
def check_ledger() -> dict[str, Any]:
    return asdict(ledger_check.check_ledger())
