"""Reports over HTTP: decimal amounts, limits and roles. What they count is tested with the verbs."""

import pytest
from django.utils import timezone

from loyalty.api.reports import report_out
from loyalty.services import earning, redeeming, reports
from tests.factories import make_card, make_merchant, make_store
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db
OF_A_MERCHANT = {
    "liability": {},
    "accounting": {"first": "2026-03-01", "last": "2026-03-31"},
    "expiring": {},
    "breakage": {"first": "2026-03-01", "last": "2026-03-31"},
    "active-customers": {},
    "cohorts": {},
    "at-risk": {},
    "revenue": {},
    "staff-activity": {"first": "2026-03-01", "last": "2026-03-31"},
    "refund-shortfalls": {"first": "2026-03-01", "last": "2026-03-31"},
    "undelivered-warnings": {},
}


@pytest.fixture
def shop(db):
    merchant = make_merchant(currency="KWD", point_value_minor=5)
    store, card = make_store(merchant), make_card(merchant)
    now = timezone.now()
    earning.earn(store=store, card_id=card.pk, amount_minor=25_500, at=now)
    redeeming.redeem_points(store=store, card_id=card.pk, points=5, at=now)
    return store


@pytest.mark.parametrize("name", OF_A_MERCHANT)
def test_every_report_of_a_merchant_is_answered(shop, name):
    office = Office(shop.merchant, "manager")
    answer = office.get(f"merchants/{shop.merchant.pk}/reports/{name}", **OF_A_MERCHANT[name])
    assert answer.status_code == 200, answer.content


def test_amounts_are_decimals_of_the_currency(shop):
    office = Office(shop.merchant, "support")
    liability = office.get(f"merchants/{shop.merchant.pk}/reports/liability").json()
    assert (liability["points"], liability["value"], liability["point_value"]) == (20, "0.100", "0.005")
    revenue = office.get(f"merchants/{shop.merchant.pk}/reports/revenue").json()
    assert (revenue["currency"], revenue["months"][-1]["total"]["amount"]) == ("KWD", "25.500")
    outstanding = office.get("reports/outstanding").json()
    assert outstanding["value"] == {"KWD": "0.100"}
    assert outstanding["largest"][0]["value"] == "0.100"


def test_staff_are_looked_at_by_managers_alone(shop):
    period = OF_A_MERCHANT["staff-activity"]
    path = f"merchants/{shop.merchant.pk}/reports/staff-activity"
    assert Office(shop.merchant, "support").get(path, **period).status_code == 403


def test_a_till_sums_up_its_day(shop):
    summary = Till(shop).get("summary/today").json()
    assert (summary["earns"], summary["amount"], summary["points_redeemed"]) == (1, "25.500", 5)


@pytest.mark.parametrize("path", ["reports/cohorts", "reports/revenue", "reports/at-risk"])
def test_the_reports_of_a_store_are_for_its_manager(shop, path):
    till = Till(shop)
    assert till.get(path).json()["code"] == "staff_session_required"
    till.sign_in("supervisor")
    assert till.get(path).json()["code"] == "permission_denied"
    till.sign_in("manager")
    assert till.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("reports/cohorts", {"months_back": 0}),
        ("reports/revenue", {"months_back": 25}),
        ("reports/revenue", {"months_back": "six"}),
        ("reports/at-risk", {"limit": 201}),
    ],
)
def test_limits_of_a_stores_reports_are_kept(shop, path, query):
    till = Till(shop)
    till.sign_in("manager")
    assert till.get(path, **query).json()["code"] == "invalid_request"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"first": "2026-03-31", "last": "2026-03-01"},
        {"first": "1980-01-01", "last": "2026-03-01"},
        {"first": "x", "last": "y"},
    ],
)
def test_a_period_that_is_none_is_refused(shop, query):
    office = Office(shop.merchant, "manager")
    answer = office.get(f"merchants/{shop.merchant.pk}/reports/accounting", **query)
    assert answer.status_code == 400, answer.content


def test_an_example_has_the_shape_of_the_report():
    example = report_out(reports.Revenue).example
    assert set(example) == {"currency", "months"}
    assert example["months"][0]["total"]["amount"] == "12.99"
