"""Jobs, the schedule, clocks, and PINs that were locked. JobRun keeps 50 runs of a task and result, so it is small."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Max, Min, Q
from django_celery_beat.models import PeriodicTask

from loyalty.models import ExpirationRun, StaffMember
from loyalty_site.metrics.declaring import TASKS, Reading, State
from loyalty_site.models import JobRun
from loyalty_site.schedules import EXPIRY, SYNC
from wallet.models import SyncRun

# Their own rows know better what counts as a success.
KNOWN_OTHERWISE = (EXPIRY, SYNC)
LAST_SUCCESS = State(
    "loyalty_job_last_success_timestamp_seconds",
    "When a task last did all of its work. Of loyalty.expire_points only whole runs count.",
    {"task": TASKS},
)
LAST_DURATION = State("loyalty_job_last_duration_seconds", "How long the last successful run took.", {"task": TASKS})
LAST_FAILED = State("loyalty_job_last_run_failed", "1 when the last run of a task that ended failed.", {"task": TASKS})
SCHEDULED = State(
    "loyalty_job_scheduled_timestamp_seconds",
    "Since when a task is scheduled as it is. Missing when it is switched off.",
    {"task": TASKS},
)
BEAT_SENT = State("loyalty_beat_last_sent_timestamp_seconds", "When a beat last sent a job and wrote it down.")
IN_FUTURE = State(
    "loyalty_timestamps_in_future",
    "Rows with a time that has not come yet, which look young for ever.",
    {"of": ("job_runs", "expiration_runs", "sync_runs", "schedule_entries")},
)
PINS_LOCKED = State("loyalty_pin_locked_staff", "Staff members who are locked out after too many wrong PINs.")
PINS_LOCKED_MOST = State("loyalty_pin_locked_staff_highest", "The most locked staff members of any one merchant.")
STATES = (
    LAST_SUCCESS,
    LAST_DURATION,
    LAST_FAILED,
    SCHEDULED,
    BEAT_SENT,
    IN_FUTURE,
    PINS_LOCKED,
    PINS_LOCKED_MOST,
)


def jobs(at: datetime) -> Iterator[Reading]:
    """Two statements: the newest success, and the newest run that ended, of each task."""
    ours = JobRun.objects.filter(task__in=TASKS)
    succeeded = ours.filter(status=JobRun.Status.SUCCEEDED, finished_at__isnull=False)
    for run in succeeded.order_by("task", "-finished_at").distinct("task").defer("result", "error"):
        if run.finished_at is None:
            continue
        if run.task not in KNOWN_OTHERWISE:
            yield LAST_SUCCESS.read(run.finished_at, task=run.task)
        yield LAST_DURATION.read((run.finished_at - run.started_at).total_seconds(), task=run.task)
    ended = ours.exclude(status=JobRun.Status.RUNNING).latest_per_job()
    for task, status in ended.values_list("task", "status"):
        yield LAST_FAILED.read(status == JobRun.Status.FAILED, task=task)


def schedule(at: datetime) -> Iterator[Reading]:
    """One statement over the entries that are switched on. Beat writes there what it sends."""
    newest: list[datetime] = []
    entries = PeriodicTask.objects.filter(enabled=True).values("task")
    for entry in entries.annotate(since=Min("date_changed"), sent_at=Max("last_run_at")).order_by():
        newest += [entry["sent_at"]] if entry["sent_at"] else []
        if entry["task"] in TASKS:
            yield SCHEDULED.read(entry["since"], task=entry["task"])
    if newest:
        yield BEAT_SENT.read(max(newest))


def clocks(at: datetime) -> Iterator[Reading]:
    """Four statements over small tables and newest rows."""
    limit = at + timedelta(seconds=settings.LOYALTY_CLOCK_TOLERANCE_SECONDS)
    ran_later = Q(started_at__gt=limit) | Q(finished_at__gt=limit)
    yield IN_FUTURE.read(JobRun.objects.filter(ran_later).count(), of="job_runs")
    yield IN_FUTURE.read(ExpirationRun.objects.filter(ran_later).count(), of="expiration_runs")
    yield IN_FUTURE.read(SyncRun.objects.filter(started_at__gt=limit).count(), of="sync_runs")
    yield IN_FUTURE.read(PeriodicTask.objects.filter(last_run_at__gt=limit).count(), of="schedule_entries")


def staff(at: datetime) -> Iterator[Reading]:
    """One statement over the staff of all merchants, who are few beside cards."""
    locked = StaffMember.objects.filter(is_active=True, locked_until__gt=at)
    counted = [row["locked"] for row in locked.values("merchant").annotate(locked=Count("pk")).order_by()]
    yield PINS_LOCKED.read(sum(counted))
    yield PINS_LOCKED_MOST.read(max(counted, default=0))
