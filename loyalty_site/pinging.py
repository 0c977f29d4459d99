"""Tells a dead-man switch outside of this installation that a job did its work, so that its silence is noticed."""

from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.request import Request, urlopen

import structlog
from celery.signals import task_success
from django.conf import settings
from django.db import connection

log = structlog.get_logger()

SECONDS = 5
# Statuses with which a job that reports one did its work. A run that a guard refused did not.
DONE = ("succeeded", "partial")


@task_success.connect
def job_succeeded(*, sender: Any, result: Any, **_: Any) -> None:
    """Ping the address of a job, if it has one and all is well. Whatever the network does, the job has succeeded."""
    address = addresses().get(sender.name)
    if address and is_well(result) and not connection.in_atomic_block:
        ping(sender.name, address)


def addresses() -> dict[str, str]:
    """The addresses of JOB_PING_URLS, by task."""
    return dict(entry.split("=", 1) for entry in settings.JOB_PING_URLS if "=" in entry)


def is_well(result: Any) -> bool:
    """Whether a job that ended also did all of its work and found nothing."""
    if not isinstance(result, Mapping):
        return True
    return result.get("status", DONE[0]) in DONE and not result.get("mismatched_cards")


def ping(task: str, address: str) -> None:
    try:
        # A system check has seen that it is an address of HTTP.
        with urlopen(Request(address, headers={"User-Agent": "loyalty"}), timeout=SECONDS):  # noqa: S310
            return
    except (OSError, ValueError, HTTPException) as error:
        # The address itself is a secret: whoever knows it can keep the switch quiet.
        log.warning("loyalty_site.ping_failed", job=task, reason=type(error).__name__)
