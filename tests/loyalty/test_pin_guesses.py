"""Many processes guess one PIN together. DRF's throttles let such guesses through; rows in the database do not."""

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkContext
from typing import Any

import pytest
from django.contrib.auth.hashers import get_hasher
from django.db import connections

from loyalty.errors import LoyaltyError
from loyalty.models import StaffMember, StaffSession, Store
from loyalty.services import staff
from tests.factories import NOON, days, make_store
from tests.fakes.celery_process import wait_until
from tests.hashers import COMPARISONS, CountingArgon2
from tests.loyalty.staff_members import PIN, add, lets_in, refused, state

pytestmark = pytest.mark.django_db(transaction=True)
PROCESSES, GUESSES_EACH = 20, 50


def guess(store: Store, member: StaffMember, seed: str, begin: Any, over: Any, told: Any) -> None:
    """Make so many guesses, the right PIN last of them, and go on until it is over. Runs in a process of its own."""
    chance, outcomes = random.Random(seed), Counter[str]()
    begin.wait()
    while outcomes.total() < GUESSES_EACH or not over.is_set():
        is_last = outcomes.total() == GUESSES_EACH - 1
        pin = PIN if is_last else f"{chance.randrange(int(PIN)):06}"
        outcomes[outcome(store, member, pin)] += 1
    told.put(outcomes)


def outcome(store: Store, member: StaffMember, pin: str) -> str:
    try:
        staff.open_session(store=store, staff_member_id=member.pk, pin=pin, at=NOON)
    except LoyaltyError as refusal:
        return refusal.code
    return "let_in"


@contextmanager
def crowd(store: Store, member: StaffMember, seed: int) -> Iterator[Callable[[], Counter[str]]]:
    """Processes that guess together; calling what is yielded ends them and says what became of their guesses."""
    context: ForkContext = multiprocessing.get_context("fork")
    begin, over, told = context.Barrier(PROCESSES), context.Event(), context.Queue()
    connections.close_all()  # or they would share one
    processes = [
        context.Process(target=guess, args=[store, member, f"{seed}/{number}", begin, over, told], daemon=True)
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()

    def end() -> Counter[str]:
        over.set()
        return sum((told.get(timeout=60) for _ in processes), Counter[str]())

    try:
        yield end
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_of_a_thousand_guesses_from_twenty_processes_five_are_compared(settings, tmp_path, monkeypatch):
    settings.PASSWORD_HASHERS = [settings.PASSWORD_HASHERS[0], "tests.hashers.CountingArgon2"]
    assert type(get_hasher("argon2")) is CountingArgon2
    seed = random.randrange(10**9)
    print(f"seed: {seed}")
    store = make_store()
    member, colleague = add(store.merchant), add(store.merchant)
    file = tmp_path / "comparisons"

    monkeypatch.setenv(COMPARISONS, str(file))
    with crowd(store, member, seed) as end:
        monkeypatch.delenv(COMPARISONS)
        wait_until(lambda: state(member)[0] > 0, seconds=60)
        assert lets_in(store, colleague)
        outcomes = end()

    assert file.stat().st_size == 5
    assert outcomes.total() >= PROCESSES * GUESSES_EACH
    assert outcomes == {"invalid_pin": 5, "pin_locked": outcomes.total() - 5}
    assert state(member) == (5, NOON + days(30 / 1440))
    assert not StaffSession.objects.filter(staff_member=member).exists()
    assert refused(store, member, PIN).code == "pin_locked"
    assert lets_in(store, member, at=NOON + days(30 / 1440))
