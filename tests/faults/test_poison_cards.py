"""A card that is broken in the database costs the others nothing."""

import pgtrigger
import pytest

from loyalty.models import Card, CardBalance, Transaction
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_cards, make_merchant
from tests.loyalty.runs import counts, expire, row_of

pytestmark = pytest.mark.django_db(transaction=True)
WARNED, GONE = NOON + days(166), NOON + days(181)


@pytest.fixture
def cards():
    return make_cards(make_merchant(), 12, points=10)


def poison(card: Card) -> None:
    """Give the card points that its ledger does not know."""
    with pgtrigger.ignore():
        CardBalance.objects.filter(card=card).update(points_balance=11)


def poison_one_card_of_each_chunk(cards: list[Card]) -> list[int]:
    poisoned = [cards[0], cards[6], cards[11]]
    for card in poisoned:
        poison(card)
    return [card.pk for card in poisoned]


@pytest.mark.parametrize("batch_size", [1, 4, 500])
def test_poisoned_cards_are_named_and_the_others_expire(cards, batch_size):
    expire(WARNED)
    poisoned = poison_one_card_of_each_chunk(cards)

    report = expire(GONE, batch_size=batch_size)

    assert (report.status, report.failed_card_ids, counts(report)) == ("partial", poisoned, (9, 90, 0))
    run = row_of(report)
    assert (run.status, run.failed, run.failed_card_ids) == ("partial", 3, poisoned)
    assert (run.cards_expired, run.points_expired) == (9, 90)
    assert Transaction.objects.filter(type="POINTS_EXPIRED").count() == 9
    assert Message.objects.filter(kind="loyalty_points_expired").count() == 9
    assert [balance_of(card).points_balance for card in cards] == [11, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 11]


def test_poisoned_cards_are_named_again_each_night_and_nothing_else_happens(cards):
    expire(WARNED)
    poisoned = poison_one_card_of_each_chunk(cards)
    expire(GONE)

    again = expire(GONE + days(1))

    assert (again.status, again.failed_card_ids, counts(again)) == ("partial", poisoned, (0, 0, 0))


def test_a_card_that_is_put_right_expires_the_next_night(cards):
    expire(WARNED)
    poison(cards[3])
    expire(GONE)
    with pgtrigger.ignore():
        CardBalance.objects.filter(card=cards[3]).update(points_balance=10)

    report = expire(GONE + days(1))

    assert (report.status, counts(report)) == ("succeeded", (1, 10, 0))


def test_poisoned_cards_do_not_stop_warnings_either(cards):
    poison(cards[3])

    report = expire(WARNED, batch_size=5)

    healthy = [card for card in cards if card != cards[3]]
    assert all(balance_of(card).last_expiration_warning_at == WARNED for card in healthy)
    assert row_of(report).warnings == report.tally.warnings
    assert Message.objects.filter(kind="loyalty_points_expiring").count() == report.tally.warnings
    assert report.tally.warnings + len(report.failed_card_ids) == 12
