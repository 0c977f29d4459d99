"""What beat asks a worker to do for passes. Each task is one call of a verb and returns its report."""

from dataclasses import asdict
from typing import Any

from celery import shared_task
from django.utils import timezone

from wallet.services import credentials


@shared_task(name="wallet.check_credentials")
def check_credentials() -> dict[str, Any]:
    return asdict(credentials.check_credentials(at=timezone.now()))
