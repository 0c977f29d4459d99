from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from loyalty.models import Campaign, Merchant, Program
from loyalty.services import earning
from loyalty.services.earning import Worth, points_worth
from tests.factories import NOON, days, make_card, make_merchant, make_store

pytestmark = pytest.mark.django_db
MONDAY = NOON  # 2 March 2026


@pytest.fixture
def merchant():
    return make_merchant()


def run_campaign(merchant: Merchant, **terms) -> Campaign:
    return Campaign.objects.create(
        **{
            "program": merchant.program,
            "name": "May",
            "starts_at": NOON - days(1),
            "ends_at": NOON + days(1),
            **terms,
        }
    )


def worth(merchant: Merchant, amount_minor: int = 1000, *, at: datetime = NOON, store=None) -> Worth:
    return points_worth(program=merchant.program, amount_minor=amount_minor, store=store, moment=at)


def test_without_a_campaign_the_plain_rate_applies(merchant):
    assert worth(merchant) == (10, None)


def test_a_multiplier_multiplies_before_the_floor(merchant):
    campaign = run_campaign(merchant, multiplier=Decimal("1.5"))

    assert worth(merchant, 999) == (14, campaign)


def test_a_bonus_is_added_to_the_plain_points(merchant):
    campaign = run_campaign(merchant, bonus_points=25)

    assert worth(merchant, 1099) == (35, campaign)


def test_the_one_best_campaign_applies_and_none_is_stacked(merchant):
    run_campaign(merchant, multiplier=Decimal(2))
    triple = run_campaign(merchant, multiplier=Decimal(3))
    run_campaign(merchant, bonus_points=15)

    assert worth(merchant) == (30, triple)


def test_which_campaign_is_best_depends_on_the_purchase(merchant):
    double = run_campaign(merchant, multiplier=Decimal(2))
    bonus = run_campaign(merchant, bonus_points=15)

    assert worth(merchant, 1000) == (25, bonus)
    assert worth(merchant, 2000) == (40, double)


def test_a_campaign_that_gives_nothing_more_is_not_named(merchant):
    run_campaign(merchant)

    assert worth(merchant) == (10, None)


@pytest.mark.parametrize(
    ("moment", "runs"),
    [
        (NOON - days(1), True),
        (NOON - days(1) - timedelta(microseconds=1), False),
        (NOON + days(1) - timedelta(microseconds=1), True),
        (NOON + days(1), False),
    ],
)
def test_a_campaign_runs_from_its_start_to_just_before_its_end(merchant, moment, runs):
    run_campaign(merchant, bonus_points=5)

    assert worth(merchant, at=moment).points == (15 if runs else 10)


@pytest.mark.parametrize(
    ("weekdays", "runs"),
    [("", True), ("1", True), ("17", True), ("234567", False)],
    ids=["all", "mon", "mon+sun", "not"],
)
def test_a_campaign_runs_on_its_weekdays(merchant, weekdays, runs):
    run_campaign(merchant, bonus_points=5, weekdays=weekdays)

    assert worth(merchant, at=MONDAY).points == (15 if runs else 10)


def test_weekdays_are_those_of_the_merchants_calendar():
    merchant = make_merchant(timezone="America/Los_Angeles")
    run_campaign(merchant, bonus_points=5, weekdays="7")

    assert worth(merchant, at=datetime(2026, 3, 2, 7, 59, tzinfo=UTC)).points == 15
    assert worth(merchant, at=datetime(2026, 3, 2, 8, 0, tzinfo=UTC)).points == 10


def test_a_campaign_may_be_for_some_stores(merchant):
    here, there = make_store(merchant), make_store(merchant)
    campaign = run_campaign(merchant, bonus_points=5)
    campaign.stores.add(here)

    assert [worth(merchant, store=store).points for store in (here, there, None)] == [15, 10, 10]


def test_a_campaign_of_several_stores_counts_once(merchant):
    here, there = make_store(merchant), make_store(merchant)
    campaign = run_campaign(merchant, bonus_points=5)
    campaign.stores.add(here, there)

    assert worth(merchant, store=here).points == 15


@pytest.mark.parametrize(("amount_minor", "points"), [(1999, 19), (2000, 25)])
def test_a_campaign_may_have_a_minimum(merchant, amount_minor, points):
    run_campaign(merchant, bonus_points=5, minimum_purchase_minor=2000)

    assert worth(merchant, amount_minor).points == points


def test_a_campaign_that_is_switched_off_or_of_another_program_gives_nothing(merchant):
    run_campaign(merchant, bonus_points=5, is_active=False)
    run_campaign(make_merchant(), bonus_points=5)

    assert worth(merchant) == (10, None)


def test_the_cap_holds_for_campaigns_too(merchant):
    run_campaign(merchant, multiplier=Decimal(5))
    Program.objects.update(max_points_per_transaction=20)
    merchant.program.refresh_from_db()

    assert worth(merchant).points == 20


def test_the_sale_remembers_the_terms_of_its_campaign(merchant):
    campaign = run_campaign(merchant, multiplier=Decimal("1.5"), bonus_points=5, minimum_purchase_minor=100)

    row = earning.earn(store=make_store(merchant), card_id=make_card(merchant).pk, amount_minor=1000, at=NOON)

    assert row.points_delta == 20
    assert row.details == {
        "campaign": campaign.pk,
        "multiplier": "1.50",
        "bonus_points": 5,
        "minimum_purchase_minor": 100,
    }


def test_an_offline_sale_has_the_campaign_of_its_own_moment(merchant):
    run_campaign(merchant, bonus_points=5)

    row = earning.earn(
        store=make_store(merchant),
        card_id=make_card(merchant).pk,
        amount_minor=1000,
        at=NOON + days(2),
        transaction_at=NOON,
    )

    assert row.points_delta == 15
