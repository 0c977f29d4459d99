from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError

from loyalty.errors import (
    BelowMinimumPurchase,
    CardNotActive,
    CardNotFound,
    CardOfAnotherStore,
    DailyLimitReached,
    DuplicateReceipt,
    InvalidAmount,
    InvalidInput,
    MomentNotAccepted,
    ReceiptRequired,
)
from loyalty.models import Card, Merchant, Program, ReceiptClaim, StaffMember, Store, Transaction
from loyalty.models.money import MAX_AMOUNT_MINOR
from loyalty.services import adjustments, earning, redeeming
from tests.factories import NOON, balance_of, days, give, make_card, make_merchant, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db


def make_till(*, timezone: str = "UTC", currency: str = "EUR", **program) -> tuple[Store, Card]:
    merchant = make_merchant(timezone=timezone, currency=currency, **program)
    return make_store(merchant), make_card(merchant)


def earn(store: Store, card: Card, amount_minor: int = 1000, *, at: datetime = NOON, **sale) -> Transaction:
    return earning.earn(store=store, card_id=card.pk, amount_minor=amount_minor, at=at, **sale)


@pytest.mark.parametrize(
    ("currency", "rate", "amount_minor", "points"),
    [
        ("EUR", "1", 1299, 12),
        ("EUR", "1", 99, 0),
        ("EUR", "1", 0, 0),
        ("EUR", "100", 435, 435),
        ("EUR", "100", 115, 115),
        ("EUR", "0.1", 9999, 9),
        ("EUR", "1.5", 333, 4),
        ("EUR", "0.3333", 300, 0),
        ("EUR", "0.3334", 300, 1),
        ("EUR", "0", 10_000, 0),
        ("JPY", "0.01", 1299, 12),
        ("JPY", "1", 1299, 1299),
        ("KWD", "10", 4350, 43),
        ("KWD", "1000", 4351, 4351),
    ],
)
def test_a_purchase_earns_the_exact_product_floored_once(currency, rate, amount_minor, points):
    store, card = make_till(currency=currency, points_per_unit=Decimal(rate))

    assert earn(store, card, amount_minor).points_delta == points


def test_a_sale_is_one_row_that_tells_all_about_it():
    store, card = make_till()
    staff = StaffMember.objects.create(merchant=store.merchant, display_name="Kim")

    returned = earn(store, card, 1299, receipt_number="R1", staff_member=staff, actor="till 3")

    row = Transaction.objects.get(pk=returned.pk)
    assert (row.type, row.seq, row.points_delta, row.points_balance_after) == ("POINTS_EARNED", 2, 12, 12)
    assert (row.amount_minor, row.points_per_unit, row.receipt_number) == (1299, Decimal(1), "R1")
    assert (row.store, row.staff_member, row.actor, row.merchant) == (store, staff, "till 3", store.merchant)
    assert (row.transaction_at, row.created_at, row.details) == (NOON, NOON, {})
    assert not returned._state.adding


def test_the_balance_moves_with_the_row():
    store, card = make_till()
    before = balance_of(card)

    earn(store, card, 1299, at=NOON + days(3))

    after = balance_of(card)
    assert (after.points_balance, after.lifetime_points_earned, after.last_seq) == (12, 12, before.last_seq + 1)
    assert after.version == before.version + 1
    assert after.last_activity_at == after.changed_at == NOON + days(3)


def test_a_sale_worth_nothing_is_a_row_and_an_activity():
    store, card = make_till()

    earn(store, card, 50, at=NOON + days(3))

    assert Transaction.objects.filter(card=card, type="POINTS_EARNED", points_delta=0).exists()
    assert balance_of(card).last_activity_at == NOON + days(3)


@pytest.mark.parametrize("amount_minor", [-1, MAX_AMOUNT_MINOR + 1])
def test_an_amount_that_no_sale_has_is_refused(amount_minor):
    store, card = make_till()

    with pytest.raises(InvalidAmount):
        earn(store, card, amount_minor)


def test_a_sale_worth_more_than_a_card_can_hold_is_refused():
    store, card = make_till(points_per_unit=Decimal(999_999))

    with pytest.raises(InvalidInput, match="at most 2,000,000,000"):
        earn(store, card, MAX_AMOUNT_MINOR)

    assert balance_of(card).points_balance == 0


@pytest.mark.parametrize(("amount_minor", "refused"), [(999, True), (1000, False), (0, True)])
def test_a_minimum_purchase_holds_from_its_amount_on(amount_minor, refused):
    store, card = make_till(minimum_purchase_minor=1000)

    if refused:
        with pytest.raises(BelowMinimumPurchase, match=r"€10\.00"):
            earn(store, card, amount_minor)
    else:
        earn(store, card, amount_minor)

    assert Transaction.objects.filter(type="POINTS_EARNED").exists() is not refused


@pytest.mark.parametrize(("cap", "points"), [(None, 10), (10, 10), (9, 9), (0, 0)])
def test_a_cap_limits_the_points_of_one_sale(cap, points):
    store, card = make_till(max_points_per_transaction=cap)

    assert earn(store, card, 1000).points_delta == points


