from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from celery import Task
from celery.exceptions import Retry
from celery.signals import task_revoked
from django.db import connection, transaction

from loyalty_site import jobs
from loyalty_site.celery import app
from loyalty_site.models import JobRun
from loyalty_site.tasks import heartbeat

pytestmark = pytest.mark.django_db


@pytest.fixture
def job():
    """Makes a task of the product out of a function, until the test ends."""
    made: set[str] = set()

    def make(function, name="loyalty.some_job"):
        def task():
            return function()

        if name in made:
            app.tasks.unregister(name)
        made.add(name)
        app.task(name=name)(task)
        return app.tasks[name]

    yield make
    for name in made:
        app.tasks.unregister(name)


def fail_with(error):
    def task():
        raise error

    return task


def test_a_run_that_succeeds_says_when_and_with_what_result(job):
    before = datetime.now(UTC)

    task_id = job(lambda: {"cards_expired": 3, "failed_card_ids": [17]}).apply().id

    run = JobRun.objects.get()
    assert (run.task, run.task_id, run.status) == ("loyalty.some_job", task_id, "succeeded")
    assert (run.result, run.error) == ({"cards_expired": 3, "failed_card_ids": [17]}, "")
    assert run.finished_at is not None
    assert before <= run.started_at <= run.finished_at


def test_a_run_is_visible_while_it_runs(job):
    seen: list[tuple[str, datetime | None]] = []

    job(lambda: seen.extend(JobRun.objects.values_list("status", "finished_at"))).apply()

    assert seen == [("running", None)]


@pytest.mark.parametrize("name", ["loyalty.a", "wallet.a", "notifications.a", "loyalty_site.a"])
def test_tasks_of_all_our_apps_are_recorded(job, name):
    job(dict, name=name).apply()

    assert JobRun.objects.get().task == name


def test_tasks_of_others_are_not(job):
    job(dict, name="celery_extension.clean_up").apply()

    assert not JobRun.objects.exists()


def test_a_run_that_fails_says_why_in_one_line(job):
    job(fail_with(ValueError("no such program\nwith details"))).apply()

    run = JobRun.objects.get()
    assert (run.status, run.error, run.result) == ("failed", "ValueError: no such program", None)
    assert run.finished_at is not None


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("cannot reach anna@example.org now", "ValueError: cannot reach ... now"),
        ("{'anna.müller@example.org': (550, b'no')}", "ValueError: {'...': (550, b'no')}"),
        ("call +352 621 123 456!", "ValueError: call ...!"),
        ("card 12345678 is gone", "ValueError: card 12345678 is gone"),
        ("with a \0 in it", "ValueError: with a  in it"),
        ("", "ValueError: "),
        ("x" * 1000, "ValueError: " + "x" * 288),
    ],
)
def test_an_error_is_kept_without_personal_data_and_within_bounds(job, message, kept):
    job(fail_with(ValueError(message))).apply()

    assert JobRun.objects.get().error == kept


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (None, None),
        (
            {"at": datetime(2026, 3, 10, tzinfo=UTC), "rate": Decimal("0.5")},
            {"at": "2026-03-10T00:00:00Z", "rate": "0.5"},
        ),
        ({"ids": {1}}, {"unreadable": "dict"}),
        (float("nan"), {"unreadable": "float"}),
    ],
    ids=["nothing", "dates and decimals", "no JSON", "not a number"],
)
def test_what_a_task_returns_is_kept_as_json_can_say_it(job, result, kept):
    job(lambda: result).apply()

    run = JobRun.objects.get()
    assert (run.status, run.result) == ("succeeded", kept)


def test_a_message_that_is_delivered_again_is_the_same_run_started_again(job):
    job(fail_with(OSError("gone"))).apply(task_id="one")
    job(dict).apply(task_id="one")

    run = JobRun.objects.get()
    assert (run.status, run.error, run.result) == ("succeeded", "", {})


def test_a_run_that_will_be_tried_again_has_failed_so_far(job):
    error = Retry(exc=OSError("the server is busy"))
    job(fail_with(error)).apply()

    assert (JobRun.objects.get().status, JobRun.objects.get().error) == ("failed", "OSError: the server is busy")


@pytest.mark.parametrize(
    ("expired", "why"), [(True, "Expired: no worker was free in time"), (False, "Revoked before it ended")]
)
def test_a_message_that_never_ran_is_a_failed_run(expired, why):
    request = type("Request", (), {"id": "late"})

    task_revoked.send(sender=heartbeat, request=request, terminated=False, signum=None, expired=expired)

    run = JobRun.objects.get(task_id="late")
    assert (run.task, run.status, run.error) == ("loyalty_site.heartbeat", "failed", why)


