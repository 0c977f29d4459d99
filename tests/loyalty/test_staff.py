import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import identify_hasher
from django.core.exceptions import ImproperlyConfigured

from loyalty.errors import InvalidInput, NothingToChange, StaffMemberNotFound
from loyalty.models import StaffMember, StaffSession, Store
from loyalty.services import pins, staff
from loyalty_site import settings as product_settings
from tests.factories import NOON, days, make_merchant, make_store
from tests.hashers import CountingArgon2
from tests.loyalty.staff_members import PIN, add, change, lets_in, lock, refused, reset, sign_in, state, unlock

pytestmark = pytest.mark.django_db
NO_PINS = ["", "730", "7304187304187", "73041a", "7304 8", "-7304", "٧٣٠٤١٨"]
WEAK_PINS = ["0000", "777777", "1234", "123456", "0123", "7890", "654321", "0987"]


@pytest.fixture
def store() -> Store:
    return make_store()


def test_a_staff_member_is_added_with_a_pin_that_is_told_once(store):
    issued = staff.add_staff_member(
        merchant=store.merchant, display_name=" Bea ", role="supervisor", stores=[store], actor="ana", at=NOON
    )

    member = StaffMember.objects.get()
    assert member == issued.staff_member
    assert (member.merchant, member.display_name, member.role) == (store.merchant, "Bea", "supervisor")
    assert (list(member.stores.all()), member.is_active, state(member)) == ([store], True, (0, None))
    assert re.fullmatch("[0-9]{6}", issued.pin, re.ASCII)
    assert issued.pin not in repr(issued)
    assert lets_in(store, member, issued.pin)


def test_a_drawn_pin_has_six_digits_that_nobody_guesses_first():
    drawn = [pins.new_pin(None) for _ in range(2000)]

    assert all(re.fullmatch("[0-9]{6}", pin, re.ASCII) for pin in drawn)
    assert len(set(drawn)) > 1900
    assert {pin[0] for pin in drawn} == set("0123456789")
    assert all(pins.new_pin(pin) == pin for pin in drawn)


@pytest.mark.parametrize("pin", ["7304", "1122", "0070", "121212", "123457", "730418730418"])
def test_a_pin_can_be_chosen(pin, store):
    assert lets_in(store, add(store.merchant, pin=pin), pin)


@pytest.mark.parametrize(
    ("pin", "sentence"),
    [
        *((pin, "A PIN has 4 to 12 digits") for pin in NO_PINS),
        *((pin, "too easy to guess") for pin in WEAK_PINS),
    ],
)
def test_a_pin_that_is_none_or_that_anybody_tries_first_is_refused(pin, sentence, store):
    member = add(store.merchant)

    for give in (lambda: add(store.merchant, pin=pin), lambda: reset(member, pin=pin)):
        with pytest.raises(InvalidInput, match=sentence) as refusal:
            give()
        assert refusal.value.details == {"field": "pin"}
    assert StaffMember.objects.count() == 1
    assert lets_in(store, member)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"display_name": "  "}, "display_name"),
        ({"display_name": "x" * 81}, "display_name"),
        ({"display_name": "B\x07ea"}, "display_name"),
        ({"role": "owner"}, "role"),
        ({"stores": "foreign"}, "stores"),
    ],
)
def test_a_staff_member_that_makes_no_sense_is_refused(fields, field, store):
    if field == "stores":
        fields = {"stores": [store, make_store()]}
    member = add(store.merchant, display_name="Ana")

    for attempt in (lambda: add(store.merchant, **fields), lambda: change(member, **fields)):
        with pytest.raises(InvalidInput) as refusal:
            attempt()
        assert refusal.value.details == {"field": field}
    member = StaffMember.objects.get()
    assert (member.display_name, member.role, member.stores.count()) == ("Ana", "cashier", 0)


