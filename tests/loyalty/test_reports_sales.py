from datetime import UTC, date, datetime
from typing import Any

import pytest

from loyalty.errors import InvalidInput
from loyalty.models import Card, Store, Transaction, TransactionType
from loyalty.services import earning, enrolment, ledger, redeeming, reports, reversing, stamps
from loyalty.services.enrolment import Person
from loyalty.services.ledger import Move
from loyalty.services.reports import DayAtStore, MonthOfRevenue, Takings
from tests.factories import NOON, days, give, make_card, make_merchant, make_store

pytestmark = pytest.mark.django_db

BY: dict[str, Any] = {"reason": "Because", "actor": "ana"}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def sell(store: Store, card: Card, amount_minor: int, at: datetime = NOON, **sale) -> Transaction:
    return earning.earn(store=store, card_id=card.pk, amount_minor=amount_minor, at=at, **sale)


def void(sale: Transaction, at: datetime = NOON, store: Store | None = None) -> Transaction:
    return reversing.void(store=store, merchant=sale.merchant, transaction_id=sale.pk, at=at, **BY)


def refund(sale: Transaction, amount_minor: int, at: datetime = NOON, store: Store | None = None) -> Transaction:
    return reversing.refund(
        store=store, merchant=sale.merchant, transaction_id=sale.pk, amount_minor=amount_minor, at=at, **BY
    )


def months(store: Store, months_back: int = 2) -> list[MonthOfRevenue]:
    return reports.revenue(merchant=store.merchant, at=NOON, months_back=months_back).months


def this_month(store: Store) -> Takings:
    return months(store)[-1].total


def amounts(store: Store) -> list[tuple[int, int, int]]:
    """Sales, amount and what was taken back of January, February and March."""
    return [
        (month.total.sales, month.total.amount_minor, month.total.taken_back_minor)
        for month in reports.revenue(merchant=store.merchant, at=NOON, months_back=2).months
    ]


@pytest.fixture
def till():
    store = make_store(make_merchant(kind="hybrid", point_value_minor=2, stamps_target=2))
    return store, make_card(store.merchant, points=1000, at=moment("2026-01-01T12:00"))


# --- revenue


def test_sales_are_added_up_by_month_and_store(till):
    main, card = till
    branch = Store.objects.create(merchant=main.merchant, name="Airport", code="airport")
    sell(main, card, 1000, moment("2026-01-05T12:00"))
    sell(main, card, 2001, moment("2026-01-06T12:00"))
    sell(branch, card, 500, moment("2026-01-06T13:00"))
    sell(branch, card, 700, moment("2026-03-01T12:00"))

    report = reports.revenue(merchant=main.merchant, at=NOON, months_back=2)

    assert report.currency == "EUR"
    assert [month.month for month in report.months] == [date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)]
    january, february, march = report.months
    assert [(line.store_id, line.store_name, line.sales, line.amount_minor) for line in january.stores] == [
        (branch.pk, "Airport", 1, 500),
        (main.pk, "Main Street", 2, 3001),
    ]
    assert january.stores[1].average_basket_minor == 1501
    assert (january.total.sales, january.total.amount_minor, january.total.average_basket_minor) == (3, 3501, 1167)
    assert (february.stores, february.total.sales, february.total.average_basket_minor) == ([], 0, None)
    assert [line.store_id for line in march.stores] == [branch.pk]


def test_months_are_those_of_the_shop():
    store = make_store(make_merchant(timezone="America/New_York"))
    card = make_card(store.merchant, at=moment("2026-01-05T12:00"))
    sale = sell(store, card, 1000, moment("2026-02-01T04:30"))  # 23:30 on 31 January
    refund(sale, 300, moment("2026-03-01T04:30"))  # 23:30 on 28 February

    assert amounts(store) == [(1, 1000, 0), (0, -300, 300), (0, 0, 0)]


