"""Real beats and workers: what a restart, a crash and an outage do to the schedule."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from loyalty_site.models import JobRun
from loyalty_site.tasks import heartbeat
from tests.fakes import celery_process
from tests.fakes.celery_process import broker, queued, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EXPIRY = "loyalty.expire_points"
HEARTBEAT = "loyalty_site.heartbeat"


@pytest.fixture(autouse=True)
def _empty_broker():
    with broker() as client:
        client.flushdb()


@pytest.fixture
def staff(client, settings):
    settings.WHITENOISE_AUTOREFRESH = True  # there is no collected STATIC_ROOT to warn about
    client.force_login(User.objects.create_superuser("staff"))
    return client


def where_it_is_noon() -> str:
    """A zone in which the day is half over, so that tests run at midnight too."""
    behind = datetime.now(UTC).hour - 12
    return f"Etc/GMT{behind:+d}" if behind else "Etc/GMT"


def expiry_at(hour: int, *, last_run: datetime | None) -> PeriodicTask:
    """Only the expiry entry, daily at `hour` where it is noon."""
    entry = PeriodicTask.objects.get(name=EXPIRY)
    PeriodicTask.objects.exclude(pk=entry.pk).delete()
    CrontabSchedule.objects.filter(pk=entry.crontab_id).update(hour=str(hour), timezone=where_it_is_noon())
    PeriodicTask.objects.filter(pk=entry.pk).update(last_run_at=last_run)
    return entry


def every_second(name: str) -> None:
    """Only this entry, each second, as of now."""
    PeriodicTask.objects.exclude(name=name).delete()
    second = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.update(interval=second, last_run_at=timezone.now(), expire_seconds=None)


def post_form(client: Any, address: str, **changes: Any) -> None:
    """Open an admin page, change some fields and press Save."""
    page = client.get(address).context
    forms = [page["adminform"].form]
    for inline in page["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    shown = {
        form.add_prefix(name): form.get_initial_for_field(field, name)
        for form in forms
        for name, field in form.fields.items()
    }
    filled = {name: getattr(value, "pk", value) for name, value in {**shown, **changes}.items()}
    answer = client.post(address, {name: value for name, value in filled.items() if value not in (None, False)})
    assert answer.status_code == 302, answer.context["errors"]


def change_page(row: Any) -> str:
    return reverse(f"admin:django_celery_beat_{row._meta.model_name}_change", args=[row.pk])


def test_what_staff_edit_is_obeyed_and_survives_migrate_install_and_restart(staff, tmp_path):
    entry = expiry_at(18, last_run=timezone.now() - timedelta(hours=14))
    with celery_process.beat(tmp_path) as beat:
        beat.wait_until_it_says("loyalty_site.leadership_gained")
        assert queued() == []
        post_form(staff, change_page(entry.crontab), hour="10", minute="5")
        wait_until(lambda: queued() == [EXPIRY])
        post_form(staff, change_page(entry), description="after the cash-up", expire_seconds=3600)
    wait_until(lambda: PeriodicTask.objects.get(name=EXPIRY).total_run_count == 1)
    before = PeriodicTask.objects.values().get(name=EXPIRY)

    call_command("migrate", verbosity=0)
    call_command("install_schedules", verbosity=0)
    with celery_process.beat(tmp_path) as beat:
        beat.wait_until_it_says("loyalty_site.leadership_gained")
        assert is_quiet(seconds=1.5)

    entry.refresh_from_db()
    assert PeriodicTask.objects.values().get(name=EXPIRY) == before
    assert (entry.crontab.hour, entry.crontab.minute) == ("10", "5")
    assert (entry.description, entry.expire_seconds) == ("after the cash-up", 3600)
    assert queued() == [EXPIRY]


def test_a_job_that_staff_switch_off_stays_off(staff, tmp_path):
    every_second(HEARTBEAT)
    entry = PeriodicTask.objects.get()
    with celery_process.beat(tmp_path):
        wait_until(lambda: len(queued()) >= 1)
        post_form(staff, change_page(entry), enabled=False)
        wait_until(lambda: is_quiet(seconds=2), seconds=15)

    entry.refresh_from_db()
    assert (entry.enabled, entry.last_run_at) == (False, None)


def is_quiet(*, seconds: float) -> bool:
    before, until = len(queued()), timezone.now() + timedelta(seconds=seconds)
    wait_until(lambda: timezone.now() > until)
    return len(queued()) == before


def test_a_beat_that_was_down_at_two_runs_that_days_expiry(tmp_path):
    expiry_at(2, last_run=timezone.now() - timedelta(hours=34))

    with celery_process.beat(tmp_path):
        wait_until(lambda: queued() == [EXPIRY])

    entry = PeriodicTask.objects.get(name=EXPIRY)
    assert entry.last_run_at is not None
    assert timezone.now() - entry.last_run_at < timedelta(minutes=1)
    assert queued() == [EXPIRY]


def test_two_beats_send_each_job_once_and_one_takes_over_when_the_other_is_killed(tmp_path):
    every_second(HEARTBEAT)
    with celery_process.beat(tmp_path) as one, celery_process.beat(tmp_path) as two:
        wait_until(lambda: len(queued()) >= 3)
        leader, follower = (one, two) if one.said("loyalty_site.job_sent") else (two, one)
        follower.wait_until_it_says("loyalty_site.leadership_awaited")
        assert not follower.said("loyalty_site.job_sent")
        leader.kill()
        sent_by_leader = len(queued())
        wait_until(lambda: len(queued()) >= sent_by_leader + 2)

    assert follower.said("loyalty_site.leadership_gained")
    # The last word of a killed leader may be unwritten; nothing else was sent unseen.
    assert PeriodicTask.objects.get().total_run_count in (len(queued()), len(queued()) - 1)


def test_beat_survives_connections_that_are_cut(tmp_path):
    every_second(HEARTBEAT)
    with celery_process.beat(tmp_path) as beat:
        wait_until(lambda: len(queued()) >= 1)
        cut_other_connections()
        sent = len(queued())
        wait_until(lambda: len(queued()) >= sent + 2)

        assert beat.process.poll() is None
        assert beat.said("loyalty_site.leadership_lost")


def test_beat_survives_a_database_that_is_away_for_a_while(tmp_path):
    every_second(HEARTBEAT)
    with celery_process.beat(tmp_path) as beat:
        wait_until(lambda: len(queued()) >= 1)
        with database_away():
            beat.wait_until_it_says("loyalty_site.beat_database_lost")
            sent = len(queued())
        wait_until(lambda: len(queued()) >= sent + 2)

        assert beat.process.poll() is None


def test_beat_starts_before_its_database(tmp_path):
    every_second(HEARTBEAT)
    with database_away(), celery_process.beat(tmp_path) as beat:
        beat.wait_until_it_says("loyalty_site.beat_database_lost")
        allow_connections(True)
        wait_until(lambda: len(queued()) >= 1)


def cut_other_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def allow_connections(allowed: bool) -> None:
    parameters = {**connection.get_connection_params(), "dbname": "postgres"}
    with psycopg.connect(**parameters, autocommit=True) as session:
        session.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} ALLOW_CONNECTIONS {allowed}")


@contextmanager
def database_away() -> Iterator[None]:
    allow_connections(False)
    try:
        cut_other_connections()
        yield
    finally:
        allow_connections(True)


def test_a_last_run_in_the_future_is_put_right_by_a_real_beat(tmp_path):
    expiry_at(18, last_run=timezone.now() + timedelta(days=400))

    with celery_process.beat(tmp_path) as beat:
        beat.wait_until_it_says("loyalty_site.last_run_repaired")
        wait_until(lambda: repaired(EXPIRY))

    assert queued() == []


def repaired(name: str) -> bool:
    last_run = PeriodicTask.objects.get(name=name).last_run_at
    return last_run is not None and last_run <= timezone.now()


def test_heartbeats_from_beat_through_a_worker_become_job_runs(tmp_path):
    every_second(HEARTBEAT)
    with celery_process.worker(tmp_path), celery_process.beat(tmp_path):
        wait_until(lambda: JobRun.objects.filter(task=HEARTBEAT, status="succeeded").count() >= 2)

    run = JobRun.objects.last_success(HEARTBEAT)
    assert run is not None
    assert (run.result, run.error) == ({}, "")
    assert run.worker.startswith("celery@")
    assert run.finished_at is not None
    assert run.started_at <= run.finished_at


def test_a_message_too_old_for_a_worker_is_a_failed_run(tmp_path):
    late = heartbeat.apply_async(expires=timezone.now() - timedelta(seconds=1))
    with celery_process.worker(tmp_path):
        wait_until(lambda: JobRun.objects.filter(task_id=late.id).exists())

    run = JobRun.objects.get(task_id=late.id)
    assert (run.status, run.error) == ("failed", "Expired: no worker was free in time")
