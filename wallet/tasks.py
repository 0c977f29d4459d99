"""What beat asks a worker to do for passes. Each task is one call of a verb and returns its report."""

from dataclasses import asdict
from typing import Any

from celery import shared_task
from django.utils import timezone

from wallet.models import SyncRun
from wallet.services import credentials, forgetting, syncing


@shared_task(name="wallet.sync_passes")
def sync_passes() -> dict[str, Any]:
    return syncing.sync_passes(at=timezone.now(), trigger=SyncRun.Trigger.SCHEDULE).as_json()


@shared_task(name="wallet.check_credentials")
def check_credentials() -> dict[str, Any]:
    return asdict(credentials.check_credentials(at=timezone.now()))


@shared_task(name="wallet.purge")
def purge() -> dict[str, Any]:
    return asdict(forgetting.forget(at=timezone.now()))