def test_history_is_short_and_keeps_the_newest(job):
    task = job(dict)
    JobRun.objects.bulk_create(old_run(task, number) for number in range(70))

    task.apply(task_id="newest")

    kept = JobRun.objects.filter(status="succeeded").order_by("-pk").values_list("task_id", flat=True)
    assert list(kept)[:3] == ["newest", "old 69", "old 68"]
    assert len(kept) == 50


def test_failures_do_not_push_out_the_last_success_nor_other_jobs(job, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", 3)
    task = job(fail_with(OSError("gone")))
    other = JobRun.objects.create(**vars_of(old_run(heartbeat, 1)))
    success = JobRun.objects.create(**vars_of(old_run(task, 2)))
    for _ in range(5):
        task.apply()

    assert JobRun.objects.last_success("loyalty.some_job") == success
    assert JobRun.objects.last_success("loyalty_site.heartbeat") == other
    assert JobRun.objects.filter(status="failed").count() == 3


def old_run(task: Task, number: int) -> JobRun:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return JobRun(
        task=task.name, task_id=f"old {number}", status="succeeded", started_at=moment, finished_at=moment, result={}
    )


def vars_of(run: JobRun) -> dict[str, Any]:
    return {field.name: getattr(run, field.name) for field in run._meta.fields if not field.primary_key}


def test_the_last_success_is_the_one_that_ended_last():
    older, newer = old_run(heartbeat, 1), old_run(heartbeat, 2)
    JobRun.objects.bulk_create([newer, older])

    assert JobRun.objects.last_success("loyalty_site.heartbeat") == newer
    assert JobRun.objects.last_success("loyalty.expire_points") is None


def test_the_latest_run_of_each_job(job):
    job(dict, name="loyalty.b").apply()
    job(dict, name="loyalty.a").apply()
    job(fail_with(OSError("gone")), name="loyalty.c").apply()
    job(fail_with(OSError("gone")), name="loyalty.b").apply()

    latest = [(run.task, run.status) for run in JobRun.objects.all().latest_per_job()]

    assert latest == [("loyalty.a", "succeeded"), ("loyalty.b", "failed"), ("loyalty.c", "failed")]


def test_a_run_names_itself(job):
    job(dict).apply()

    assert str(JobRun.objects.get()) == "loyalty.some_job succeeded"


def test_a_heartbeat_is_recorded_and_runs_on_the_default_queue():
    heartbeat.apply()

    assert JobRun.objects.last_success("loyalty_site.heartbeat") is not None
    assert "loyalty_site.heartbeat" not in app.conf.task_routes


def test_recording_inside_a_transaction_that_failed_leaves_the_task_alone(job):
    with transaction.atomic():
        transaction.set_rollback(True)
        result = job(lambda: {"done": True}).apply()

    assert result.get() == {"done": True}
    assert not JobRun.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_task_does_not_fail_because_its_run_cannot_be_written(job, caplog):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE loyalty_site_jobrun RENAME TO elsewhere")
    try:
        result = job(lambda: {"done": True}).apply()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO loyalty_site_jobrun")

    assert result.get() == {"done": True}
    unrecorded = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    said = [event for event in unrecorded if event["event"] == "loyalty_site.job_unrecorded"]
    assert [(event["job"], event["reason"]) for event in said] == [
        ("loyalty.some_job", 'ProgrammingError: relation "loyalty_site_jobrun" does not exist')
    ] * 2


@pytest.mark.django_db(transaction=True)
def test_a_run_that_a_database_refuses_to_write_is_logged_with_why_and_without_secrets(job, caplog, monkeypatch):
    connection.close()
    with monkeypatch.context() as refused:
        refused.setitem(connection.settings_dict, "NAME", "secret-word")
        refused.setitem(connection.settings_dict, "PASSWORD", "secret-word")
        job(lambda: None).apply()
        connection.close()

    said = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    [reason] = {event["reason"] for event in said if event["event"] == "loyalty_site.job_unrecorded"}
    assert reason.startswith("OperationalError: connection failed: ")
    assert reason.endswith('FATAL:  database "..." does not exist')


@pytest.mark.django_db(transaction=True)
def test_a_task_that_lost_its_connection_is_recorded_over_a_new_one(job):
    def cut():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    job(cut).apply()

    run = JobRun.objects.get()
    assert run.status == "failed"
    assert run.error.startswith("OperationalError: ")
