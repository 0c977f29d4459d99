from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from loyalty.errors import InvalidInput
from loyalty.models import CardBalance, Merchant, Transaction, TransactionType
from loyalty.models.transaction import ERASED, NO_POINTS
from loyalty.services import adjustments, earning, merging, redeeming, reports, restoring, reversing
from loyalty.services.reports import DayOfAccounting
from loyalty.services.reports.accounting import COLUMNS
from tests.factories import NOON, days, give, make_card, make_cards, make_merchant, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db

TODAY = NOON.date()
BY: dict[str, Any] = {"reason": "Because", "actor": "ana"}


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


def liability(merchant, as_of=TODAY, at=NOON) -> reports.Liability:
    return reports.liability(merchant=merchant, as_of=as_of, at=at)


def account(merchant, first=TODAY, last=TODAY, at=NOON) -> list[DayOfAccounting]:
    accounting = reports.points_accounting(merchant=merchant, first=first, last=last, at=at)
    assert accounting.difference == 0
    assert (accounting.opening, accounting.closing) == (accounting.days[0].opening, accounting.days[-1].closing)
    return accounting.days


def moved(line: DayOfAccounting) -> dict[str, int]:
    """The columns of a day in which something is."""
    aside = {"day", "opening", "closing", "difference"}
    return {name: points for name, points in asdict(line).items() if points and name not in aside}


# --- liability


def test_todays_liability_is_what_the_cards_hold():
    merchant = make_merchant(point_value_minor=3, currency="JPY")
    make_cards(merchant, 3, points=100)
    make_card(merchant)
    make_card(points=7)

    assert liability(merchant) == reports.Liability(
        as_of=TODAY,
        points=300,
        cards_with_points=3,
        stamps=0,
        point_value_minor=3,
        value_minor=900,
        currency="JPY",
    )


def test_an_earlier_liability_knows_nothing_of_what_came_later():
    store = make_store()
    card = make_card(store.merchant, points=100, at=NOON - days(9))
    redeeming.redeem_points(store=store, card_id=card.pk, points=100, at=NOON - days(5))
    earning.earn(store=store, card_id=card.pk, amount_minor=4000, at=NOON - days(2))
    adjustments.adjust(merchant=store.merchant, card_id=card.pk, points=0, stamps=3, at=NOON - days(2), **BY)

    held = [liability(store.merchant, day(-number)) for number in (10, 9, 6, 5, 3, 2, 0)]

    assert [line.points for line in held] == [0, 100, 100, 0, 0, 40, 40]
    assert [line.cards_with_points for line in held] == [0, 1, 1, 0, 0, 1, 1]
    assert [line.stamps for line in held] == [0, 0, 0, 0, 0, 3, 3]


def test_a_day_ends_at_midnight_in_the_shop():
    merchant = make_merchant(timezone="America/New_York")
    midnight = datetime(2026, 2, 1, 5, tzinfo=UTC)
    make_card(merchant, points=50, at=midnight - timedelta(minutes=30))
    make_card(merchant, points=7, at=midnight)

    assert [liability(merchant, date(2026, *local)).points for local in [(1, 30), (1, 31), (2, 1)]] == [0, 50, 57]


def test_a_merchant_without_a_program_owes_nothing():
    merchant = Merchant.objects.create(name="New", slug="new", currency="EUR")

    assert (liability(merchant).points, liability(merchant).value_minor) == (0, 0)


@pytest.mark.parametrize("as_of", [day(1), date(1969, 12, 31), date.min, date.max])
def test_what_is_not_known_is_refused(as_of):
    with pytest.raises(InvalidInput) as refusal:
        liability(make_merchant(), as_of)

    assert refusal.value.details == {"field": "as_of"}


# --- accounting


