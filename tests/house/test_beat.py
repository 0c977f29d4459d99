"""The scheduler tick by tick, in this process, on the real database and the real broker."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
import time_machine
from celery import Celery
from django.db import connection
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask

from loyalty_site.beat import LOCK_KEY, LeaderScheduler, Leadership
from loyalty_site.celery import app
from loyalty_site.schedules import JOBS
from tests.fakes.celery_process import broker, queued, wait_until

pytestmark = pytest.mark.django_db

EXPIRY = "loyalty.expire_points"
HEARTBEAT = "loyalty_site.heartbeat"
TODAY = datetime(2026, 3, 10, tzinfo=UTC)
LEADERS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND (classid::bigint << 32 | objid::bigint) = %s "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def scheduler_of(celery_app=app):
    with broker() as client:
        client.flushdb()
    scheduler = LeaderScheduler(app=celery_app, max_interval=1)
    # A beat that another test ended may hold the lead for a moment longer.
    wait_until(scheduler.leadership.acquire)
    return scheduler


@pytest.fixture
def scheduler():
    scheduler = scheduler_of()
    yield scheduler
    scheduler.close()


def only(name, **changes):
    """Leave one entry in the schedule, changed without a trace."""
    PeriodicTask.objects.exclude(name=name).delete()
    PeriodicTask.objects.filter(name=name).update(**changes)
    return PeriodicTask.objects.get(name=name)


def ticked(scheduler, moment):
    with time_machine.travel(moment, tick=False):
        scheduler.tick()
    return queued()


def jobs_of(*apps):
    return sorted(job.task for job in JOBS if job.task.startswith(apps))


def logged(caplog, event):
    return [record.msg for record in caplog.records if isinstance(record.msg, dict) and record.msg["event"] == event]


@pytest.mark.parametrize("hour", range(2, 24))
def test_a_night_missed_while_beat_was_down_is_run_when_it_starts(scheduler, hour):
    only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))

    assert ticked(scheduler, TODAY.replace(hour=hour, minute=30)) == [EXPIRY]


def test_a_missed_job_is_run_once(scheduler):
    only(EXPIRY, last_run_at=TODAY - timedelta(days=5, hours=22))

    ticked(scheduler, TODAY.replace(hour=7))

    assert ticked(scheduler, TODAY.replace(hour=8)) == [EXPIRY]
    entry = PeriodicTask.objects.get(name=EXPIRY)
    assert (entry.last_run_at, entry.total_run_count) == (TODAY.replace(hour=7), 1)


def test_before_its_time_nothing_is_sent(scheduler):
    only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))

    assert ticked(scheduler, TODAY.replace(hour=1, minute=59)) == []


def test_a_new_entry_waits_for_its_time_and_then_runs(scheduler):
    only(EXPIRY, last_run_at=None, date_changed=TODAY.replace(hour=14))

    assert ticked(scheduler, TODAY.replace(hour=14, minute=1)) == []
    assert ticked(scheduler, TODAY + timedelta(days=1, hours=1)) == []
    assert ticked(scheduler, TODAY + timedelta(days=1, hours=2)) == [EXPIRY]


def test_a_new_entry_whose_first_night_was_missed_runs_late(scheduler):
    only(EXPIRY, last_run_at=None, date_changed=TODAY.replace(hour=14))

    assert ticked(scheduler, TODAY + timedelta(days=1, hours=7)) == [EXPIRY]


def test_an_entry_switched_off_and_on_again_waits_for_its_next_time(scheduler):
    entry = only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))
    with time_machine.travel(TODAY.replace(hour=1), tick=False):
        entry.enabled = False
        entry.save()
    switched_off = ticked(scheduler, TODAY.replace(hour=3))
    with time_machine.travel(TODAY.replace(hour=10), tick=False):
        entry.enabled = True
        entry.save()

    assert switched_off == []
    assert ticked(scheduler, TODAY.replace(hour=11)) == []
    assert ticked(scheduler, TODAY + timedelta(days=1, hours=2)) == [EXPIRY]


def test_all_that_is_due_goes_out_in_one_tick(scheduler):
    PeriodicTask.objects.update(last_run_at=TODAY - timedelta(hours=22))

    ticked(scheduler, TODAY.replace(hour=7))

    assert sorted(queued()) == jobs_of("loyalty.", "loyalty_site.")
    assert queued("notifications") == ["notifications.send_messages"]
    assert sorted(queued("wallet")) == jobs_of("wallet.")


@pytest.mark.parametrize(
    ("seconds_ago", "wait"), [(59.75, 0.25), (10, 1.0)], ids=["until the next job", "at most the interval"]
)
def test_how_long_beat_sleeps(scheduler, seconds_ago, wait):
    only(HEARTBEAT, last_run_at=TODAY - timedelta(seconds=seconds_ago))

    with time_machine.travel(TODAY, tick=False):
        assert scheduler.tick() == pytest.approx(wait, abs=0.01)


def test_a_message_carries_its_expiry_and_where_it_came_from(scheduler):
    only(HEARTBEAT, last_run_at=TODAY - timedelta(hours=1))

    scheduler.tick()

    with broker() as client:
        message = client.lindex("default", 0).decode()
    assert '"periodic_task_name": "loyalty_site.heartbeat"' in message
    assert '"expires": null' not in message


@pytest.mark.parametrize("local_time", ["1:30", "2:30", "3:00"])
@pytest.mark.parametrize(
    ("zone", "day_before"),
    [
        ("America/New_York", "2026-03-07"),
        ("America/New_York", "2026-10-31"),
        ("Europe/Luxembourg", "2026-03-28"),
        ("Europe/Luxembourg", "2026-10-24"),
    ],
)
def test_a_daily_job_runs_once_a_day_when_the_clocks_change(scheduler, zone, day_before, local_time):
    hour, minute = local_time.split(":")
    crontab = CrontabSchedule.objects.create(hour=hour, minute=minute, timezone=zone)
    evening = datetime.fromisoformat(f"{day_before}T23:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    only(EXPIRY, crontab=crontab, last_run_at=evening - timedelta(hours=20))

    runs: Counter[str] = Counter()
    for half_hour in range(2 * 48):
        moment = evening + timedelta(minutes=30 * half_hour)
        with time_machine.travel(moment, tick=False), broker() as client:
            scheduler.tick()
            runs[moment.astimezone(ZoneInfo(zone)).date().isoformat()] += len(queued())
            client.flushdb()

    assert sorted(runs.values()) == [0, 1, 1]


def test_a_new_time_counts_at_the_next_tick(scheduler):
    only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))
    before = ticked(scheduler, TODAY.replace(hour=1))

    CrontabSchedule.objects.filter(hour="2").update(hour="0")

    assert before == []
    assert ticked(scheduler, TODAY.replace(hour=1)) == [EXPIRY]


def test_what_staff_edit_while_beat_sends_is_not_overwritten(scheduler):
    only(HEARTBEAT, last_run_at=TODAY)
    sent = next(scheduler.schedule[HEARTBEAT])
    other_time = CrontabSchedule.objects.create(hour="5", minute="10")
    edited = {"crontab": other_time, "interval": None, "description": "edited", "expire_seconds": 7, "queue": "slow"}
    PeriodicTask.objects.filter(name=HEARTBEAT).update(**edited)
    before = PeriodicTask.objects.values().get(name=HEARTBEAT)

    sent.save()

    after = PeriodicTask.objects.values().get(name=HEARTBEAT)
    assert {field for field in after if after[field] != before[field]} == {"last_run_at", "total_run_count"}
    assert after["total_run_count"] == 1


def test_what_staff_switch_off_while_beat_sends_keeps_no_last_run(scheduler):
    only(HEARTBEAT, last_run_at=TODAY)
    sent = next(scheduler.schedule[HEARTBEAT])
    PeriodicTask.objects.filter(name=HEARTBEAT).update(enabled=False, last_run_at=None)

    sent.save()

    entry = PeriodicTask.objects.get(name=HEARTBEAT)
    assert (entry.enabled, entry.last_run_at, entry.total_run_count) == (False, None, 0)


def test_a_last_run_in_the_future_is_put_right_and_logged(scheduler, caplog):
    only(EXPIRY, last_run_at=TODAY + timedelta(days=400))

    sent = ticked(scheduler, TODAY.replace(hour=1))

    assert sent == []
    assert PeriodicTask.objects.get(name=EXPIRY).last_run_at == TODAY.replace(hour=1)
    [event] = logged(caplog, "loyalty_site.last_run_repaired")
    assert (event["job"], event["was"]) == (EXPIRY, "2027-04-14T00:00:00+00:00")
    assert ticked(scheduler, TODAY.replace(hour=2)) == [EXPIRY]


def test_an_entry_made_by_a_clock_that_was_ahead_runs_too(scheduler, caplog):
    only(EXPIRY, last_run_at=None, date_changed=TODAY + timedelta(days=400))

    assert ticked(scheduler, TODAY.replace(hour=1)) == []
    assert logged(caplog, "loyalty_site.last_run_repaired")
    assert ticked(scheduler, TODAY.replace(hour=2)) == [EXPIRY]


def test_a_job_for_one_time_is_sent_once_and_switched_off(scheduler):
    once = ClockedSchedule.objects.create(clocked_time=TODAY)
    PeriodicTask.objects.all().delete()
    PeriodicTask.objects.create(name="once", task=HEARTBEAT, clocked=once, one_off=True, description="kept")

    for minute in range(3):
        ticked(scheduler, TODAY + timedelta(minutes=minute))

    entry = PeriodicTask.objects.get(name="once")
    assert queued() == [HEARTBEAT]
    assert (entry.enabled, entry.total_run_count, entry.last_run_at, entry.description) == (False, 0, None, "kept")


def test_an_unreadable_time_stops_only_its_own_entry(scheduler, caplog):
    PeriodicTask.objects.exclude(name__in=[EXPIRY, HEARTBEAT]).delete()
    PeriodicTask.objects.update(last_run_at=TODAY - timedelta(days=2))
    CrontabSchedule.objects.filter(hour="2").update(hour="99")

    assert ticked(scheduler, TODAY.replace(hour=7)) == [HEARTBEAT]
    assert logged(caplog, "loyalty_site.schedule_refused")[0]["job"] == EXPIRY


def test_a_time_that_never_comes_stops_only_its_own_entry(scheduler, caplog):
    PeriodicTask.objects.exclude(name__in=[EXPIRY, HEARTBEAT]).delete()
    PeriodicTask.objects.update(last_run_at=TODAY - timedelta(days=2))
    beyond_all_calendars = IntervalSchedule.objects.create(every=900_000_000, period="days")
    PeriodicTask.objects.filter(name=EXPIRY).update(crontab=None, interval=beyond_all_calendars)

    assert ticked(scheduler, TODAY.replace(hour=7)) == [HEARTBEAT]
    assert logged(caplog, "loyalty_site.schedule_refused")[0]["job"] == EXPIRY


def test_arguments_that_are_no_json_switch_their_own_entry_off(scheduler):
    PeriodicTask.objects.exclude(name__in=[EXPIRY, HEARTBEAT]).delete()
    PeriodicTask.objects.update(last_run_at=TODAY - timedelta(days=2))
    PeriodicTask.objects.filter(name=EXPIRY).update(args="[", description="kept")

    assert ticked(scheduler, TODAY.replace(hour=7)) == [HEARTBEAT]
    entry = PeriodicTask.objects.get(name=EXPIRY)
    assert (entry.enabled, entry.description) == (False, "kept")


def test_a_job_that_cannot_be_sent_holds_up_no_other(scheduler, caplog):
    PeriodicTask.objects.exclude(name__in=[EXPIRY, HEARTBEAT]).delete()
    PeriodicTask.objects.update(last_run_at=TODAY - timedelta(days=2))
    PeriodicTask.objects.filter(name=EXPIRY).update(kwargs='["not a mapping"]')

    for minute in range(3):
        ticked(scheduler, TODAY.replace(hour=7, minute=minute))

    assert queued() == [HEARTBEAT] * 3
    assert [event["job"] for event in logged(caplog, "loyalty_site.job_refused")] == [EXPIRY]


def test_only_one_of_two_beats_sends(scheduler):
    PeriodicTask.objects.update(last_run_at=TODAY - timedelta(days=2))
    other = LeaderScheduler(app=app, max_interval=1)

    assert other.tick() == 1
    assert queued() == []

    scheduler.close()
    wait_until_nobody_leads()
    other.tick()
    other.close()
    assert sorted(queued()) == jobs_of("loyalty.", "loyalty_site.")


def test_what_one_beat_sent_is_not_sent_by_its_successor(scheduler):
    only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))
    successor = LeaderScheduler(app=app, max_interval=1)
    ticked(successor, TODAY.replace(hour=1))
    ticked(scheduler, TODAY.replace(hour=2, minute=1))
    scheduler.close()
    wait_until_nobody_leads()

    sent = ticked(successor, TODAY.replace(hour=2, minute=2))
    successor.close()

    assert sent == [EXPIRY]


def test_a_beat_that_lost_its_connection_sends_nothing_until_it_leads_again(scheduler, caplog):
    only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))
    terminate_leader()
    assert not scheduler.leadership.confirm()
    with other_leader():
        assert ticked(scheduler, TODAY.replace(hour=7)) == []

    assert ticked(scheduler, TODAY.replace(hour=7)) == [EXPIRY]
    assert len(logged(caplog, "loyalty_site.leadership_lost")) == 1


def test_the_lead_is_checked_before_each_job(scheduler, monkeypatch):
    PeriodicTask.objects.update(last_run_at=TODAY - timedelta(days=2))
    send = scheduler.apply_async

    def send_then_fall(*arguments, **options):
        send(*arguments, **options)
        terminate_leader()

    monkeypatch.setattr(scheduler, "apply_async", send_then_fall)
    ticked(scheduler, TODAY.replace(hour=7))

    assert len(queued() + queued("notifications")) == 1


def test_a_request_to_end_waits_until_what_was_sent_is_written_down(scheduler, monkeypatch):
    only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))
    send = scheduler.apply_async
    written = []

    def send_and_be_asked_to_end(*arguments, **options):
        send(*arguments, **options)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def end(*_):
        written.append(PeriodicTask.objects.get(name=EXPIRY).total_run_count)

    monkeypatch.setattr(scheduler, "apply_async", send_and_be_asked_to_end)
    before = signal.signal(signal.SIGTERM, end)
    try:
        ticked(scheduler, TODAY.replace(hour=7))
    finally:
        signal.signal(signal.SIGTERM, before)

    assert written == [1]


def test_a_job_stays_due_while_the_broker_is_away_and_another_beat_may_try(scheduler, caplog):
    entry = only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))
    without_broker = Celery("elsewhere", broker="redis://127.0.0.1:1/0", set_as_current=False)
    scheduler.close()
    cut_off = scheduler_of(without_broker)

    ticked(cut_off, TODAY.replace(hour=7))

    assert [event["job"] for event in logged(caplog, "loyalty_site.job_delayed")] == [EXPIRY]
    before = entry.last_run_at
    entry.refresh_from_db()
    assert (entry.last_run_at, entry.total_run_count) == (before, 0)
    assert ticked(scheduler, TODAY.replace(hour=7, minute=1)) == [EXPIRY]
    cut_off.close()


def test_a_broker_that_goes_away_while_beat_sends_delays_the_job_too(scheduler):
    only(HEARTBEAT, last_run_at=TODAY - timedelta(hours=1))
    ticked(scheduler, TODAY)
    scheduler.connection.close()
    scheduler.connection.switch("redis://127.0.0.1:1/0")

    ticked(scheduler, TODAY + timedelta(minutes=1))
    delayed = queued()
    ticked(scheduler, TODAY + timedelta(minutes=2))

    assert delayed == [HEARTBEAT]
    assert queued() == [HEARTBEAT] * 2


def test_the_banner_needs_no_database():
    assert LeaderScheduler(app=app, lazy=True).info == ""


@pytest.mark.django_db(transaction=True)
def test_a_cut_connection_costs_one_tick_at_most(scheduler, caplog):
    PeriodicTask.objects.exclude(name=HEARTBEAT).delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [[pid]] = cursor.fetchall()
    with direct() as session:
        assert session.execute("SELECT pg_terminate_backend(%s, 10000)", [pid]).fetchone() == (True,)

    waits = [scheduler.tick() for _ in range(2)]

    assert all(0 <= wait <= 1 for wait in waits)
    assert PeriodicTask.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_table_that_cannot_be_read_is_logged_and_waited_for(scheduler, caplog):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_celery_beat_periodictask RENAME TO elsewhere")
    try:
        assert scheduler.tick() == 1
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO django_celery_beat_periodictask")

    assert logged(caplog, "loyalty_site.beat_database_lost")
    only(EXPIRY, last_run_at=TODAY - timedelta(hours=22))
    assert ticked(scheduler, TODAY.replace(hour=7)) == [EXPIRY]


def test_a_database_that_does_not_answer_is_logged_and_waited_for(caplog, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "PORT", 1)
    scheduler = LeaderScheduler(app=app, max_interval=1)

    assert scheduler.tick() == 1
    assert "port 1 failed: Connection refused" in logged(caplog, "loyalty_site.beat_database_lost")[0]["reason"]


def direct() -> psycopg.Connection:
    return psycopg.connect(**connection.get_connection_params(), autocommit=True)


def terminate_leader() -> None:
    with direct() as session:
        terminated = session.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' "
            "AND (classid::bigint << 32 | objid::bigint) = %s AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())",
            [LOCK_KEY],
        ).fetchall()
    assert terminated == [(True,)]


@contextmanager
def other_leader() -> Iterator[None]:
    with direct() as session:
        assert session.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone() == (True,)
        yield
    wait_until_nobody_leads()


def wait_until_nobody_leads() -> None:
    """A server notices a little later that a connection was closed, and keeps its lock for that long."""
    with direct() as session:
        wait_until(lambda: session.execute(LEADERS, [LOCK_KEY]).fetchone() == (0,))


def test_an_interval_staff_chose_counts(scheduler):
    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    only(HEARTBEAT, interval=hourly, last_run_at=TODAY)

    assert ticked(scheduler, TODAY + timedelta(minutes=59)) == []
    assert ticked(scheduler, TODAY + timedelta(minutes=60)) == [HEARTBEAT]


def test_a_beat_says_once_that_it_waits_and_again_after_it_has_led(scheduler, caplog):
    other = Leadership()
    before = len(logged(caplog, "loyalty_site.leadership_awaited"))

    def said():
        return len(logged(caplog, "loyalty_site.leadership_awaited")) - before

    try:
        assert [other.acquire(), other.acquire(), said()] == [False, False, 1]
        terminate(other)
        assert [other.acquire(), other.acquire(), said()] == [False, False, 1]
        scheduler.leadership.release()
        wait_until(other.acquire)
        other.release()
        wait_until(scheduler.leadership.acquire)
        assert [other.acquire(), said()] == [False, 2]
    finally:
        other.release()


def terminate(leadership):
    """Cut the connection of a beat that waits."""
    with direct() as session:
        session.execute("SELECT pg_terminate_backend(%s, 10000)", [leadership._session.info.backend_pid])
