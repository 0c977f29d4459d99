from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from loyalty_site.schedules import JOBS, install_schedules

pytestmark = pytest.mark.django_db


def installed() -> dict[str, PeriodicTask]:
    return {entry.name: entry for entry in PeriodicTask.objects.select_related("crontab", "interval")}


def run_install_schedules() -> str:
    output = StringIO()
    call_command("install_schedules", stdout=output)
    return output.getvalue()


def test_migrations_install_every_entry_switched_on():
    entries = installed()

    assert set(entries) == {job.task for job in JOBS}
    assert all(entry.enabled and entry.last_run_at is None and entry.description for entry in entries.values())
    assert all(entry.name == entry.task for entry in entries.values())


def test_expiry_runs_daily_at_two_in_utc():
    expiry = installed()["loyalty.expire_points"]

    assert (expiry.crontab.hour, expiry.crontab.minute, str(expiry.crontab.timezone)) == ("2", "0", "UTC")
    assert (expiry.crontab.day_of_month, expiry.crontab.month_of_year, expiry.crontab.day_of_week) == ("*", "*", "*")
    assert expiry.expire_seconds == 23 * 3600


@pytest.mark.parametrize(
    ("name", "period"),
    [
        ("notifications.send_messages", timedelta(seconds=15)),
        ("wallet.sync_passes", timedelta(minutes=1)),
        ("loyalty_site.heartbeat", timedelta(minutes=1)),
    ],
)
def test_an_interval_expires_after_one_period(name, period):
    entry = installed()[name]

    assert entry.interval.schedule.run_every == period
    assert entry.expire_seconds == period.total_seconds()


def test_the_ledger_is_checked_nightly():
    check = installed()["loyalty.check_ledger"]

    assert (check.crontab.hour, check.crontab.minute) == ("3", "30")


def test_nothing_cleans_up_results_that_nobody_stores():
    assert "celery.backend_cleanup" not in installed()


def test_installing_again_creates_nothing():
    assert install_schedules() == []
    assert len(installed()) == len(JOBS)


def test_a_missing_entry_is_made_again_and_named():
    PeriodicTask.objects.filter(name="loyalty_site.heartbeat").delete()

    assert install_schedules() == ["loyalty_site.heartbeat"]
    assert installed()["loyalty_site.heartbeat"].enabled


def test_an_entry_that_staff_changed_stays_as_it_is():
    at_five, _ = CrontabSchedule.objects.get_or_create(hour="5", minute="10", timezone="Europe/Luxembourg")
    PeriodicTask.objects.filter(name="loyalty.expire_points").update(
        crontab=at_five, expire_seconds=7, description="ours", enabled=False, queue="slow"
    )
    before = PeriodicTask.objects.values().get(name="loyalty.expire_points")

    install_schedules()

    assert PeriodicTask.objects.values().get(name="loyalty.expire_points") == before


def test_a_renamed_entry_does_not_come_back_beside_its_old_self():
    PeriodicTask.objects.filter(name="loyalty.expire_points").update(name="Expiry, after the cash-up")

    assert install_schedules() == []
    assert PeriodicTask.objects.filter(task="loyalty.expire_points").count() == 1


def test_two_equal_times_in_the_database_are_no_obstacle():
    PeriodicTask.objects.filter(name__in=["loyalty.expire_points", "notifications.send_messages"]).delete()
    for _ in range(2):
        CrontabSchedule.objects.create(minute="0", hour="2", timezone="UTC")
        IntervalSchedule.objects.create(every=15, period="seconds")

    assert set(install_schedules()) == {"loyalty.expire_points", "notifications.send_messages"}


def test_a_time_that_staff_moved_is_not_made_again_while_its_entry_exists():
    CrontabSchedule.objects.filter(hour="2").update(hour="4")

    install_schedules()

    assert not CrontabSchedule.objects.filter(hour="2").exists()
    assert installed()["loyalty.expire_points"].crontab.hour == "4"


def test_migrate_makes_what_is_missing():
    PeriodicTask.objects.all().delete()

    call_command("migrate", verbosity=0)

    assert set(installed()) == {job.task for job in JOBS}


@pytest.mark.django_db(transaction=True)
def test_flush_leaves_a_full_schedule():
    call_command("flush", interactive=False, verbosity=0)

    assert set(installed()) == {job.task for job in JOBS}


@pytest.mark.django_db(transaction=True)
def test_the_schedule_survives_a_migration_to_nothing_and_back():
    try:
        call_command("migrate", "django_celery_beat", "zero", verbosity=0)
    finally:
        call_command("migrate", verbosity=0)

    assert set(installed()) == {job.task for job in JOBS}


def test_the_command_says_what_it_made():
    PeriodicTask.objects.filter(name="loyalty.check_ledger").delete()

    assert run_install_schedules() == "Created loyalty.check_ledger\n"
    assert run_install_schedules() == f"All {len(JOBS)} schedule entries are there.\n"