def test_each_movement_has_its_column():
    store = make_store(make_merchant(welcome_bonus_points=10, kind="hybrid"))
    merchant = store.merchant
    card, other = make_card(merchant, at=NOON - days(300)), make_card(merchant, at=NOON - days(299))
    sold = earning.earn(store=store, card_id=card.pk, amount_minor=10_000, at=NOON - days(298))
    give(card, 200, at=NOON - days(297))
    adjustments.adjust(merchant=merchant, card_id=card.pk, points=5, at=NOON - days(296), **BY)
    adjustments.adjust(merchant=merchant, card_id=card.pk, points=-3, at=NOON - days(295), **BY)
    redeemed = redeeming.redeem_points(store=store, card_id=card.pk, points=40, at=NOON - days(294))
    back: dict[str, Any] = {"store": None, "merchant": merchant, **BY}
    reversing.void(transaction_id=redeemed.pk, at=NOON - days(293), **back)
    reversing.refund(transaction_id=sold.pk, amount_minor=2500, at=NOON - days(292), **back)
    reversing.void(transaction_id=sold.pk, at=NOON - days(291), **back)
    merging.merge_cards(merchant=merchant, source_id=card.pk, target_id=other.pk, at=NOON - days(290), **BY)
    expire(NOON - days(20))
    expire(NOON - days(5))
    restoring.restore_points(merchant=merchant, card_id=other.pk, points=150, at=NOON - days(4), **BY)
    restoring.restore_points(merchant=merchant, card_id=other.pk, points=50, at=NOON - days(3), **BY)

    listed = account(merchant, day(-301), TODAY)

    assert {(line.day - TODAY).days: moved(line) for line in listed if moved(line)} == {
        -300: {"welcome_bonus": 10},
        -299: {"welcome_bonus": 10},
        -298: {"earned": 100},
        -297: {"imported": 200},
        -296: {"adjusted_up": 5},
        -295: {"adjusted_down": -3},
        -294: {"redeemed": -40},
        -293: {"redemption_voided": 40},
        -292: {"voided": -25},
        -291: {"voided": -75},
        -290: {"merged_in": 212, "merged_out": -212},
        -5: {"expired": -222},
        -4: {"restored": 150},
        -3: {"restored": 50},
    }
    assert [(line.opening, line.closing) for line in listed[:4]] == [(0, 0), (0, 10), (10, 20), (20, 120)]
    assert listed[-1].closing == 200


def test_every_type_that_moves_points_has_a_column():
    assert set(TransactionType) - set(NO_POINTS) == {*COLUMNS, TransactionType.ADMIN_ADJUSTMENT}


def test_days_open_as_the_day_before_closed_and_close_on_the_liability():
    store = make_store()
    card = make_card(store.merchant, points=100, at=NOON - days(9))
    for number in (8, 5, 2, 0):
        earning.earn(store=store, card_id=card.pk, amount_minor=1000, at=NOON - days(number))

    listed = account(store.merchant, day(-7), day(-1))

    assert [line.opening for line in listed] == [110, 110, 110, 120, 120, 120, 130]
    assert [line.closing for line in listed] == [liability(store.merchant, line.day).points for line in listed]


def test_a_late_sale_counts_on_the_day_on_which_it_was_written():
    store = make_store()
    card = make_card(store.merchant, at=NOON - days(9))
    earning.earn(store=store, card_id=card.pk, amount_minor=1000, at=NOON, transaction_at=NOON - days(2))

    assert [line.earned for line in account(store.merchant, day(-2), TODAY)] == [0, 0, 10]


def test_a_day_of_accounting_is_a_day_in_the_shop():
    store = make_store(make_merchant(timezone="America/New_York"))
    card = make_card(store.merchant, at=datetime(2026, 1, 15, 12, tzinfo=UTC))
    at_half_past_eleven = datetime(2026, 2, 1, 4, 30, tzinfo=UTC)
    earning.earn(store=store, card_id=card.pk, amount_minor=1000, at=at_half_past_eleven)
    earning.earn(store=store, card_id=card.pk, amount_minor=500, at=at_half_past_eleven + timedelta(minutes=30))

    listed = account(store.merchant, date(2026, 1, 31), date(2026, 2, 1))

    assert [line.earned for line in listed] == [10, 5]


def test_days_without_23_or_with_25_hours_are_whole_days():
    store = make_store(make_merchant(timezone="America/New_York"))
    card = make_card(store.merchant, at=NOON)
    for moment in (
        datetime(2026, 3, 8, 5, 30, tzinfo=UTC),  # 00:30 before the clocks go forward
        datetime(2026, 3, 9, 3, 30, tzinfo=UTC),  # 23:30 after it
        datetime(2026, 11, 1, 4, 30, tzinfo=UTC),  # 00:30 before they go back
        datetime(2026, 11, 2, 4, 30, tzinfo=UTC),  # 23:30 after it
    ):
        earning.earn(store=store, card_id=card.pk, amount_minor=1000, at=moment)

    listed = account(store.merchant, date(2026, 3, 7), date(2026, 11, 3), at=datetime(2026, 12, 1, tzinfo=UTC))

    assert {line.day: line.earned for line in listed if line.earned} == {date(2026, 3, 8): 20, date(2026, 11, 1): 20}


def test_an_erasure_leaves_what_was_restored_where_it_was():
    card = make_card(points=300, at=NOON - days(200))
    merchant = card.program.merchant
    expire(NOON - days(20))
    expire(NOON - days(3))
    row = restoring.restore_points(merchant=merchant, card_id=card.pk, points=100, at=NOON, **BY).transaction
    before = account(merchant)
    assert moved(before[0]) == {"restored": 100}

    Transaction.objects.filter(pk=row.pk).update(details=ERASED, reason=ERASED)

    assert account(merchant) == before


