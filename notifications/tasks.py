"""The outbox's one periodic task, and how others wake it."""

from dataclasses import asdict
from typing import Any

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from notifications import services


@shared_task(name="notifications.send_messages")
def send_messages() -> dict[str, Any]:
    return asdict(services.send_messages(at=timezone.now()))


def wake_sender() -> bool:
    """Ask a worker to send what is due now, instead of at beat's next tick. False when the broker is away.

    Nothing depends on it: messages are rows, and the next tick finds them.
    """
    try:
        send_messages.delay()
    except BrokerError:
        return False
    return True