def test_only_what_is_given_is_changed(store):
    member = add(store.merchant, stores=[store], role="supervisor")

    change(member, display_name="Bea M.")
    changed = StaffMember.objects.get()
    assert (changed.display_name, changed.role, list(changed.stores.all())) == ("Bea M.", "supervisor", [store])

    change(member, role="manager", stores=[])
    changed = StaffMember.objects.get()
    assert (changed.display_name, changed.role, changed.stores.count()) == ("Bea M.", "manager", 0)
    assert lets_in(store, changed)


def test_who_is_switched_off_is_signed_out_and_does_not_sign_in(store):
    member, colleague = add(store.merchant), add(store.merchant)
    sign_in(store, member, at=NOON - days(1))
    sign_in(store, member)
    kept = sign_in(store, colleague).staff_session

    change(member, is_active=False)

    ends = StaffSession.objects.filter(staff_member=member).order_by("pk").values_list("expires_at", flat=True)
    assert list(ends) == [NOON - days(0.5), NOON]
    assert StaffSession.objects.get(staff_member=colleague).expires_at == kept.expires_at
    with pytest.raises(StaffMemberNotFound):
        sign_in(store, member)
    change(member, is_active=True)
    assert lets_in(store, member)


def test_a_foreign_staff_member_is_as_unknown_as_one_that_never_was(store):
    member = add(store.merchant)
    refused(store, member)
    foreign = make_merchant()
    told = set()

    for merchant, number in ((foreign, member.pk), (foreign, 0), (store.merchant, 10**30)):
        who: dict[str, Any] = {"merchant": merchant, "staff_member_id": number, "actor": "ana", "at": NOON}
        verbs: list[Callable[..., object]] = [staff.reset_pin, staff.unlock_staff_member, staff.update_staff_member]
        for verb in verbs:
            with pytest.raises(StaffMemberNotFound) as refusal:
                verb(**who)
            told.add((refusal.value.sentence, *refusal.value.details))

    assert len(told) == 1
    assert state(member)[0] == 1


def test_a_new_pin_unlocks_signs_out_and_ends_the_old_one(store):
    member = add(store.merchant)
    sign_in(store, member)
    lock(store, member)

    issued = reset(member)

    assert (issued.staff_member, state(member)) == (member, (0, None))
    assert StaffSession.objects.get().expires_at == NOON
    assert refused(store, member, PIN).code == "invalid_pin"
    assert lets_in(store, member, issued.pin)


def test_a_new_pin_can_be_chosen(store):
    member = add(store.merchant)

    assert reset(member, pin="4711").pin == "4711"

    assert lets_in(store, member, "4711")


def test_unlocking_ends_a_lock_and_the_count(store):
    member = add(store.merchant)
    lock(store, member)

    assert state(unlock(member)) == (0, None)
    assert lets_in(store, member)

    refused(store, member)
    assert state(unlock(member)) == (0, None)


def test_who_is_not_locked_is_not_unlocked(store):
    with pytest.raises(NothingToChange):
        unlock(add(store.merchant))


def test_passwords_of_users_are_hashed_with_scrypt_and_pins_with_argon2_at_its_full_cost():
    assert product_settings.PASSWORD_HASHERS == [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        "django.contrib.auth.hashers.Argon2PasswordHasher",
    ]
    assert identify_hasher(pins.hashed(1, PIN)).algorithm == "argon2"
    assert (CountingArgon2.memory_cost, CountingArgon2.time_cost) == (102400, 2)


def test_two_people_with_one_pin_do_not_show(store):
    one, other = add(store.merchant), add(store.merchant)

    StaffMember.objects.filter(pk=one.pk).update(pin_hash=other.pin_hash)

    assert one.pin_hash != other.pin_hash
    assert refused(store, one, PIN).code == "invalid_pin"


def test_without_the_pepper_the_database_gives_no_pin_away(store, settings):
    member = add(store.merchant)

    settings.PIN_PEPPER = "another"
    assert refused(store, member, PIN).code == "invalid_pin"
    settings.PIN_PEPPER = "tests-only-pepper"
    assert lets_in(store, member, PIN)


def test_nothing_is_hashed_without_a_pepper(store, settings):
    settings.PIN_PEPPER = ""

    with pytest.raises(ImproperlyConfigured, match="PIN_PEPPER"):
        add(store.merchant)
