"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from typing import TypeVar

from django.core.management.base import CommandError

from loyalty_site.processes import LOCAL

LONGEST_WAIT = 120
T = TypeVar("T")


def wait_for(what: str, find: Callable[[], T | None]) -> T:
    """Ask until there is something, two minutes at most."""
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.2)
    raise CommandError(f"{what} did not come; the logs in {LOCAL / 'logs'} say why.")
