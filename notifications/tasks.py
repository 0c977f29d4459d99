"""The outbox's one periodic task."""

from dataclasses import asdict
from typing import Any

from celery import shared_task
from django.utils import timezone

from notifications import services


@shared_task(name="notifications.send_messages")
def send_messages() -> dict[str, Any]:
    return asdict(services.send_messages(at=timezone.now()))
