"""Beat, the schedule, and what became of the jobs that it sent."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django_celery_beat.models import PeriodicTask

from loyalty_site.findings.finding import Finding, in_words, is_older
from loyalty_site.models import JobRun
from loyalty_site.schedules import EXPIRY, HEARTBEAT

HEARTBEAT_AGE = timedelta(minutes=5)
FAILING_FOR = timedelta(hours=1)


def job_findings(at: datetime) -> Iterator[Finding]:
    """Jobs whose last run failed, and that have had an hour to do better."""
    ended = JobRun.objects.exclude(status=JobRun.Status.RUNNING).latest_per_job()
    for run in [run for run in ended if run.status == JobRun.Status.FAILED]:
        succeeded = JobRun.objects.last_success(run.task)
        first = JobRun.objects.filter(task=run.task, status=JobRun.Status.FAILED)
        if succeeded is not None:
            first = first.filter(finished_at__gt=succeeded.finished_at)
        began = first.order_by("finished_at").values_list("finished_at", flat=True).first()
        if began is not None and began < at - FAILING_FOR:
            yield Finding(
                "job_failing",
                f"{run.task} has been failing since {in_words(began)}: {run.error} "
                "Its runs are under Job runs in the admin.",
            )


def heartbeat_findings(at: datetime) -> Iterator[Finding]:
    last = JobRun.objects.last_success(HEARTBEAT)
    beat_at = last.finished_at if last else None
    if is_older(beat_at, HEARTBEAT_AGE, at):
        yield Finding(
            "heartbeat_stale",
            f"No heartbeat has come through since {in_words(beat_at)}. Check that beat runs, that a worker "
            "takes the queue `default`, and that the schedule entry loyalty_site.heartbeat is switched on.",
        )


def schedule_findings(at: datetime) -> Iterator[Finding]:
    if not PeriodicTask.objects.filter(task=EXPIRY, enabled=True).exists():
        yield Finding(
            "expiration_switched_off",
            "No schedule entry for loyalty.expire_points is switched on. Switch it on in the admin, "
            "or run manage.py install_schedules if there is none.",
        )
