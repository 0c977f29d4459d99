from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from loyalty.errors import InvalidInput
from loyalty.models import Card, Merchant, StaffMember, Store, Transaction, TransactionType
from loyalty.models.transaction import ERASED
from loyalty.services import earning, ledger, redeeming, reports, reversing, stamps
from loyalty.services.ledger import Move
from loyalty.services.reports import Flag, Shortfall, StaffMemberActivity
from tests.factories import NOON, days, make_card, make_merchant, make_store

pytestmark = pytest.mark.django_db

TODAY = NOON.date()
BY: dict[str, Any] = {"reason": "Because", "actor": "ana"}


def make_staff(store: Store, name: str = "Bo", **fields) -> StaffMember:
    return StaffMember.objects.create(merchant=store.merchant, display_name=name, **fields)


def sell(store: Store, card: Card, staff: StaffMember, times: int = 1, *, at: datetime = NOON) -> None:
    for _ in range(times):
        earning.earn(store=store, card_id=card.pk, amount_minor=500, staff_member=staff, at=at)


def activity(merchant: Merchant, first: date = TODAY, last: date = TODAY) -> reports.StaffActivity:
    return reports.staff_activity(merchant=merchant, first=first, last=last)


def flags(merchant: Merchant, first: date = TODAY, last: date = TODAY) -> list[Flag]:
    return activity(merchant, first, last).flags


# --- activity


def test_what_each_staff_member_did_is_counted():
    store = make_store(make_merchant(kind="hybrid", stamps_target=2))
    card = make_card(store.merchant, points=100)
    ana, bo = make_staff(store, "Ana"), make_staff(store, "Bo")
    by_bo: dict[str, Any] = {"store": store, "card_id": card.pk, "staff_member": bo, "at": NOON}
    sell(store, card, ana, 2)
    sale = earning.earn(amount_minor=2000, **by_bo)
    redeemed = redeeming.redeem_points(points=10, **by_bo)
    stamps.add_stamps(count=3, **by_bo)
    stamps.redeem_stamps(**by_bo)
    for row in (sale, redeemed):
        reversing.void(store=store, merchant=store.merchant, transaction_id=row.pk, staff_member=bo, at=NOON, **BY)
    locked = ledger.lock(card.pk, merchant=store.merchant)
    adjusted = Move(type=TransactionType.ADMIN_ADJUSTMENT, points=5, staff_member=bo, transaction_at=NOON, **BY)
    ledger.post(locked, adjusted, at=NOON)
    earning.earn(store=store, card_id=card.pk, amount_minor=100, at=NOON)

    assert activity(store.merchant).members == [
        StaffMemberActivity(
            staff_member_id=ana.pk, name="Ana", earns=2, points=10, redemptions=0, voids=0, stamps=0, adjustments=0
        ),
        StaffMemberActivity(
            staff_member_id=bo.pk, name="Bo", earns=1, points=20, redemptions=2, voids=2, stamps=3, adjustments=1
        ),
    ]


def test_days_are_those_of_the_shop_and_of_the_sale():
    store = make_store(make_merchant(timezone="America/New_York"))
    card, bo = make_card(store.merchant, at=NOON - days(40)), make_staff(store)
    sell(store, card, bo, at=datetime(2026, 2, 1, 4, 30, tzinfo=UTC))  # 23:30 on 31 January
    earning.earn(
        store=store,
        card_id=card.pk,
        amount_minor=500,
        staff_member=bo,
        at=datetime(2026, 2, 2, 4, 30, tzinfo=UTC),
        transaction_at=datetime(2026, 1, 31, 4, 30, tzinfo=UTC),  # 23:30 on 30 January
    )

    def earns(day: date) -> int:
        return sum(member.earns for member in activity(store.merchant, day, day).members)

    assert [earns(date(2026, 1, day)) for day in (29, 30, 31)] == [0, 1, 1]
    assert earns(date(2026, 2, 1)) == 0


