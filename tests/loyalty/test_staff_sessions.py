import hashlib
from typing import Any

import pytest
from django.db import transaction

from loyalty.errors import StaffMemberNotFound, StaffPinsDisabled, StaffSessionNotFound
from loyalty.models import Merchant, Program, StaffMember, StaffSession, Store
from loyalty.services import staff
from tests.factories import NOON, days, make_merchant, make_store
from tests.hashers import COMPARISONS, CountingArgon2
from tests.loyalty.staff_members import PIN, WRONG, add, change, lets_in, lock, refused, reset, sign_in, state

pytestmark = pytest.mark.django_db
MINUTE = days(1) / 1440


@pytest.fixture
def store() -> Store:
    return make_store()


@pytest.fixture
def comparisons(tmp_path, monkeypatch):
    """How many PINs were really compared so far."""
    file = tmp_path / "comparisons"
    file.touch()
    monkeypatch.setenv(COMPARISONS, str(file))
    return lambda: file.stat().st_size


def test_a_right_pin_opens_a_session_for_one_shift(store, settings):
    member = add(store.merchant)
    settings.LOYALTY_STAFF_SESSION_HOURS = 9

    opened = sign_in(store, member)

    session = StaffSession.objects.get()
    assert session == opened.staff_session
    assert (session.staff_member, session.store, session.created_at) == (member, store, NOON)
    assert session.expires_at == NOON + days(9 / 24)
    assert session.token_hash == hashlib.sha256(opened.token.encode()).hexdigest()
    assert len(opened.token) > 43
    assert opened.token not in repr(opened)


def test_each_wrong_pin_tells_how_many_are_left_and_the_fifth_locks(store):
    member = add(store.merchant)

    told = [refused(store, member).details["attempts_left"] for _ in range(5)]

    assert told == [4, 3, 2, 1, 0]
    assert state(member) == (5, NOON + 30 * MINUTE)


def test_a_locked_staff_member_is_told_for_how_long(store):
    member = add(store.merchant)
    lock(store, member)

    refusal = refused(store, member, at=NOON + 10.5 * MINUTE)

    assert refusal.code == "pin_locked"
    assert refusal.details == {"locked_until": "2026-03-02T12:30:00+00:00", "retry_after_seconds": 1170}
    assert "Try again in 20 minutes" in refusal.sentence
    assert "Try again in a minute" in refused(store, member, at=NOON + 29.5 * MINUTE).sentence


def test_during_a_lock_the_right_pin_is_refused_without_comparing(store, comparisons):
    member = add(store.merchant)
    lock(store, member)
    assert comparisons() == 5

    for pin in (PIN, WRONG):
        assert refused(store, member, pin, at=NOON + 29.9 * MINUTE).code == "pin_locked"

    assert comparisons() == 5
    assert state(member) == (5, NOON + 30 * MINUTE)
    assert not StaffSession.objects.exists()


def test_a_lock_holds_on_all_devices_and_for_nobody_else(store):
    member, colleague = add(store.merchant), add(store.merchant)
    lock(store, member)

    assert refused(make_store(store.merchant), member, PIN).code == "pin_locked"
    assert lets_in(store, colleague)


def test_after_a_lock_wrong_pins_are_counted_anew(store):
    member = add(store.merchant)
    lock(store, member)
    over = NOON + 30 * MINUTE

    assert refused(store, member, at=over).details == {"attempts_left": 4}
    assert state(member) == (1, None)
    assert lets_in(store, member, at=over)
    lock(store, member, at=over)
    assert state(member) == (5, over + 30 * MINUTE)


def test_the_right_pin_ends_the_count(store):
    member = add(store.merchant)
    for _ in range(4):
        refused(store, member)

    sign_in(store, member)

    assert state(member) == (0, None)
    assert refused(store, member).details == {"attempts_left": 4}


def test_the_last_attempt_may_be_right(store):
    member = add(store.merchant)
    for _ in range(4):
        refused(store, member)

    assert lets_in(store, member)
    assert state(member) == (0, None)


def test_the_program_says_how_many_may_be_wrong_and_for_how_long_that_locks(store):
    Program.objects.update(pin_attempts=2, pin_lock_minutes=5)
    member = add(store.merchant)

    assert [refused(store, member).details["attempts_left"] for _ in range(2)] == [1, 0]

    assert state(member) == (2, NOON + 5 * MINUTE)


@pytest.mark.parametrize("attempts", [3, 9])
def test_another_number_of_attempts_counts_from_the_next_one(attempts, store):
    member = add(store.merchant)
    for _ in range(4):
        refused(store, member)
    Program.objects.update(pin_attempts=attempts)

    assert refused(store, member).details == {"attempts_left": max(0, attempts - 5)}

    assert (state(member)[1] is None) is (attempts == 9)


