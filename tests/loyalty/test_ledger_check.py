"""Each kind of corruption that somebody with the rights to switch triggers off could do is found and named."""

from decimal import Decimal

import pgtrigger
import pytest
from django.db import connection

from loyalty.models import Card, Transaction
from loyalty.services import adjustments, earning, redeeming, restoring
from loyalty.services.ledger_check import NAMED_AT_MOST, Mismatch, check_ledger
from tests.factories import NOON, days, give, make_card, make_cards, make_merchant, make_store
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db


@pytest.fixture
def card():
    """A card with three rows: created, 100 points, 20 more."""
    card = make_card(points=100)
    give(card, 20, at=NOON)
    make_card(points=7)
    return card


def corrupt(statement: str, *values: object) -> None:
    with pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute(statement, [*values])  # type: ignore[list-item]
        connection.check_constraints()


def problems() -> list[tuple[int, str]]:
    return [(mismatch.card_id, mismatch.problem) for mismatch in check_ledger().mismatches]


def test_an_honest_ledger_has_no_mismatch():
    store = make_store(make_merchant(points_per_unit=Decimal(10)))
    card = make_card(store.merchant, points=500)
    earning.earn(store=store, card_id=card.pk, amount_minor=1299, at=NOON)
    redeeming.redeem_points(store=store, card_id=card.pk, points=100, at=NOON)
    adjustments.adjust(
        merchant=store.merchant, card_id=card.pk, points=-1, stamps=3, reason="Test", actor="kim", at=NOON
    )
    expire(NOON + days(166))
    expire(NOON + days(181))
    restoring.restore_points(
        merchant=store.merchant, card_id=card.pk, points=9999, reason="Sorry", actor="kim", at=NOON + days(182)
    )

    report = check_ledger()

    assert (report.cards, report.transactions, report.mismatched_cards, report.mismatches) == (1, 7, 0, [])


def test_an_empty_database_has_no_mismatch():
    assert check_ledger().mismatches == []


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE loyalty_cardbalance SET points_balance = 121 WHERE card_id = %s",
            "the balance is 121 points, the ledger adds up to 120",
        ),
        (
            "UPDATE loyalty_cardbalance SET stamp_count = 1 WHERE card_id = %s",
            "the balance is 1 stamps, the ledger adds up to 0",
        ),
        (
            "UPDATE loyalty_cardbalance SET last_seq = 4 WHERE card_id = %s",
            "the balance knows row 4 as the last, the ledger 3",
        ),
        (
            "DELETE FROM loyalty_transaction WHERE seq = 2 AND card_id = %s",
            "the balance is 120 points, the ledger adds up to 20; the ledger has 2 rows and ends at number 3; "
            "row 3 does not continue the one before it",
        ),
        (
            "DELETE FROM loyalty_transaction WHERE seq = 3 AND card_id = %s",
            "the balance is 120 points, the ledger adds up to 100; the balance knows row 3 as the last, the ledger 2",
        ),
        (
            "DELETE FROM loyalty_transaction WHERE seq = 1 AND card_id = %s",
            "the ledger has 2 rows and ends at number 3",
        ),
        (
            "UPDATE loyalty_transaction SET points_delta = points_delta + 1 WHERE seq = 2 AND card_id = %s",
            "the balance is 120 points, the ledger adds up to 121; row 2 does not continue the one before it",
        ),
        (
            "UPDATE loyalty_transaction SET points_balance_after = 99 WHERE seq = 2 AND card_id = %s",
            "row 2 does not continue the one before it",
        ),
        (
            "UPDATE loyalty_transaction SET stamps_balance_after = 1 WHERE seq = 3 AND card_id = %s",
            "row 3 does not continue the one before it",
        ),
        (
            "UPDATE loyalty_transaction SET stamps_delta = 1 WHERE seq = 3 AND card_id = %s",
            "the balance is 0 stamps, the ledger adds up to 1; row 3 does not continue the one before it",
        ),
        (
            "DELETE FROM loyalty_cardbalance WHERE card_id = %s",
            "the card has ledger rows and no balance",
        ),
        (
            "DELETE FROM loyalty_transaction WHERE card_id = %s",
            "the card has a balance and no ledger rows",
        ),
    ],
    ids=[
        "points given",
        "stamps given",
        "a row too many",
        "a row in the middle is gone",
        "the last row is gone",
        "the first row is gone",
        "a delta changed",
        "a balance in between changed",
        "stamps in between changed",
        "stamps added",
        "no balance",
        "no rows",
    ],
)
def test_a_corrupted_card_is_named_with_what_is_wrong(card, statement, problem):
    corrupt(statement, card.pk)

    assert problems() == [(card.pk, problem)]