# --- receipts


def test_the_same_receipt_earns_once():
    store, card = make_till()
    earn(store, card, receipt_number="R1")

    with pytest.raises(DuplicateReceipt, match="R1"):
        earn(store, card, receipt_number="R1")

    assert balance_of(card).points_balance == 10
    assert Transaction.objects.filter(type="POINTS_EARNED").count() == ReceiptClaim.objects.count() == 1


def test_the_same_receipt_does_not_earn_on_another_card():
    store, card = make_till()
    other = make_card(store.merchant)
    earn(store, card, receipt_number="R1")

    with pytest.raises(DuplicateReceipt):
        earn(store, other, receipt_number="R1")


@pytest.mark.django_db(transaction=True)
def test_a_broken_rule_that_is_no_repeated_receipt_is_not_hidden():
    store, card = make_till()
    gone = Store(pk=987_654_321, merchant=store.merchant)

    with pytest.raises(IntegrityError, match="store"):
        earn(gone, card, receipt_number="R1")

    assert balance_of(card).points_balance == 0


def test_another_store_may_use_the_same_receipt_number():
    store, card = make_till()
    earn(store, card, receipt_number="R1")

    assert earn(make_store(store.merchant), card, receipt_number="R1").points_delta == 10


def test_sales_without_a_receipt_number_are_never_the_same():
    store, card = make_till()

    assert earn(store, card).pk != earn(store, card).pk
    assert not ReceiptClaim.objects.exists()


def test_a_program_may_require_a_receipt_number():
    store, card = make_till(require_receipt_number=True)

    with pytest.raises(ReceiptRequired):
        earn(store, card)

    assert earn(store, card, receipt_number="R1").receipt_number == "R1"


@pytest.mark.django_db(transaction=True)
def test_of_many_tills_with_the_same_receipt_one_earns():
    store, card = make_till()
    cards = [card, make_card(store.merchant)]
    earned, refused = [], []

    def ring_up(number: int) -> None:
        try:
            earned.append(earn(store, cards[number % 2], receipt_number="R1"))
        except DuplicateReceipt:
            refused.append(number)

    in_parallel(ring_up, 6)

    assert (len(earned), len(refused)) == (1, 5)
    assert sum(balance_of(card).points_balance for card in cards) == 10


@pytest.mark.django_db(transaction=True)
def test_tills_that_ring_up_at_once_all_count():
    store, card = make_till(max_daily_earns=20)

    def ring_up(number: int) -> None:
        try:
            for _ in range(4):
                earn(store, card, 100)
        except DailyLimitReached:
            pass

    in_parallel(ring_up, 8)

    assert balance_of(card).points_balance == 20
    assert Transaction.objects.filter(type="POINTS_EARNED").count() == 20


# --- daily limit


def test_a_daily_limit_counts_sales_of_the_local_day():
    store, card = make_till(timezone="America/Los_Angeles", max_daily_earns=2)
    evening = datetime(2026, 3, 3, 7, 30, tzinfo=UTC)  # 23:30 on the 2nd
    earn(store, card, at=evening)
    earn(store, card, at=evening + timedelta(minutes=29))

    with pytest.raises(DailyLimitReached) as refused:
        earn(store, card, at=evening + timedelta(minutes=29, seconds=59))

    assert refused.value.details == {"limit": 2, "retry_after_seconds": 1}
    assert earn(store, card, at=evening + timedelta(minutes=30)).points_delta == 10


def test_a_daily_limit_of_a_day_with_25_hours_covers_all_of_them():
    store, card = make_till(timezone="Europe/Luxembourg", max_daily_earns=1)
    earn(store, card, at=datetime(2026, 10, 24, 22, 0, tzinfo=UTC))

    with pytest.raises(DailyLimitReached):
        earn(store, card, at=datetime(2026, 10, 25, 22, 59, tzinfo=UTC))

    earn(store, card, at=datetime(2026, 10, 25, 23, 0, tzinfo=UTC))


def test_an_offline_sale_counts_for_its_own_day():
    store, card = make_till(max_daily_earns=1)
    earn(store, card)

    earn(store, card, transaction_at=NOON - days(1))

    with pytest.raises(DailyLimitReached):
        earn(store, card, transaction_at=NOON - days(1))


def test_a_daily_limit_of_none_is_no_limit_and_of_zero_stops_everything():
    store, card = make_till(max_daily_earns=None)
    for _ in range(3):
        earn(store, card)
    Program.objects.update(max_daily_earns=0)

    with pytest.raises(DailyLimitReached):
        earn(store, card)


# --- which card, where, when


@pytest.mark.parametrize("status", ["suspended", "closed", "merged", "erased"])
def test_only_an_active_card_earns(status):
    store, card = make_till()
    target = make_card(store.merchant) if status == "merged" else None
    Card.objects.filter(pk=card.pk).update(status=status, merged_into=target)

    with pytest.raises(CardNotActive) as refused:
        earn(store, card)

    assert refused.value.details == {"status": status}


@pytest.mark.parametrize("model", [Merchant, Program])
def test_nothing_is_earned_while_the_program_is_switched_off(model):
    store, card = make_till()
    model.objects.update(is_active=False)

    with pytest.raises(CardNotActive, match="switched off"):
        earn(store, card)


