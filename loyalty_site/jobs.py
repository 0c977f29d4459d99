"""Every run of a task of ours becomes a JobRun, and no task fails because that could not be written."""

import json
import re
from typing import Any

import structlog
from celery.signals import task_failure, task_prerun, task_retry, task_revoked, task_success
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from loyalty_site.metrics.counters import count_job
from loyalty_site.models import JobRun
from loyalty_site.unreachable import first_line

log = structlog.get_logger()

OURS = ("loyalty.", "wallet.", "notifications.", "loyalty_site.")
KEPT = 50  # runs of a task for each status; enough for weeks of a nightly job
PERSONAL = re.compile(r"[^\s<>'\"]+@[^\s<>'\"]+|\+\d[\d ()/-]{5,}\d")


@task_prerun.connect
def started(*, sender: Any, task_id: str, **_: Any) -> None:
    worker = getattr(sender.request, "hostname", None) or ""
    _record(
        sender.name,
        task_id,
        status=JobRun.Status.RUNNING,
        started_at=timezone.now(),
        finished_at=None,
        result=None,
        error="",
        worker=worker[:255],
    )


@task_success.connect
def succeeded(*, sender: Any, result: Any, **_: Any) -> None:
    _finish(sender.name, sender.request.id, JobRun.Status.SUCCEEDED, result=_plain(result))


@task_failure.connect
def failed(*, sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    _finish(sender.name, task_id, JobRun.Status.FAILED, error=_first_line(exception))


@task_retry.connect
def will_be_tried_again(*, sender: Any, request: Any, reason: Any, **_: Any) -> None:
    _finish(sender.name, request.id, JobRun.Status.FAILED, error=_first_line(getattr(reason, "exc", None) or reason))


@task_revoked.connect
def revoked(*, sender: Any, request: Any, expired: bool, **_: Any) -> None:
    why = "Expired: no worker was free in time" if expired else "Revoked before it ended"
    _finish(sender.name, request.id, JobRun.Status.FAILED, error=why)


def _finish(task: str, task_id: str, status: JobRun.Status, *, result: Any = None, error: str = "") -> None:
    count_job(task, status, result)
    _record(task, task_id, status=status, finished_at=timezone.now(), result=result, error=error)


def _record(task: str, task_id: str, **changes: Any) -> None:
    if not task.startswith(OURS):
        return
    try:
        try:
            _write(task, task_id, changes)
        except (DatabaseError, InterfaceError):
            if connection.in_atomic_block:
                raise
            # The connection may have died under the task, and its failure is what is to be written.
            connection.close()
            _write(task, task_id, changes)
    except (DatabaseError, InterfaceError) as error:
        log.warning(
            "loyalty_site.job_unrecorded", job=task, task_id=task_id, reason=_in_a_line(error, first_line(error))
        )


def _write(task: str, task_id: str, changes: dict[str, Any]) -> None:
    with transaction.atomic():
        created = {"started_at": timezone.now(), **changes, "task": task}
        JobRun.objects.update_or_create(task_id=task_id, defaults=changes, create_defaults=created)
    JobRun.objects.all().beyond_newest(KEPT, task=task, status=changes["status"]).delete()


def _plain(result: Any) -> Any:
    """The result as JSON can say it."""
    try:
        return json.loads(json.dumps(result, cls=DjangoJSONEncoder, allow_nan=False))
    except (TypeError, ValueError):
        return {"unreadable": type(result).__name__}


def _first_line(error: object) -> str:
    return _in_a_line(error, next(iter(str(error).replace("\0", "").splitlines()), ""))


def _in_a_line(error: object, said: str) -> str:
    """Class and words, without mail addresses and phone numbers: error texts quote what they choke on."""
    return PERSONAL.sub("...", f"{type(error).__name__}: {said}")[:300]
