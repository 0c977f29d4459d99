"""The schedule, beat, the workers of every queue, and two servers that must not forget."""

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db import connection
from django_celery_beat.models import PeriodicTask
from redis import Redis, RedisError

from loyalty_site.celery import app
from loyalty_site.findings import Finding
from loyalty_site.findings.jobs import HEARTBEAT_AGE
from loyalty_site.models import JobRun
from loyalty_site.queues import QUEUES
from loyalty_site.schedules import HEARTBEAT, JOBS

ANSWER_SECONDS = 2.0
NEEDED = ("fsync", "full_page_writes")


def machinery_findings(at: datetime) -> Iterator[Finding]:
    yield from _schedule()
    yield from _heartbeat(at)
    yield from _queues()
    yield from _database()
    yield from _broker()


def _schedule() -> Iterator[Finding]:
    switched_on = set(PeriodicTask.objects.filter(enabled=True).values_list("task", flat=True))
    for job in JOBS:
        if job.task not in switched_on:
            yield Finding(
                "schedule_entry_off",
                f"No schedule entry for {job.task} is switched on. Switch it on in the admin, or run "
                "manage.py install_schedules if there is none.",
            )


def _heartbeat(at: datetime) -> Iterator[Finding]:
    """Unlike in daily operation, a new installation has no time to get going: it must have got going."""
    last = JobRun.objects.last_success(HEARTBEAT)
    if last is None or last.finished_at is None or last.finished_at < at - HEARTBEAT_AGE:
        yield Finding(
            "heartbeat_missing",
            "No heartbeat has come through in the last five minutes. Start beat and a worker for the queue `default`, "
            "and wait a minute.",
        )


def _queues() -> Iterator[Finding]:
    answers = app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
    attended = {queue["name"] for queues in answers.values() for queue in queues}
    for queue in QUEUES:
        if queue not in attended:
            yield Finding(
                "queue_unattended", f"No worker takes the queue `{queue}`. Start a worker for it (-Q {queue})."
            )


def _database() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off'", [list(NEEDED)])
        off = [name for (name,) in cursor.fetchall()]
    for name in off:
        yield Finding("database_forgets", f"PostgreSQL runs with {name} = off, and loses sales when its host falls.")


def _broker() -> Iterator[Finding]:
    try:
        with Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=ANSWER_SECONDS) as client:
            policy = client.info("memory").get("maxmemory_policy", "noeviction")
    except RedisError:
        return  # it may not tell, as with some providers; that it answers at all was seen before
    if policy != "noeviction":
        yield Finding(
            "broker_evicts",
            f"The broker drops what it has no room for ({policy}), tasks among it. Set maxmemory-policy noeviction.",
        )