def test_other_merchants_are_in_books_of_their_own():
    make_card(points=70)

    [line] = account(make_merchant())

    assert (line.opening, moved(line), line.closing) == (0, {}, 0)


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [
        (day(-366), TODAY, "last"),
        (TODAY, day(-1), "last"),
        (TODAY, day(1), "last"),
        (date.min, TODAY, "first"),
        (TODAY, date.max, "last"),
    ],
)
def test_impossible_days_are_refused(first, last, field):
    with pytest.raises(InvalidInput) as refusal:
        account(make_merchant(), first, last)

    assert refusal.value.details == {"field": field}


def test_a_leap_year_fits():
    assert len(account(make_merchant(), day(-365), TODAY)) == 366


# --- breakage


def breakage(merchant, first, last) -> reports.Breakage:
    return reports.breakage(merchant=merchant, first=first, last=last)


def test_breakage_is_what_expired_of_what_was_issued():
    store = make_store(make_merchant(welcome_bonus_points=50))
    merchant = store.merchant
    lazy = make_card(merchant, points=150, at=NOON - days(200))
    sold = earning.earn(store=store, card_id=lazy.pk, amount_minor=10_000, at=NOON - days(200))
    reversing.void(store=store, merchant=merchant, transaction_id=sold.pk, at=NOON - days(199), **BY)
    keen = make_card(merchant, points=150, at=NOON - days(40))
    redeeming.redeem_points(store=store, card_id=keen.pk, points=80, at=NOON - days(30))
    wrong = redeeming.redeem_points(store=store, card_id=keen.pk, points=20, at=NOON - days(30))
    reversing.void(store=store, merchant=merchant, transaction_id=wrong.pk, at=NOON - days(29), **BY)
    adjustments.adjust(merchant=merchant, card_id=keen.pk, points=100, at=NOON - days(29), **BY)
    adjustments.adjust(merchant=merchant, card_id=keen.pk, points=-60, at=NOON - days(29), **BY)
    expire(NOON - days(20))
    expire(NOON - days(3))

    total = breakage(merchant, day(-300), TODAY).total

    assert (total.issued, total.redeemed, total.expired, total.rate) == (500, 80, 200, "0.4000")


def test_points_that_were_given_back_were_not_lost():
    card = make_card(points=300, at=NOON - days(200))
    merchant = card.program.merchant
    expire(NOON - days(20))
    expire(NOON - days(3))
    restoring.restore_points(merchant=merchant, card_id=card.pk, points=240, at=NOON, **BY)

    total = breakage(merchant, day(-300), TODAY).total

    assert (total.issued, total.expired, total.rate) == (300, 60, "0.2000")


def test_breakage_comes_by_month_cut_where_the_days_begin_and_end():
    store = make_store(make_merchant(timezone="America/New_York"))
    card = make_card(store.merchant, at=datetime(2026, 1, 2, 12, tzinfo=UTC))
    for amount_minor, moment in [
        (100, datetime(2026, 1, 10, 12, tzinfo=UTC)),
        (200, datetime(2026, 2, 1, 4, 30, tzinfo=UTC)),  # 23:30 on 31 January
        (400, datetime(2026, 2, 1, 5, 30, tzinfo=UTC)),
        (800, datetime(2026, 3, 5, 12, tzinfo=UTC)),
    ]:
        earning.earn(store=store, card_id=card.pk, amount_minor=amount_minor, at=moment)

    report = breakage(store.merchant, date(2026, 1, 11), date(2026, 3, 4))

    assert [(month.first, month.last, month.issued, month.rate) for month in report.months] == [
        (date(2026, 1, 11), date(2026, 1, 31), 2, "0.0000"),
        (date(2026, 2, 1), date(2026, 2, 28), 4, "0.0000"),
        (date(2026, 3, 1), date(2026, 3, 4), 0, None),
    ]
    assert (report.total.first, report.total.last, report.total.issued) == (date(2026, 1, 11), date(2026, 3, 4), 6)


def test_five_years_of_breakage_are_enough():
    with pytest.raises(InvalidInput):
        breakage(make_merchant(), TODAY - timedelta(days=5 * 366), TODAY)


def test_the_balances_are_the_liability_of_today_in_every_zone():
    for zone in ("Pacific/Kiritimati", "Pacific/Niue"):
        merchant = make_merchant(timezone=zone)
        make_card(merchant, points=11, at=NOON)
        today = NOON.astimezone(merchant.zone).date()

        held = CardBalance.objects.get(program=merchant.program).points_balance
        assert liability(merchant, today).points == held == 11
