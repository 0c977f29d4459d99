import threading
from decimal import Decimal

import pytest
from django.db import connection, transaction

from loyalty.errors import CardNotFound
from loyalty.models import Card, CardBalance, Transaction, TransactionType
from loyalty.services import ledger
from loyalty.services.ledger import Move
from tests.factories import NOON, balance_of, days, make_card, make_cards, make_merchant, make_store

pytestmark = pytest.mark.django_db


@pytest.fixture
def card():
    return make_card(points=100)


def lock(card: Card) -> Card:
    return ledger.lock(card.pk, merchant=card.program.merchant)


def test_a_lock_reads_everything_that_the_rules_need_in_one_statement(card, django_assert_num_queries):
    with django_assert_num_queries(1):
        locked = lock(card)
        told = (locked.balance.points_balance, locked.customer.email, locked.program.points_per_unit)
        zone = locked.program.merchant.zone.key

    assert (told, zone) == ((100, card.customer.email, Decimal(1)), "UTC")


def test_what_a_lock_returns_equals_what_the_database_holds(card):
    locked = lock(card)

    for row in (locked, locked.balance, locked.customer, locked.program, locked.program.merchant):
        fresh = type(row)._default_manager.get(pk=row.pk)
        for field in row._meta.concrete_fields:
            assert getattr(row, field.attname) == getattr(fresh, field.attname), field
        assert row._state.adding is False
    assert locked.balance.card is locked


def test_cards_of_other_merchants_cannot_be_locked(card):
    with pytest.raises(CardNotFound):
        ledger.lock(card.pk, merchant=make_merchant())


def test_a_locked_card_can_be_saved(card):
    locked = lock(card)
    locked.status = Card.Status.SUSPENDED

    locked.save(update_fields=["status"])

    assert Card.objects.get().status == "suspended"


@pytest.mark.django_db(transaction=True)
def test_a_lock_that_was_waited_for_returns_the_card_as_it_is_after_the_wait():
    card = make_card(points=100)
    waits, found = threading.Event(), []

    def look() -> None:
        try:
            with transaction.atomic():
                waits.set()
                locked = lock(card)
                found.append((locked.balance.points_balance, locked.balance.last_seq, locked.status))
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    with transaction.atomic():
        locked = lock(card)
        thread.start()
        waits.wait()
        wait_for_a_blocked_session()
        ledger.post(locked, Move(type=TransactionType.BALANCE_IMPORTED, points=5, transaction_at=NOON), at=NOON)
        Card.objects.update(status="suspended")
    thread.join(30)

    assert found == [(105, 3, "suspended")]


def wait_for_a_blocked_session() -> None:
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits for the lock")


def test_a_move_is_written_by_one_statement(card, django_assert_num_queries):
    store = make_store(card.program.merchant)
    locked = lock(card)
    move = Move(
        type=TransactionType.POINTS_EARNED,
        points=7,
        amount_minor=700,
        store=store,
        receipt_number="R1",
        transaction_at=NOON,
        details={"campaign": 1, "note": "5 € & \"more\" 'quotes' %s"},
    )

    with django_assert_num_queries(1):
        posted = ledger.post(locked, move, at=NOON + days(1))

    written = Transaction.objects.get(pk=posted.pk)
    for field in Transaction._meta.concrete_fields:
        assert getattr(written, field.attname) == getattr(posted, field.attname), field
    assert written.receipt_claim.receipt_number == "R1"


def test_the_balance_in_memory_is_the_one_that_was_written(card):
    locked = lock(card)

    ledger.post(locked, Move(type=TransactionType.POINTS_REDEEMED, points=-40, transaction_at=NOON), at=NOON + days(1))

    written = balance_of(card)
    for field in CardBalance._meta.concrete_fields:
        assert getattr(written, field.attname) == getattr(locked.balance, field.attname), field
    assert (written.points_balance, written.lifetime_points_redeemed) == (60, 40)


def test_moves_follow_each_other_on_one_lock(card):
    locked = lock(card)

    for points in (1, 2, 3):
        move = Move(type=TransactionType.BALANCE_IMPORTED, points=points, transaction_at=NOON)
        ledger.post(locked, move, at=NOON)

    rows = Transaction.objects.filter(card=card).order_by("seq").values_list("seq", "points_balance_after")
    assert list(rows) == [(1, 0), (2, 100), (3, 101), (4, 103), (5, 106)]


@pytest.mark.parametrize(
    ("type_", "points", "stamps", "counts"),
    [
        ("CARD_CREATED", 0, 0, True),
        ("WELCOME_BONUS", 1, 0, True),
        ("POINTS_EARNED", 0, 0, True),
        ("POINTS_REDEEMED", -1, 0, True),
        ("STAMP_EARNED", 0, 1, True),
        ("STAMP_REDEEMED", 0, -1, True),
        ("POINTS_VOIDED", -1, 0, False),
        ("STAMP_VOIDED", 0, -1, False),
        ("REDEMPTION_VOIDED", 1, 0, True),
        ("POINTS_EXPIRED", -1, 0, False),
        ("ADMIN_ADJUSTMENT", 1, 0, True),
        ("ADMIN_ADJUSTMENT", -1, 0, False),
        ("BALANCE_IMPORTED", 1, 0, True),
        ("MERGE_OUT", -1, 0, False),
        ("MERGE_IN", 1, 0, False),
        ("CARD_DEACTIVATED", 0, 0, False),
        ("CARD_REACTIVATED", 0, 0, False),
    ],
)
def test_what_counts_as_an_activity(type_, points, stamps, counts):
    move = Move(type=TransactionType(type_), points=points, stamps=stamps, transaction_at=NOON)

    assert move.counts_as_activity is counts


def test_many_cards_begin_with_few_statements(django_assert_max_num_queries):
    merchant = make_merchant()

    with django_assert_max_num_queries(8):
        make_cards(merchant, 200, points=5)

    assert CardBalance.objects.filter(points_balance=5, last_seq=2, version=2).count() == 200
