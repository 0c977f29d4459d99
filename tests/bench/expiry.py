"""Set-based expiry against a per-card ORM loop with the same guarantees, side by side: `make bench-expiry`.

Both expire the same 20,000 due cards of 100,000, on fresh copies of one database, taking turns; the medians of five
runs each are compared. Ends with exit code 1 below the goal.
"""

import argparse
import os
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
os.environ["LOG_LEVEL"] = "ERROR"

import django

django.setup()

from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from loyalty.models import CardBalance, ExpirationRun, Transaction
from loyalty.services import expiration
from notifications.models import Message
from tests import factories
from tests.loyalty.oracle import expire_points_per_card

GOAL = 20
LAST_ACTIVITY = datetime(2026, 1, 5, 12, tzinfo=UTC)
WARNED = LAST_ACTIVITY + timedelta(days=166)
NIGHT = LAST_ACTIVITY + timedelta(days=182)


def set_based() -> None:
    expiration.expire_points(as_of=NIGHT, at=timezone.now(), trigger=ExpirationRun.Trigger.COMMAND)


def per_card() -> None:
    run = ExpirationRun.objects.create(trigger=ExpirationRun.Trigger.COMMAND, as_of=NIGHT, started_at=timezone.now())
    expire_points_per_card(NIGHT, run)


def prepare(due: int, others: int) -> None:
    """Fill the template: due cards, warned in time, among cards that are not due."""
    call_command("migrate", verbosity=0)
    merchants = [factories.make_merchant() for _ in range(10)]
    for merchant in merchants:
        factories.make_cards(merchant, due // 10, at=LAST_ACTIVITY)
    CardBalance.objects.update(
        last_expiration_warning_at=WARNED, expiration_warned_for=(LAST_ACTIVITY + timedelta(days=180)).date()
    )
    for merchant in merchants:
        for _ in range(10):
            factories.make_cards(merchant, others // 100, at=NIGHT - timedelta(days=30))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def use(name: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = name


def timed(way: object, template: str) -> float:
    """Seconds that one way takes on a fresh copy."""
    use("postgres")
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS bench_run")
        cursor.execute(f"CREATE DATABASE bench_run TEMPLATE {template}")
    use("bench_run")
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    began = time.perf_counter()
    way()  # type: ignore[operator]
    return time.perf_counter() - began


def proved(due: int) -> None:
    """The run that was just timed did the whole job."""
    assert Transaction.objects.filter(type="POINTS_EXPIRED").count() == due
    assert Message.objects.filter(kind="loyalty_points_expired").count() == due
    assert CardBalance.objects.filter(points_balance=0).count() == due


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--due", type=int, default=20_000)
    parser.add_argument("--others", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set-based-only", action="store_true", help="for tuning")
    arguments = parser.parse_args()
    prepare(arguments.due, arguments.others)
    template = connection.settings_dict["NAME"]
    ways = {"set-based": set_based, "per card": per_card}
    if arguments.set_based_only:
        del ways["per card"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way, template))
            proved(arguments.due)
            print(f"round {number + 1}  {name:<10} {seconds[name][-1]:7.2f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        each = median / arguments.due * 1e6
        print(f"{name:<10} median {median:7.3f} s  {1e6 / each:9,.0f} cards/s  {each:7.0f} us/card")
    print(f"load average {os.getloadavg()[0]:.1f}")
    if arguments.set_based_only:
        return 0
    ratio = medians["per card"] / medians["set-based"]
    print(f"set-based is {ratio:.1f} times as fast (goal: {GOAL})")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