def test_a_late_sale_counts_in_the_month_of_the_sale(till):
    store, card = till
    sell(store, card, 1000, moment("2026-03-02T12:00"), transaction_at=moment("2026-02-28T12:00"))

    assert amounts(store) == [(0, 0, 0), (1, 1000, 0), (0, 0, 0)]


def test_a_sale_of_a_till_whose_clock_is_fast_counts_in_the_month_that_has_begun_there(till):
    store, card = till
    sell(store, card, 1000, moment("2026-01-31T23:58"), transaction_at=moment("2026-02-01T00:02"))

    assert [month.total.amount_minor for month in months(store, 1)] == [1000, 0]


def test_a_void_counts_in_the_month_in_which_it_was_made(till):
    store, card = till
    sale = sell(store, card, 1000, moment("2026-01-31T12:00"))
    sell(store, card, 400, moment("2026-02-01T11:00"))
    sell(store, card, 600, moment("2026-02-01T11:30"))
    void(sale, moment("2026-02-01T12:00"))

    assert amounts(store) == [(1, 1000, 0), (1, 0, 1000), (0, 0, 0)]


def test_refunds_and_a_void_never_take_back_more_than_the_sale(till):
    store, card = till
    sale = sell(store, card, 1000)
    refund(sale, 250)
    refund(sale, 150)
    assert (this_month(store).sales, this_month(store).amount_minor) == (1, 600)

    void(sale)

    assert (this_month(store).sales, this_month(store).amount_minor) == (0, 0)
    assert this_month(store).taken_back_minor == 1000


def test_refunds_of_everything_leave_no_sale(till):
    store, card = till
    sale = sell(store, card, 1000)
    refund(sale, 250)
    refund(sale, 750)

    assert (this_month(store).sales, this_month(store).amount_minor) == (0, 0)


def test_a_void_that_names_no_amount_took_what_was_left(till):
    store, card = till
    sale = sell(store, card, 1000)
    refund(sale, 250)
    locked = ledger.lock(card.pk, merchant=store.merchant)
    back = Move(
        type=TransactionType.POINTS_VOIDED,
        transaction_at=NOON,
        reverses=sale,
        reverses_in_full=True,
        actor="import",
        reason="From another system",
    )
    ledger.post(locked, back, at=NOON)

    assert (this_month(store).sales, this_month(store).amount_minor) == (0, 0)


def test_a_void_counts_in_the_store_that_made_it_and_one_by_the_back_office_in_the_store_of_the_sale(till):
    main, card = till
    branch = Store.objects.create(merchant=main.merchant, name="Airport", code="airport")
    first, second = sell(main, card, 1000), sell(main, card, 200)
    void(first, store=branch)
    void(second)

    lines = months(main)[-1].stores

    assert [(line.store_id, line.sales, line.amount_minor, line.taken_back_minor) for line in lines] == [
        (branch.pk, -1, -1000, 1000),
        (main.pk, 1, 1000, 200),
    ]
    assert (lines[0].average_basket_minor, lines[0].redeemed_share) == (None, None)


def test_redeemed_points_are_a_share_of_what_was_bought(till):
    store, card = till
    sell(store, card, 600)
    redeeming.redeem_points(store=store, card_id=card.pk, points=100, at=NOON)
    void(redeeming.redeem_points(store=store, card_id=card.pk, points=50, at=NOON))

    takings = this_month(store)

    assert (takings.points_redeemed, takings.redeemed_value_minor, takings.redeemed_share) == (100, 200, "0.2500")


def test_a_month_that_took_back_more_sales_than_it_made_has_no_average(till):
    store, card = till
    old = [sell(store, card, 100, moment("2026-02-20T12:00")) for _ in range(2)]
    sell(store, card, 500)
    for sale in old:
        void(sale)

    takings = this_month(store)

    assert (takings.sales, takings.amount_minor, takings.average_basket_minor) == (-1, 300, None)