def test_negative_balances_are_found_even_without_the_constraints(card):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE loyalty_cardbalance DROP CONSTRAINT card_points_not_negative")
    corrupt("UPDATE loyalty_cardbalance SET points_balance = -1 WHERE card_id = %s", card.pk)

    assert problems() == [(card.pk, "the balance is -1 points, the ledger adds up to 120; the balance is negative")]


def reverse(card: Card, *, of: Transaction, points: int, seq: int) -> None:
    """Write a void of a row, with the balance that goes with it."""
    balance_after = 120 + points * (seq - 3)
    corrupt(
        "INSERT INTO loyalty_transaction (card_id, merchant_id, seq, type, points_delta, stamps_delta, "
        "points_balance_after, stamps_balance_after, actor, receipt_number, reverses_id, reverses_in_full, "
        "idempotency_key, reason, details, transaction_at, created_at, client_address, client_agent) "
        "VALUES (%s, %s, %s, 'POINTS_VOIDED', %s, 0, %s, 0, 'kim', '', %s, false, '', 'Wrong', '{}', now(), now(), "
        "'', '')",
        *(card.pk, card.program.merchant_id, seq, points, balance_after, of.pk),
    )
    corrupt(
        "UPDATE loyalty_cardbalance SET points_balance = %s, last_seq = %s WHERE card_id = %s",
        *(balance_after, seq, card.pk),
    )


def test_reversals_that_take_more_than_the_row_gave_are_found(card):
    twenty = Transaction.objects.get(card=card, seq=3)

    reverse(card, of=twenty, points=-12, seq=4)
    assert problems() == []

    reverse(card, of=twenty, points=-12, seq=5)
    assert problems() == [(card.pk, "row 3 was reversed by more than it moved")]


def test_a_reversal_of_another_cards_row_is_found(card):
    foreign = Transaction.objects.exclude(card=card).get(seq=2)

    reverse(card, of=foreign, points=-1, seq=4)

    assert problems() == [(card.pk, "row 4 reverses a row of another card")]


@pytest.mark.parametrize("count", [NAMED_AT_MOST, NAMED_AT_MOST + 5])
def test_at_most_100_cards_are_named_and_all_are_counted(count):
    make_cards(make_merchant(), count, points=1)
    corrupt("UPDATE loyalty_cardbalance SET points_balance = 2")

    report = check_ledger()

    assert report.mismatched_cards == count
    assert len(report.mismatches) == NAMED_AT_MOST
    assert report.mismatches[0] == Mismatch(
        min(Card.objects.values_list("pk", flat=True)), "the balance is 2 points, the ledger adds up to 1"
    )


def test_a_card_with_two_kinds_of_trouble_counts_once(card):
    reverse(card, of=Transaction.objects.get(card=card, seq=3), points=-30, seq=4)
    corrupt("UPDATE loyalty_cardbalance SET stamp_count = 1 WHERE card_id = %s", card.pk)

    report = check_ledger()

    assert (report.mismatched_cards, len(report.mismatches)) == (1, 2)


def test_checking_writes_nothing(card):
    before = table_hashes()

    check_ledger()

    assert table_hashes() == before
