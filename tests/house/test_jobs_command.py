"""`manage.py jobs`, as operators use it."""

from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.utils import timezone
from django_celery_beat.models import PeriodicTask, PeriodicTasks
from structlog.testing import capture_logs

from loyalty.management.base import actor
from loyalty_site.models import JobRun
from loyalty_site.schedules import JOBS
from loyalty_site.tasks import heartbeat
from tests.fakes.celery_process import broker, queued

pytestmark = pytest.mark.django_db
EXPIRY = "loyalty.expire_points"


def jobs(**options: str) -> dict[str, str]:
    """The lines by the name of the job."""
    output = StringIO()
    call_command("jobs", stdout=output, **options)
    return dict(line.split(maxsplit=1) for line in output.getvalue().splitlines()[1:-1])


def test_each_job_is_listed_with_its_time():
    lines = jobs()

    assert set(lines) == {job.task for job in JOBS}
    assert lines[EXPIRY] == "on   02:00 UTC         never sent                has not run yet"


def test_the_newest_run_is_told_with_how_long_it_took_and_its_error():
    began = timezone.now()
    JobRun.objects.create(
        task=EXPIRY,
        task_id="1",
        status="failed",
        started_at=began,
        finished_at=began + timedelta(seconds=12),
        error="OperationalError: gone",
    )
    JobRun.objects.create(task="loyalty.purge", task_id="2", status="running", started_at=began)

    lines = jobs()

    assert lines[EXPIRY].endswith("UTC after 12.0 s: OperationalError: gone")
    assert "running since" in lines["loyalty.purge"]


def test_what_waits_in_the_broker_is_counted():
    with broker() as client:
        client.flushdb()
    heartbeat.delay()

    assert last_line() == "Tasks that wait: default 1, notifications 0, wallet 0"


def test_a_broker_that_is_away_is_named(settings):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"

    assert last_line().startswith("The broker does not answer: ")


def last_line() -> str:
    output = StringIO()
    call_command("jobs", stdout=output)
    return output.getvalue().splitlines()[-1]


def test_one_is_switched_off_and_on_so_that_beat_notices():
    PeriodicTasks.objects.all().delete()

    assert jobs(off=EXPIRY)[EXPIRY].startswith("OFF")
    assert not PeriodicTask.objects.get(task=EXPIRY).enabled
    assert PeriodicTasks.last_change() is not None
    assert jobs(on=EXPIRY)[EXPIRY].startswith("on ")


def test_an_unknown_one_is_refused_in_a_line():
    with pytest.raises(CommandError, match="There is no job") as error:
        jobs(off="loyalty.nothing")

    assert error.value.returncode == 2


def test_the_log_says_who_switched_a_job():
    with capture_logs() as logs:
        jobs(off=EXPIRY)

    assert logs == [
        {
            "event": "loyalty_site.job_switched",
            "log_level": "warning",
            "job": EXPIRY,
            "enabled": False,
            "actor": actor(),
        }
    ]


@time_machine.travel("2026-03-10T02:00:12Z", tick=False)
def test_the_first_line_says_what_time_it_is_for_those_that_were_sent():
    output = StringIO()
    call_command("jobs", stdout=output)

    assert output.getvalue().startswith("It is 2026-03-10 02:00:12 UTC.\n")


@pytest.mark.parametrize(("task", "queue"), [("loyalty.check_ledger", "default"), ("wallet.sync_passes", "wallet")])
def test_one_is_sent_at_once_to_the_queue_that_its_worker_takes(task, queue):
    with broker() as client:
        client.flushdb()
    output = StringIO()

    call_command("jobs", run=task, stdout=output)

    assert queued(queue) == [task]
    assert output.getvalue() == (
        f"Sent {task} to the queue {queue}. Its line in manage.py jobs says how it ended, once a worker has done it.\n"
    )


@pytest.mark.parametrize("task", ["no.such.task", "celery.backend_cleanup"])
def test_what_no_worker_of_ours_knows_is_not_sent(task):
    with broker() as client:
        client.flushdb()

    with pytest.raises(CommandError, match=f"There is no task '{task}'. There are: loyalty.check_ledger, ") as error:
        call_command("jobs", run=task, stdout=StringIO())

    assert error.value.returncode == 2
    assert queued() == []


def test_nothing_is_sent_to_a_broker_that_is_away_and_a_sentence_says_so(settings):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"

    with pytest.raises(CommandError, match=r"^Nothing was sent\. The broker .* at 127\.0\.0\.1:1 ") as error:
        call_command("jobs", run=EXPIRY, stdout=StringIO())

    assert error.value.returncode == 1
