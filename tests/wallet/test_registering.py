"""Phones that register are told of what they may have missed, and of nothing else."""

from datetime import timedelta

import pytest

from tests.factories import NOON, days, give, make_card
from tests.wallet import dispatching
from tests.wallet.rows import make_pass
from wallet.models import Pass, Registration
from wallet.services import claiming, issuing, registering

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
PHONES = ["a1" * 32, "b2" * 32]


@pytest.fixture
def card(apple_credential):
    return make_card(points=10)


@pytest.fixture
def downloaded(card):
    """A pass that a phone took at NOON, and has not registered yet."""
    issuing.hand_out(card=card, at=NOON)
    return Pass.objects.get()


def register(wallet_pass, phone=PHONES[0], *, at):
    return registering.register(wallet_pass=wallet_pass, device=phone[:8], push_token=phone, at=at)


def test_a_phone_that_registers_after_a_change_is_told_of_it(downloaded, card):
    give(card, 5, at=NOON)
    assert dispatching.dispatch(at=NOON + MINUTE) == set()

    register(downloaded, at=NOON + 2 * MINUTE)

    assert dispatching.dispatch(at=NOON + 3 * MINUTE) == {PHONES[0]}
    assert dispatching.dispatch(at=NOON + 4 * MINUTE) == set()


def test_a_phone_that_registers_before_any_change_is_told_of_nothing(downloaded):
    register(downloaded, at=NOON + MINUTE)

    assert dispatching.dispatch(at=NOON + 2 * MINUTE) == set()


def test_a_phone_that_registers_between_claim_and_end_of_a_run_is_told(downloaded, card):
    give(card, 5, at=NOON)
    taken = dispatching.claim(at=NOON + MINUTE)
    pushed = dispatching.phones_of(taken)
    register(downloaded, at=NOON + MINUTE)
    claiming.settle(taken, at=NOON + MINUTE)

    assert pushed == set()
    assert dispatching.dispatch(at=NOON + 2 * MINUTE) == {PHONES[0]}


def test_a_phone_that_is_known_is_told_of_nothing_twice(downloaded, card):
    register(downloaded, at=NOON)
    give(card, 5, at=NOON)
    dispatching.dispatch(at=NOON + MINUTE)

    assert register(downloaded, at=NOON + 2 * MINUTE) is False
    assert dispatching.dispatch(at=NOON + 3 * MINUTE) == set()


def test_a_change_of_long_ago_was_in_the_download(downloaded, card):
    give(card, 5, at=NOON)
    dispatching.dispatch(at=NOON + MINUTE)

    register(downloaded, at=NOON + days(2))

    assert dispatching.dispatch(at=NOON + days(2) + MINUTE) == set()


def test_each_phone_of_a_pass_is_told(downloaded, card):
    for phone in PHONES:
        register(downloaded, phone, at=NOON)
    give(card, 5, at=NOON)

    assert dispatching.dispatch(at=NOON + MINUTE) == set(PHONES)


def test_who_came_or_renewed_last_stays(downloaded):
    for number in range(registering.DEVICES_PER_PASS):
        register(downloaded, f"{number:064}"[::-1], at=NOON + number * MINUTE)
    first, second = Registration.objects.order_by("registered_at").values_list("push_token", flat=True)[:2]
    register(downloaded, first, at=NOON + days(1))

    register(downloaded, PHONES[0], at=NOON + days(1))

    left = set(Registration.objects.values_list("push_token", flat=True))
    assert len(left) == registering.DEVICES_PER_PASS
    assert {first, PHONES[0]} <= left
    assert second not in left


def test_changes_of_other_phones_and_types_are_not_listed(downloaded, card):
    other = make_pass(issued_under="pass.example.other", update_seq=1)
    register(downloaded, at=NOON)
    register(other, at=NOON)

    found = registering.changes_for(device=PHONES[0][:8], pass_type=downloaded.issued_under, since="")

    assert found == registering.Changes([downloaded.identifier], "0")
    assert registering.changes_for(device="other", pass_type=downloaded.issued_under, since="") is None
