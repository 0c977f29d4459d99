"""What beat does unless staff decide otherwise. Rows in the database rule; this makes those that are missing."""

from dataclasses import dataclass
from datetime import time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.apps import apps as installed_apps
from django.apps.registry import Apps

UTC = ZoneInfo("UTC")
EXPIRY = "loyalty.expire_points"
LEDGER_CHECK = "loyalty.check_ledger"
SYNC = "wallet.sync_passes"
HEARTBEAT = "loyalty_site.heartbeat"
STOCK = "loyalty_site.take_stock"
ROLLUP = "loyalty_site.roll_up"


@dataclass(frozen=True)
class Job:
    """One entry of the schedule: `when` is a time of day in UTC, or the time from one run to the next."""

    task: str
    when: time | timedelta
    description: str

    @property
    def expire_seconds(self) -> int:
        """One period: after an outage the newest message is worth running, not a backlog of them."""
        return 23 * 3600 if isinstance(self.when, time) else int(self.when.total_seconds())


JOBS = (
    Job(EXPIRY, time(2, 0), "Warns customers, then expires the points of idle cards."),
    Job(LEDGER_CHECK, time(3, 30), "Compares every card's balance with its transactions."),
    Job("loyalty.purge", time(3, 45), "Deletes what was kept long enough."),
    Job("wallet.purge", time(3, 50), "Deletes what wallets kept long enough."),
    Job(SYNC, timedelta(minutes=1), "Tells phones about cards that changed."),
    Job("wallet.check_credentials", timedelta(hours=1), "Tries every credential in use against its platform."),
    Job("notifications.send_messages", timedelta(seconds=15), "Sends the mail that is due."),
    Job(HEARTBEAT, timedelta(minutes=1), "Proves that beat, broker and worker are up."),
    Job(STOCK, timedelta(minutes=5), "Counts what would be too dear to count for a scrape."),
    Job(ROLLUP, time(4, 15), "Counts cards at risk and other figures of the business."),
)


def install_schedules(apps: Apps = installed_apps) -> list[str]:
    """Make the entries that do not exist yet, switched on, and leave every other row alone.

    An entry that staff renamed still counts as there. Migrations pass their own `apps`.
    Returns the names of the entries it made.
    """
    entries = apps.get_model("django_celery_beat", "PeriodicTask").objects
    return [job.task for job in JOBS if not entries.filter(task=job.task).exists() and _install(job, apps)]


def _install(job: Job, apps: Apps) -> bool:
    entries = apps.get_model("django_celery_beat", "PeriodicTask").objects
    fields = {"task": job.task, "description": job.description, "expire_seconds": job.expire_seconds}
    _, created = entries.get_or_create(name=job.task, defaults={**fields, **_timing(job.when, apps)})
    return bool(created)


def _timing(when: time | timedelta, apps: Apps) -> dict[str, Any]:
    """The row that says when, shared with other entries of the same time, as the admin would."""
    if isinstance(when, time):
        daily = {"day_of_month": "*", "month_of_year": "*", "day_of_week": "*", "timezone": UTC}
        crontabs = apps.get_model("django_celery_beat", "CrontabSchedule").objects
        exact = {"minute": str(when.minute), "hour": str(when.hour), **daily}
        # No constraint forbids two equal rows, and get_or_create stumbles over them.
        return {"crontab": crontabs.filter(**exact).first() or crontabs.create(**exact)}
    seconds = int(when.total_seconds())
    every, period = (seconds // 60, "minutes") if seconds % 60 == 0 else (seconds, "seconds")
    intervals = apps.get_model("django_celery_beat", "IntervalSchedule").objects
    exact = {"every": every, "period": period}
    return {"interval": intervals.filter(**exact).first() or intervals.create(**exact)}