def test_a_month_that_took_back_more_than_it_sold_has_no_share(till):
    store, card = till
    sale = sell(store, card, 500, moment("2026-02-20T12:00"))
    redeeming.redeem_points(store=store, card_id=card.pk, points=400, at=NOON)
    void(sale)

    takings = this_month(store)

    assert (takings.amount_minor, takings.redeemed_value_minor, takings.redeemed_share) == (-500, 800, None)


def test_a_month_that_took_back_more_points_than_were_redeemed_has_no_share(till):
    store, card = till
    sell(store, card, 500)
    void(redeeming.redeem_points(store=store, card_id=card.pk, points=10, at=moment("2026-02-20T12:00")))

    takings = this_month(store)

    assert (takings.points_redeemed, takings.redeemed_value_minor, takings.redeemed_share) == (-10, -20, None)


def test_a_month_without_anything_has_no_share(till):
    store, _ = till

    assert this_month(store).redeemed_share is None


def test_stamps_and_gifts_are_no_revenue(till):
    store, card = till
    stamps.add_stamps(store=store, card_id=card.pk, count=2, at=NOON)
    stamps.redeem_stamps(store=store, card_id=card.pk, at=NOON)
    give(card, 100, at=NOON)

    assert months(store)[-1].stores == []


def test_revenue_of_others_is_not_ours(till):
    store, card = till
    sell(store, card, 1000)

    assert months(make_store())[-1].stores == []


@pytest.mark.parametrize("months_back", [0, 25])
def test_months_that_cannot_be_shown_are_refused(months_back):
    with pytest.raises(InvalidInput) as refusal:
        months(make_store(), months_back)

    assert refusal.value.details == {"field": "months_back"}


# --- the day of a store


def test_the_day_of_a_store_is_summed_up(till):
    store, card = till
    elsewhere = make_store(store.merchant)
    enrolment.enrol(merchant=store.merchant, person=Person(email="new@example.com"), store=store, at=NOON)
    enrolment.enrol(merchant=store.merchant, person=Person(email="old@example.com"), store=store, at=NOON - days(1))
    sell(store, card, 1000)
    sale = sell(store, card, 2000)
    sell(store, card, 9000, NOON - days(1))
    sell(elsewhere, card, 9000)
    refund(sale, 500, store=store)
    redeemed = redeeming.redeem_points(store=store, card_id=card.pk, points=100, at=NOON)
    redeeming.redeem_points(store=store, card_id=card.pk, points=7, at=NOON)
    stamps.add_stamps(store=store, card_id=card.pk, count=3, at=NOON)
    stamps.redeem_stamps(store=store, card_id=card.pk, at=NOON)
    void(redeemed, store=store)

    assert reports.summary_of_day(store=store, at=NOON) == DayAtStore(
        day=NOON.date(),
        currency="EUR",
        earns=2,
        points_earned=30,
        amount_minor=3000,
        redemptions=3,
        points_redeemed=107,
        stamps=3,
        enrolments=1,
        voids=2,
        taken_back_minor=500,
    )


def test_the_day_of_a_store_is_one_in_the_shop():
    store = make_store(make_merchant(timezone="America/New_York"))
    card = make_card(store.merchant, at=moment("2026-02-01T12:00"))
    sell(store, card, 100, moment("2026-03-01T04:59"))
    sell(store, card, 200, moment("2026-03-01T05:00"))
    sell(store, card, 400, moment("2026-03-02T04:59"))
    sell(store, card, 800, moment("2026-03-02T05:00"))
    sell(store, card, 1600, moment("2026-03-01T15:00"), transaction_at=moment("2026-02-28T15:00"))

    late_on_the_first = reports.summary_of_day(store=store, at=moment("2026-03-02T04:59"))

    assert (late_on_the_first.day, late_on_the_first.amount_minor) == (date(2026, 3, 1), 600)


def test_a_quiet_day_is_all_zeros():
    summary = reports.summary_of_day(store=make_store(), at=NOON)

    assert (summary.earns, summary.amount_minor, summary.voids, summary.taken_back_minor) == (0, 0, 0, 0)