def test_staff_of_others_are_not_ours():
    store = make_store()
    sell(store, make_card(store.merchant), make_staff(store))

    assert activity(make_merchant()) == reports.StaffActivity(members=[], flags=[])


# --- flags


def test_a_card_that_earns_more_than_ten_times_a_day_with_one_staff_member_is_flagged():
    store = make_store()
    often, just = make_card(store.merchant), make_card(store.merchant)
    bo, ana = make_staff(store), make_staff(store, "Ana")
    sell(store, often, bo, 11)
    sell(store, just, bo, 10)
    for _ in range(40):
        sell(store, make_card(store.merchant), bo)
    for card in (often, just):
        sell(store, card, ana)

    assert flags(store.merchant) == [
        Flag(staff_member_id=bo.pk, card_id=often.pk, day=TODAY, count=11, reason="11 purchases on one day")
    ]


def test_eleven_earns_on_two_days_are_no_flag():
    store = make_store()
    card, bo = make_card(store.merchant, at=NOON - days(9)), make_staff(store)
    sell(store, card, bo, 6, at=NOON - days(1))
    sell(store, card, bo, 5)
    for _ in range(50):
        sell(store, make_card(store.merchant), bo)

    assert flags(store.merchant, TODAY - timedelta(days=1)) == []


def test_a_day_of_flags_is_one_in_the_shop():
    store = make_store(make_merchant(timezone="America/New_York"))
    card, bo = make_card(store.merchant, at=NOON - days(9)), make_staff(store)
    sell(store, card, bo, 6, at=datetime(2026, 3, 1, 4, 30, tzinfo=UTC))  # 23:30
    sell(store, card, bo, 6, at=datetime(2026, 3, 1, 5, 30, tzinfo=UTC))  # 00:30

    by_day = [flag for flag in flags(store.merchant, date(2026, 2, 27), date(2026, 3, 2)) if flag.day]

    assert by_day == []


def test_a_till_that_was_offline_for_days_raises_no_flag():
    store = make_store()
    card, bo = make_card(store.merchant, at=NOON - days(9)), make_staff(store)
    for number in range(12):
        earning.earn(
            store=store,
            card_id=card.pk,
            amount_minor=500,
            staff_member=bo,
            at=NOON,
            transaction_at=NOON - days(number % 2),
        )

    assert [flag for flag in flags(store.merchant, TODAY - timedelta(days=1)) if flag.day] == []


@pytest.mark.parametrize(("others", "is_flagged"), [(11, True), (12, False)])
def test_a_card_with_more_than_a_fifth_of_somebodys_earns_is_flagged(others, is_flagged):
    store = make_store()
    card, bo = make_card(store.merchant), make_staff(store)
    sell(store, card, bo, 3)
    for _ in range(others):
        sell(store, make_card(store.merchant), bo)

    assert flags(store.merchant) == (
        [Flag(staff_member_id=bo.pk, card_id=card.pk, day=None, count=3, reason="3 of 14 purchases")]
        if is_flagged
        else []
    )


@pytest.mark.parametrize(("earns", "flagged"), [(9, 0), (10, 1)])
def test_a_quiet_day_is_not_flagged(earns, flagged):
    store = make_store()
    sell(store, make_card(store.merchant), make_staff(store), earns)

    assert len(flags(store.merchant)) == flagged


def test_staff_are_measured_by_their_own_earns():
    store = make_store()
    card, bo, ana = make_card(store.merchant), make_staff(store), make_staff(store, "Ana")
    sell(store, card, bo, 10)
    for _ in range(45):
        sell(store, make_card(store.merchant), ana)

    assert [(flag.staff_member_id, flag.reason) for flag in flags(store.merchant)] == [(bo.pk, "10 of 10 purchases")]


