"""What is wrong with this installation right now, and what to do about it. Each function looks at one thing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Count, F, Max, Q, Sum
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError as BrokerError
from redis import Redis, RedisError

from loyalty.models import ExpirationRun, StaffMember
from loyalty_site.celery import app
from loyalty_site.metrics import throttled
from loyalty_site.models import JobRun
from loyalty_site.unreachable import explain_broker, explain_database
from notifications.models import Message
from wallet.models import Breaker, Credential, Pass, Platform, SyncRun

QUEUES = (
    settings.CELERY_TASK_DEFAULT_QUEUE,
    *sorted({str(route["queue"]) for route in settings.CELERY_TASK_ROUTES.values()}),
)
EXPIRY = "loyalty.expire_points"
LEDGER_CHECK = "loyalty.check_ledger"
HEARTBEAT = "loyalty_site.heartbeat"
DAILY = timedelta(hours=26)  # a day, and time for a late or long run
HEARTBEAT_AGE = timedelta(minutes=5)
MAIL_AGE = timedelta(minutes=15)
SYNC_AGE = timedelta(hours=3)
GOOGLE_KEY_AGE = timedelta(days=90)
FAILING_FOR = timedelta(hours=1)
MOST_WAITING = 50  # tasks in one queue; a handful is what a healthy installation has
MOST_THROTTLED = 100  # answers 429 to one store in a minute
MOST_LOCKED = 2  # staff members of one merchant; one forgets a PIN, several mean that somebody guesses
MOST_FAILED = 0.05  # of the passes that were tried in an hour
CREDENTIAL_ENDS_SOON = timedelta(days=14)
CREDENTIAL_ENDS_NOW = timedelta(days=3)
LAST_RUN: dict[str, str] = {
    ExpirationRun.Status.REFUSED: "was refused, and points wait to expire until a person decides.",
    ExpirationRun.Status.PARTIAL: "left cards out. Put them right, then run manage.py expire_points.",
    ExpirationRun.Status.FAILED: "ended before its time. Remove the cause, then run manage.py expire_points.",
}


@dataclass(frozen=True)
class Finding:
    """Something a person has to look at: a code for machines, and a sentence that says what to do."""

    code: str
    text: str


def findings(at: datetime) -> Iterator[Finding]:
    """All that is wrong; an unreachable database or missing migrations hide the rest."""
    blocked = list(database_findings())
    yield from blocked
    if not blocked:
        for look in LOOKS:
            yield from look(at)
    yield from broker_findings()


def database_findings() -> Iterator[Finding]:
    try:
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


def job_findings(at: datetime) -> Iterator[Finding]:
    """Jobs whose last run failed, and that have had an hour to do better."""
    ended = JobRun.objects.exclude(status=JobRun.Status.RUNNING).latest_per_job()
    for run in [run for run in ended if run.status == JobRun.Status.FAILED]:
        succeeded = JobRun.objects.last_success(run.task)
        first = JobRun.objects.filter(task=run.task, status=JobRun.Status.FAILED)
        if succeeded is not None:
            first = first.filter(finished_at__gt=succeeded.finished_at)
        since = first.order_by("finished_at").first()
        if since is not None and since.finished_at is not None and since.finished_at < at - FAILING_FOR:
            yield Finding(
                "job_failing",
                f"{run.task} has been failing since {_since(since.finished_at)}: {run.error} "
                "Its runs are under Job runs in the admin.",
            )


def expiration_findings(at: datetime) -> Iterator[Finding]:
    """Whether whole runs succeed, night by night, and what became of the last one."""
    newest = ExpirationRun.objects.counting().aggregate(newest=Max("finished_at"))["newest"]
    if _is_older(newest, DAILY, at):
        yield Finding(
            "expiration_stale",
            f"No whole expiration run has succeeded since {_since(newest)}; one should every day. "
            "Check that beat and a worker run, then run manage.py expire_points.",
        )
    ended = ExpirationRun.objects.filter(merchant=None, as_of=F("started_at"), finished_at__isnull=False)
    last = ended.order_by("-started_at").first()
    if last is not None and last.status in LAST_RUN:
        yield Finding(f"expiration_{last.status}", f"Expiration run {last.pk} {LAST_RUN[last.status]} {_why(last)}")


def ledger_findings(at: datetime) -> Iterator[Finding]:
    last = JobRun.objects.last_success(LEDGER_CHECK)
    checked_at = last.finished_at if last else None
    if _is_older(checked_at, DAILY, at):
        yield Finding(
            "ledger_check_stale",
            f"The ledger has not been checked since {_since(checked_at)}; it should be every night. "
            "Check that beat and a worker run, then run celery -A loyalty_site call loyalty.check_ledger.",
        )
    if last is not None and last.result and last.result.get("mismatched_cards"):
        yield Finding(
            "ledger_mismatch",
            f"The ledger check found {last.result['mismatched_cards']} cards whose balance is not what their "
            "transactions say. Run manage.py check_ledger and do not change any balance before you know why.",
        )


def heartbeat_findings(at: datetime) -> Iterator[Finding]:
    last = JobRun.objects.last_success(HEARTBEAT)
    beat_at = last.finished_at if last else None
    if _is_older(beat_at, HEARTBEAT_AGE, at):
        yield Finding(
            "heartbeat_stale",
            f"No heartbeat has come through since {_since(beat_at)}. Check that beat runs, that a worker "
            "takes the queue `default`, and that the schedule entry loyalty_site.heartbeat is switched on.",
        )


def schedule_findings(at: datetime) -> Iterator[Finding]:
    if not PeriodicTask.objects.filter(task=EXPIRY, enabled=True).exists():
        yield Finding(
            "expiration_switched_off",
            "No schedule entry for loyalty.expire_points is switched on. Switch it on in the admin, "
            "or run manage.py install_schedules if there is none.",
        )


def message_findings(at: datetime) -> Iterator[Finding]:
    """Mail that waits too long, and mail that was given up."""
    # A mail server that is down puts messages off minute by minute, without counting attempts.
    put_off = Q(attempts=0, resends=0, created_at__lt=at - MAIL_AGE)
    stuck = Message.objects.waiting().filter(Q(next_attempt_at__lt=at - MAIL_AGE) | put_off).count()
    if stuck:
        yield Finding(
            "messages_stuck",
            f"{stuck} messages have been waiting for more than 15 minutes. Check that a worker takes the queue "
            "`notifications` and that the mail server answers, then run manage.py send_messages.",
        )
    dead = Message.objects.filter(status=Message.Status.DEAD, next_attempt_at__gt=at - timedelta(days=1)).count()
    if dead:
        yield Finding(
            "messages_dead",
            f"{dead} messages were given up in the last 24 hours. Look at them in the admin, which says why, "
            "and send them again when the cause is gone.",
        )


def credential_findings(at: datetime) -> Iterator[Finding]:
    """What signs passes and opens the platforms: near its end, over, or not taken."""
    active = Credential.objects.filter(status=Credential.Status.ACTIVE).order_by("kind", "identifier")
    for credential in active.filter(valid_until__lt=at + CREDENTIAL_ENDS_SOON):
        assert credential.valid_until is not None  # noqa: S101
        is_urgent = credential.valid_until < at + CREDENTIAL_ENDS_NOW
        verb = "expired" if credential.valid_until <= at else "expires"
        yield Finding(
            "credential_expires_now" if is_urgent else "credential_expires_soon",
            f"{credential} {verb} on {credential.valid_until:%Y-%m-%d}; then no pass can be signed or brought up to "
            "date. Get a new certificate, and bring it in with manage.py wallet_credentials import.",
        )
    for credential in active.exclude(check_error=""):
        yield Finding(
            "credential_fails",
            f"{credential} failed its last check: {credential.check_error} "
            "Afterwards run manage.py wallet_credentials check.",
        )


def breaker_findings(at: datetime) -> Iterator[Finding]:
    for breaker in Breaker.objects.filter(opened_at__isnull=False).order_by("platform", "identifier"):
        yield Finding(
            "wallet_breaker_open",
            f"No pass of {Platform(breaker.platform).label} {breaker.identifier} has been brought up to date since "
            f"{_since(breaker.opened_at)}: {breaker.reason or breaker.code} It is tried again by itself; a credential "
            "that is activated with manage.py wallet_credentials activate ends it at once.",
        )


def sync_findings(at: datetime) -> Iterator[Finding]:
    """Whether phones are told, as far as a platform is switched on."""
    if not Credential.objects.filter(status=Credential.Status.ACTIVE, kind__in=Platform.values).exists():
        return
    worked = SyncRun.objects.filter(status__in=(SyncRun.Status.SUCCEEDED, SyncRun.Status.PARTIAL))
    newest = worked.aggregate(newest=Max("finished_at"))["newest"]
    if _is_older(newest, SYNC_AGE, at):
        yield Finding(
            "wallet_sync_stale",
            f"No sync of passes has succeeded since {_since(newest)}; one should every minute. Check that a worker "
            "takes the queue `wallet`, then run manage.py sync_passes.",
        )
    hour = SyncRun.objects.filter(started_at__gt=at - timedelta(hours=1), started_at__lte=at)
    sums = hour.aggregate(**{name: Sum(name, default=0) for name in ("pushed", "unchanged", "retrying", "dead")})
    failed, tried = sums["retrying"] + sums["dead"], sum(sums.values())
    if failed > MOST_FAILED * tried:
        yield Finding(
            "wallet_sync_failures",
            f"{failed} of {tried} passes that were tried in the last hour failed. The runs under Sync runs in the "
            "admin name the cards and say why.",
        )
    given_up = Pass.objects.filter(~Q(last_error_code=""), dead_at__gt=at - timedelta(days=1)).count()
    if given_up:
        yield Finding(
            "passes_dead",
            f"{given_up} passes were given up in the last 24 hours. The admin says why, under Passes; when the "
            "cause is gone, run manage.py sync_passes --dead.",
        )


def google_key_findings(at: datetime) -> Iterator[Finding]:
    keys = Credential.objects.filter(status=Credential.Status.ACTIVE, kind=Credential.Kind.GOOGLE)
    for key in keys.filter(valid_from__lt=at - GOOGLE_KEY_AGE):
        yield Finding(
            "google_key_old",
            f"{key} is more than {GOOGLE_KEY_AGE.days} days old. Make a new key at Google, and bring it in with "
            "manage.py wallet_credentials import.",
        )


def staff_findings(at: datetime) -> Iterator[Finding]:
    locked = StaffMember.objects.filter(is_active=True, locked_until__gt=at).values("merchant__slug")
    for row in locked.annotate(locked=Count("pk")).filter(locked__gt=MOST_LOCKED).order_by("merchant__slug"):
        yield Finding(
            "pins_locked",
            f"{row['locked']} staff members of {row['merchant__slug']} are locked out after wrong PINs. Ask the shop "
            "before you unlock them: several at once mean that somebody guesses.",
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


LOOKS: tuple[Callable[[datetime], Iterator[Finding]], ...] = (
    expiration_findings,
    ledger_findings,
    heartbeat_findings,
    schedule_findings,
    job_findings,
    queue_findings,
    message_findings,
    credential_findings,
    google_key_findings,
    breaker_findings,
    sync_findings,
    staff_findings,
    clock_findings,
)


def _is_older(newest: datetime | None, age: timedelta, at: datetime) -> bool:
    """Whether the last time is too long ago; what never happened is as old as this installation."""
    return (newest or _installed_at()) < at - age


def _installed_at() -> datetime:
    applied: datetime = MigrationRecorder.Migration.objects.get(
        app="loyalty_site", name="0002_install_schedules"
    ).applied
    return applied


def _since(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "the installation"


def _why(run: ExpirationRun) -> str:
    cards = f"Cards: {', '.join(map(str, run.failed_card_ids[:10]))}. " if run.failed_card_ids else ""
    return cards + " ".join(run.error.split())
