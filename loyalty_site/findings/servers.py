"""The database, the broker, and the clocks of all machines."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError as BrokerError
from redis import Redis, RedisError

from loyalty.models import ExpirationRun
from loyalty_site.backup import unproven
from loyalty_site.celery import app
from loyalty_site.findings.finding import Finding
from loyalty_site.metrics import throttled
from loyalty_site.models import JobRun
from loyalty_site.queues import QUEUES
from loyalty_site.unreachable import explain_broker, explain_database
from wallet.models import SyncRun

MOST_WAITING = 50  # tasks in one queue; a handful is what a healthy installation has
MOST_THROTTLED = 100  # answers 429 to one store in a minute


def database_findings() -> Iterator[Finding]:
    try:
        if unproven.is_marked():
            yield Finding("restore_unproven", unproven.SENTENCE)
            return
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except OperationalError as error:
        yield Finding("database_unreachable", explain_database(error))
        return
    if missing:
        yield Finding("migrations_missing", f"{missing} migrations are not applied. Run manage.py migrate.")


def broker_findings() -> Iterator[Finding]:
    try:
        with app.connection_for_write() as broker:
            broker.ensure_connection(max_retries=1, interval_start=0)
    except BrokerError as error:
        yield Finding("broker_unreachable", explain_broker(error))


def queue_findings(at: datetime) -> Iterator[Finding]:
    """What the broker holds. One that is away is a finding of its own."""
    try:
        with Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=2, socket_connect_timeout=2) as client:
            lengths = {queue: int(client.llen(queue)) for queue in QUEUES}
            throttled_most = throttled.highest(at, client)
    except RedisError:
        return
    for queue, length in lengths.items():
        if length > MOST_WAITING:
            yield Finding(
                "queue_backlog",
                f"{length} tasks wait in the queue `{queue}`. Check that a worker takes it and that it gets on; "
                f"start another one with -Q {queue}.",
            )
    if throttled_most > MOST_THROTTLED:
        yield Finding(
            "store_throttled",
            f"One store got {throttled_most:.0f} answers 429 in a minute. Find the till that is in a loop, or raise "
            "the throttle factor of a store that is that busy.",
        )


def clock_findings(at: datetime) -> Iterator[Finding]:
    """Moments that have not come yet look young for ever, and hide that nothing happens any more."""
    limit = at + timedelta(seconds=settings.LOYALTY_CLOCK_TOLERANCE_SECONDS)
    ahead = {
        "job runs": JobRun.objects.filter(Q(started_at__gt=limit) | Q(finished_at__gt=limit)).count(),
        "expiration runs": ExpirationRun.objects.filter(Q(started_at__gt=limit) | Q(finished_at__gt=limit)).count(),
        "sync runs": SyncRun.objects.filter(started_at__gt=limit).count(),
        "schedule entries": PeriodicTask.objects.filter(last_run_at__gt=limit).count(),
    }
    for what, count in ahead.items():
        if count:
            yield Finding(
                "timestamp_in_future",
                f"{count} {what} have a time in the future. Check the clocks of all machines; beat puts its schedule "
                "entries right when it runs.",
            )