def test_stamps_are_watched_beside_purchases():
    store = make_store(make_merchant(kind="hybrid", cooldown_minutes=0, max_daily_stamps=100))
    card, bo = make_card(store.merchant), make_staff(store)
    for _ in range(20):
        sell(store, make_card(store.merchant), bo)
    for minute in range(10):
        stamps.add_stamps(store=store, card_id=card.pk, staff_member=bo, at=NOON + timedelta(minutes=minute))

    assert [flag.reason for flag in flags(store.merchant)] == ["10 of 10 stamps"]


@pytest.mark.parametrize("report", [reports.staff_activity, reports.refund_shortfalls])
@pytest.mark.parametrize(("first", "last"), [(TODAY, TODAY - timedelta(days=1)), (TODAY - timedelta(days=366), TODAY)])
def test_impossible_days_are_refused(report, first, last):
    with pytest.raises(InvalidInput) as refusal:
        report(merchant=make_merchant(), first=first, last=last)

    assert refusal.value.details == {"field": "last"}


# --- shortfalls


def spend_and_void(store: Store, staff: StaffMember | None = None, *, at: datetime = NOON) -> Transaction:
    """A sale of 20 points of which 15 are spent before it is voided."""
    card = make_card(store.merchant, at=at)
    sale = earning.earn(store=store, card_id=card.pk, amount_minor=2000, at=at)
    redeeming.redeem_points(store=store, card_id=card.pk, points=15, at=at)
    return reversing.void(store=store, merchant=store.merchant, transaction_id=sale.pk, staff_member=staff, at=at, **BY)


def shortfalls(merchant: Merchant, first: date = TODAY, last: date = TODAY) -> list[Shortfall]:
    return reports.refund_shortfalls(merchant=merchant, first=first, last=last)


def test_what_a_void_could_not_take_back_is_listed():
    store = make_store()
    bo = make_staff(store)
    sell(store, make_card(store.merchant), bo)
    row = spend_and_void(store, bo)

    assert shortfalls(store.merchant) == [
        Shortfall(
            transaction_id=row.pk,
            reversed_transaction_id=row.reverses_id,
            card_id=row.card_id,
            store_id=store.pk,
            staff_member_id=bo.pk,
            on=TODAY,
            points=15,
            stamps=0,
        )
    ]


def test_stamps_can_fall_short_too():
    store = make_store(make_merchant(kind="stamps", stamps_target=2))
    card = make_card(store.merchant)
    given = stamps.add_stamps(store=store, card_id=card.pk, count=3, at=NOON)
    stamps.redeem_stamps(store=store, card_id=card.pk, at=NOON)
    reversing.void(store=None, merchant=store.merchant, transaction_id=given.pk, at=NOON, **BY)

    [found] = shortfalls(store.merchant)

    assert (found.points, found.stamps, found.store_id, found.staff_member_id) == (0, 2, None, None)


def test_what_was_taken_back_whole_is_not_listed():
    store = make_store()
    card = make_card(store.merchant)
    sale = earning.earn(store=store, card_id=card.pk, amount_minor=2000, at=NOON)
    reversing.void(store=store, merchant=store.merchant, transaction_id=sale.pk, at=NOON, **BY)

    assert shortfalls(store.merchant) == []


def test_an_erased_row_says_nothing_and_the_others_still_do():
    store = make_store()
    erased, other = spend_and_void(store), spend_and_void(store)
    Transaction.objects.filter(pk=erased.pk).update(details=ERASED, reason=ERASED)

    assert [found.transaction_id for found in shortfalls(store.merchant)] == [other.pk]


def test_shortfalls_have_their_day_in_the_shop():
    store = make_store(make_merchant(timezone="America/New_York"))
    spend_and_void(store, at=datetime(2026, 2, 1, 4, 30, tzinfo=UTC))  # 23:30 on 31 January

    assert [found.on for found in shortfalls(store.merchant, date(2026, 1, 1), date(2026, 1, 31))] == [
        date(2026, 1, 31)
    ]
    assert shortfalls(store.merchant, date(2026, 2, 1), date(2026, 2, 2)) == []


def test_shortfalls_of_others_are_not_ours():
    spend_and_void(make_store())

    assert shortfalls(make_merchant()) == []