def test_more_attempts_do_not_open_a_lock(store):
    member = add(store.merchant)
    lock(store, member)
    Program.objects.update(pin_attempts=9)

    assert refused(store, member, PIN).code == "pin_locked"


@pytest.mark.parametrize("pin", ["", "7304181", " 730418", "٧٣٠٤١٨", "7\00418", "730\udcff", "9" * 100_000])
def test_what_is_no_pin_is_a_wrong_one(pin, store):
    member = add(store.merchant)

    assert refused(store, member, pin).details == {"attempts_left": 4}


def test_who_has_no_pin_yet_does_not_sign_in(store):
    member = StaffMember.objects.create(merchant=store.merchant, display_name="Bea")

    for pin in ("", PIN):
        assert refused(store, member, pin).code == "invalid_pin"


@pytest.mark.parametrize("who", ["unknown", "far away", "foreign", "switched off", "of another store"])
def test_who_does_not_work_here_is_unknown_and_nothing_is_counted(who, store):
    members = {
        "unknown": StaffMember(pk=0),
        "far away": StaffMember(pk=10**30),
        "foreign": add(make_merchant()),
        "switched off": change(add(store.merchant), is_active=False),
        "of another store": add(store.merchant, stores=[make_store(store.merchant)]),
    }

    for pin in (PIN, WRONG):
        with pytest.raises(StaffMemberNotFound) as refusal:
            sign_in(store, members[who], pin)
        assert (refusal.value.sentence, refusal.value.details) == ("This staff member is not known here.", {})
    assert not StaffMember.objects.filter(failed_attempts__gt=0).exists()
    assert not StaffSession.objects.exists()


def test_who_is_assigned_to_stores_works_in_each_of_them_and_nowhere_else(store):
    second, third = make_store(store.merchant), make_store(store.merchant)
    member = add(store.merchant, stores=[store, second])

    assert lets_in(store, member)
    assert lets_in(second, member)
    with pytest.raises(StaffMemberNotFound):
        sign_in(third, member)


def test_a_program_may_do_without_pins(store):
    member = add(store.merchant)
    Program.objects.update(staff_pin_policy="disabled")

    for pin in (PIN, WRONG):
        with pytest.raises(StaffPinsDisabled):
            sign_in(Store.objects.get(pk=store.pk), member, pin)
    assert state(member) == (0, None)


def test_a_merchant_without_a_program_has_no_pins():
    merchant = Merchant.objects.create(name="New", slug="new", currency="EUR")

    with pytest.raises(StaffPinsDisabled):
        sign_in(make_store(merchant), add(merchant))


def test_a_session_is_not_opened_inside_a_transaction_that_could_take_the_count_back(store):
    member = add(store.merchant)

    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        sign_in(store, member)


def test_an_attempt_counts_when_the_comparison_dies(store, monkeypatch):
    member = add(store.merchant)

    def die() -> None:
        raise MemoryError

    monkeypatch.setattr(CountingArgon2, "meanwhile", die)
    with pytest.raises(MemoryError):
        sign_in(store, member)

    assert state(member) == (1, None)


@pytest.mark.parametrize("happens", [reset, lambda member: change(member, is_active=False)])
def test_a_pin_that_ends_while_it_is_compared_opens_nothing(happens, store, monkeypatch):
    member = add(store.merchant)

    monkeypatch.setattr(CountingArgon2, "meanwhile", lambda: happens(member))

    assert refused(store, member, PIN).code == "invalid_pin"
    assert not StaffSession.objects.exists()


def test_a_closed_session_is_over(store):
    member = add(store.merchant)
    token = sign_in(store, member).token
    kept = sign_in(store, member).staff_session

    staff.close_session(store=store, token=token, at=NOON + MINUTE)

    over, other = StaffSession.objects.order_by("pk")
    assert (over.expires_at, other.expires_at) == (NOON + MINUTE, kept.expires_at)
    with pytest.raises(StaffSessionNotFound):
        staff.close_session(store=store, token=token, at=NOON + MINUTE)


@pytest.mark.parametrize("wrong", ["token", "store", "at"])
def test_a_session_that_is_not_there_is_not_closed(wrong, store):
    token = sign_in(store, add(store.merchant)).token
    asked: dict[str, Any] = {"store": store, "token": token, "at": NOON}
    others: dict[str, Any] = {"store": make_store(store.merchant), "token": "x", "at": NOON + days(1)}

    with pytest.raises(StaffSessionNotFound):
        staff.close_session(**{**asked, wrong: others[wrong]})

    assert StaffSession.objects.get().expires_at == NOON + days(0.5)
