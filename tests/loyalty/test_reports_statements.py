"""Reports cost one or two statements, however many cards, stores and days there are."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from loyalty.models import Merchant, StaffMember, Store
from loyalty.services import earning, redeeming, reports, reversing
from tests.factories import NOON, days, make_card, make_merchant, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db

FIRST, LAST = (NOON - days(300)).date(), NOON.date()
REPORTS: dict[str, Callable[[Merchant], Any]] = {
    "liability": lambda merchant: reports.liability(merchant=merchant, as_of=LAST, at=NOON),
    "accounting": lambda merchant: reports.points_accounting(merchant=merchant, first=FIRST, last=LAST, at=NOON).days,
    "expiring": lambda merchant: reports.expiring_by_date(merchant=merchant, at=NOON).days,
    "breakage": lambda merchant: reports.breakage(merchant=merchant, first=FIRST, last=LAST).months,
    "active": lambda merchant: reports.active_customers(merchant=merchant, at=NOON),
    "cohorts": lambda merchant: reports.cohorts(merchant=merchant, at=NOON),
    "at risk": lambda merchant: reports.cards_at_risk(merchant=merchant, at=NOON),
    "revenue": lambda merchant: reports.revenue(merchant=merchant, at=NOON).months,
    "staff": lambda merchant: reports.staff_activity(merchant=merchant, first=FIRST, last=LAST).members,
    "shortfalls": lambda merchant: reports.refund_shortfalls(merchant=merchant, first=FIRST, last=LAST),
    "warnings": lambda merchant: reports.undelivered_warnings(merchant=merchant),
    "summary": lambda merchant: reports.summary_of_day(store=store_of(merchant), at=NOON),
}


def store_of(merchant: Merchant) -> Store:
    return Store.objects.select_related("merchant").filter(merchant=merchant)[0]


def add_a_life(merchant: Merchant, number: int) -> None:
    """A card, a store and a staff member of its own, and something for each report."""
    store = make_store(merchant)
    staff = StaffMember.objects.create(merchant=merchant, display_name=f"Staff {number}")
    idle = make_card(merchant, points=9, at=NOON - days(180 + number), email="", external_id=f"K-{number}")
    assert idle.balance.points_balance == 9
    card = make_card(merchant, at=NOON - days(120 + number))
    sale: dict[str, Any] = {"store": store, "card_id": card.pk, "staff_member": staff}
    for age in (119, 70, 3):
        row = earning.earn(amount_minor=2000, at=NOON - days(age), **sale)
    redeeming.redeem_points(points=50, at=NOON - days(2), **sale)
    reversing.void(
        store=None, merchant=merchant, transaction_id=row.pk, at=NOON - timedelta(hours=1), actor="ana", reason="Wrong"
    )


def statements(report: Callable[[Merchant], Any], merchant: Merchant) -> tuple[int, Any]:
    merchant = Merchant.objects.get(pk=merchant.pk)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        shown = report(merchant)
    return len(captured), shown


@pytest.mark.parametrize("name", REPORTS)
def test_many_cards_cost_no_more_statements_than_one(name):
    merchant = make_merchant()
    add_a_life(merchant, 1)
    expire(NOON - days(20))
    of_one, shown_of_one = statements(REPORTS[name], merchant)
    for number in range(2, 5):
        add_a_life(merchant, number)
    expire(NOON - days(10))

    of_many, shown_of_many = statements(REPORTS[name], merchant)

    assert of_many == of_one <= 2
    assert shown_of_many
    assert shown_of_many != shown_of_one or name == "summary"
