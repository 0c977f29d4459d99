from typing import Any

from celery import shared_task
from django.utils import timezone

from loyalty_site.metrics import rollups

LONGEST_SECONDS = 3000


@shared_task(name="loyalty_site.heartbeat")
def heartbeat() -> dict[str, str]:
    """That it ran is the message: beat sent it, the broker kept it, a worker took it and wrote its JobRun."""
    return {}


@shared_task(name="loyalty_site.take_stock")
def take_stock() -> dict[str, Any]:
    return rollups.take_stock()


@shared_task(name="loyalty_site.roll_up", time_limit=LONGEST_SECONDS)
def roll_up() -> dict[str, Any]:
    return rollups.roll_up(at=timezone.now())