def test_a_card_of_another_merchant_is_as_unknown_as_one_that_is_not_there():
    store, _ = make_till()
    foreign = make_card()

    with pytest.raises(CardNotFound) as of_another:
        earn(store, foreign)
    with pytest.raises(CardNotFound) as not_there:
        earning.earn(store=store, card_id=987_654_321, amount_minor=1, at=NOON)

    assert of_another.value.sentence == not_there.value.sentence


def test_cards_work_in_every_store_of_the_merchant_unless_that_is_switched_off():
    store, card = make_till()
    Card.objects.filter(pk=card.pk).update(enrolled_at_store=make_store(store.merchant))
    earn(store, card)
    Program.objects.update(allow_cross_store=False)

    with pytest.raises(CardOfAnotherStore):
        earn(store, card)

    Card.objects.filter(pk=card.pk).update(enrolled_at_store=store)
    earn(store, card)


@pytest.mark.parametrize(
    ("ago", "accepted"),
    [
        (timedelta(hours=72), True),
        (timedelta(hours=72, seconds=1), False),
        (timedelta(minutes=-5), True),
        (timedelta(minutes=-5, seconds=-1), False),
    ],
)
def test_an_offline_sale_is_accepted_for_72_hours_and_5_minutes_ahead(ago, accepted):
    store, card = make_till()

    if accepted:
        assert earn(store, card, transaction_at=NOON - ago).transaction_at == NOON - ago
    else:
        with pytest.raises(MomentNotAccepted):
            earn(store, card, transaction_at=NOON - ago)


# --- what a sale does to the cycle


def test_an_activity_begins_a_new_cycle():
    store, card = make_till()
    earn(store, card)
    assert expire(NOON + days(166)).tally.warnings == 1

    earn(store, card, at=NOON + days(167))

    balance = balance_of(card)
    assert balance.last_activity_at == NOON + days(167)
    assert (balance.last_expiration_warning_at, balance.expiration_warned_for) == (None, None)


def test_an_older_offline_sale_leaves_the_cycle_alone():
    store, card = make_till()
    earn(store, card, at=NOON + days(2))
    expire(NOON + days(168))
    before = balance_of(card)

    earn(store, card, at=NOON + days(4), transaction_at=NOON + days(1))

    after = balance_of(card)
    assert after.points_balance == before.points_balance + 10
    assert after.last_activity_at == NOON + days(2)
    assert after.last_expiration_warning_at == before.last_expiration_warning_at is not None
    assert after.expiration_warned_for == before.expiration_warned_for


def test_an_offline_sale_from_before_the_expiry_begins_a_cycle_at_its_own_moment():
    store, card = make_till(points_expiration_days=30)
    earn(store, card)
    expire(NOON + days(16))
    assert expire(NOON + days(31)).tally.cards_expired == 1

    earn(store, card, at=NOON + days(31), transaction_at=NOON + days(30))

    balance = balance_of(card)
    assert (balance.points_balance, balance.last_activity_at) == (10, NOON + days(30))
    assert balance.expiration_warned_for is None


def test_an_offline_sale_of_the_expired_cycle_is_not_taken_the_same_night():
    store, card = make_till(points_expiration_days=1, expiration_warning_days=0)
    earn(store, card)
    expire(NOON + days(1))
    assert expire(NOON + days(2)).tally.cards_expired == 1

    earn(store, card, at=NOON + days(2), transaction_at=NOON - timedelta(hours=1))

    assert balance_of(card).last_activity_at == NOON + days(2)
    assert expire(NOON + days(2)).tally.cards_expired == 0
    assert expire(NOON + days(3)).tally.warnings == 1
    assert expire(NOON + days(4)).tally.cards_expired == 1


def test_an_older_offline_sale_does_not_revive_a_card_that_was_redeemed_empty():
    store, card = make_till(points_expiration_days=30)
    earn(store, card)
    expire(NOON + days(16))
    expire(NOON + days(31))
    earn(store, card, at=NOON + days(40))
    redeeming.redeem_points(store=store, card_id=card.pk, points=10, at=NOON + days(41))

    earn(store, card, at=NOON + days(42), transaction_at=NOON + days(40))

    assert balance_of(card).last_activity_at == NOON + days(41)


def test_an_older_offline_sale_on_a_card_adjusted_to_nothing_leaves_the_cycle_alone():
    store, card = make_till()
    earn(store, card, at=NOON + days(2))
    adjustments.adjust(
        merchant=store.merchant, card_id=card.pk, points=-10, reason="Wrong card", actor="kim", at=NOON + days(3)
    )

    earn(store, card, at=NOON + days(4), transaction_at=NOON + days(1))

    assert balance_of(card).last_activity_at == NOON + days(2)


def test_points_are_added_to_those_that_are_there():
    store, card = make_till()
    give(card, 1_999_999_990, at=NOON)

    assert earn(store, card, 1000).points_balance_after == 2_000_000_000
    with pytest.raises(InvalidInput):
        earn(store, card, 100)
