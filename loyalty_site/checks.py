"""System checks: what would make this installation unsafe to start."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from loyalty_site.schedules import JOBS


@register()
def job_ping_urls_name_jobs(**_: Any) -> list[CheckMessage]:
    """A pair that nobody understands would be a dead-man switch that is never fed. Entries are not shown: secrets."""
    known = {job.task for job in JOBS}
    pairs = [entry.partition("=") for entry in settings.JOB_PING_URLS]
    return [
        Error(
            f"Entry {number} of JOB_PING_URLS is no job with an address after it.",
            hint="Write it as loyalty.expire_points=https://..., with commas between several.",
            id="loyalty.E004",
        )
        for number, (task, _, url) in enumerate(pairs, start=1)
        if task not in known or not url.startswith(("https://", "http://"))
    ]
