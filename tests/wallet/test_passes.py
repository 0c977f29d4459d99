"""Passes that are told again by hand."""

import pytest

from loyalty.errors import CardNotFound
from tests.factories import NOON, days, make_card, make_merchant
from tests.wallet.rows import make_failing_pass, make_pass
from wallet.models import Pass
from wallet.services.passes import sync_again, sync_cards_again

pytestmark = pytest.mark.django_db


def due() -> set[int]:
    return set(Pass.objects.due(NOON).values_list("pk", flat=True))


def test_a_pass_that_is_put_off_is_due_at_once_and_told_whatever_it_shows():
    failing = make_failing_pass(next_attempt_at=NOON + days(1), attempts=4, tried_version=99, tried_look=99)
    assert due() == set()

    assert sync_again(passes=Pass.objects.filter(pk=failing.pk), at=NOON) == 1

    failing.refresh_from_db()
    assert due() == {failing.pk}
    assert (failing.content_hash, failing.attempts, failing.last_error_code, failing.last_error) == ("", 0, "", "")


def test_a_pass_that_was_given_up_is_taken_up_again():
    dead = make_failing_pass(dead_at=NOON, next_attempt_at=None, tried_version=99, tried_look=99)
    assert due() == set()

    assert sync_again(passes=Pass.objects.all(), at=NOON) == 1
    assert due() == {dead.pk}


def test_passes_that_no_phone_has_are_left_alone():
    make_pass(platform="google", saved=False)
    make_pass(status=Pass.Status.REMOVED)

    assert sync_again(passes=Pass.objects.all(), at=NOON) == 0
    assert due() == set()


def test_all_passes_of_a_merchant_are_told_and_no_others():
    merchant = make_merchant()
    own = {make_pass(make_card(merchant)).pk for _ in range(2)}
    make_pass()

    assert sync_cards_again(merchant=merchant, card_ids=None, at=NOON) == 2
    assert due() == own


def test_passes_of_some_cards_are_told():
    merchant = make_merchant()
    card, _ = make_card(merchant), make_pass(make_card(merchant))
    both = {make_pass(card).pk, make_pass(card, platform="google").pk}

    assert sync_cards_again(merchant=merchant, card_ids=[card.pk], at=NOON) == 2
    assert due() == both


def test_a_card_of_another_merchant_is_not_known_and_nothing_is_told():
    merchant = make_merchant()
    own, foreign = make_pass(make_card(merchant)), make_pass()

    with pytest.raises(CardNotFound):
        sync_cards_again(merchant=merchant, card_ids=[own.card_id, foreign.card_id], at=NOON)
    assert due() == set()
