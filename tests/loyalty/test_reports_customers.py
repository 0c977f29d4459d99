from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import pytest

from loyalty.errors import InvalidInput
from loyalty.models import Card, Store
from loyalty.services import adjustments, earning, merging, redeeming, reports, stamps
from loyalty.services.reports import ActiveCustomers, CardAtRisk, Cohort
from tests.factories import NOON, days, give, make_card, make_merchant, make_store

pytestmark = pytest.mark.django_db

BY: dict[str, Any] = {"reason": "Because", "actor": "ana"}


def buy(store: Store, card: Card, at: datetime, *, moment: datetime | None = None) -> None:
    earning.earn(store=store, card_id=card.pk, amount_minor=100, at=at, transaction_at=moment)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- active customers


def active(store: Store) -> tuple[int, int, int, int]:
    found = reports.active_customers(merchant=store.merchant, at=NOON)
    return found.enrolled, found.within_30_days, found.within_90_days, found.within_365_days


def test_customers_are_active_by_their_latest_visit():
    store = make_store()
    for idle_days in (0, 29, 30, 89, 90, 364, 365):
        card = make_card(store.merchant, at=NOON - days(500))
        buy(store, card, NOON - days(400))
        buy(store, card, NOON - days(idle_days))
    make_card(store.merchant)

    assert reports.active_customers(merchant=store.merchant, at=NOON) == ActiveCustomers(
        enrolled=8, within_30_days=2, within_90_days=4, within_365_days=6
    )


def test_redemptions_and_stamps_are_visits_and_what_others_do_is_none():
    store = make_store(make_merchant(kind="hybrid", welcome_bonus_points=50, stamps_target=2))
    bonus_only, imported, adjusted, redeeming_, stamping = (make_card(store.merchant) for _ in range(5))
    give(imported, 100, at=NOON)
    adjustments.adjust(merchant=store.merchant, card_id=adjusted.pk, points=100, at=NOON, **BY)
    assert active(store) == (5, 0, 0, 0)

    redeeming.redeem_points(store=store, card_id=redeeming_.pk, points=5, at=NOON)
    stamps.add_stamps(store=store, card_id=stamping.pk, count=2, at=NOON)

    assert active(store) == (5, 2, 2, 2)
    assert bonus_only.balance.points_balance == 50


def test_only_cards_in_use_count_and_a_merged_card_counts_as_its_target():
    store = make_store()
    merged, target, closed, suspended = (make_card(store.merchant, at=NOON - days(9)) for _ in range(4))
    for card in (merged, closed, suspended):
        buy(store, card, NOON - days(5))
    merging.merge_cards(merchant=store.merchant, source_id=merged.pk, target_id=target.pk, at=NOON, **BY)
    Card.objects.filter(pk=closed.pk).update(status="closed")
    Card.objects.filter(pk=suspended.pk).update(status="suspended")

    assert active(store) == (2, 2, 2, 2)


def test_a_late_sale_makes_active_on_the_day_of_the_sale():
    store = make_store()
    card = make_card(store.merchant, at=NOON - days(60))
    buy(store, card, NOON - days(28), moment=NOON - days(30))

    assert active(store) == (1, 0, 1, 1)


def test_customers_of_others_are_not_active_here():
    other = make_store()
    buy(other, make_card(other.merchant), NOON)

    assert active(make_store()) == (0, 0, 0, 0)


# --- cohorts


def cohorts(store: Store, months_back: int = 2, at: datetime = NOON) -> list[Cohort]:
    return reports.cohorts(merchant=store.merchant, at=at, months_back=months_back)


def test_a_cohort_is_followed_month_by_month():
    store = make_store(make_merchant(welcome_bonus_points=10))
    loyal, lapsed, late, never = (make_card(store.merchant, at=moment("2026-01-05T12:00")) for _ in range(4))
    for card, visits in {
        loyal: ["2026-01-06T12:00", "2026-01-07T12:00", "2026-02-06T12:00", "2026-03-01T12:00"],
        lapsed: ["2026-01-20T12:00"],
        late: ["2026-02-20T12:00"],
    }.items():
        for visit in visits:
            buy(store, card, moment(visit))
    newcomer = make_card(store.merchant, at=moment("2026-02-10T12:00"))
    redeeming.redeem_points(store=store, card_id=newcomer.pk, points=5, at=moment("2026-03-02T09:00"))
    give(never, 100, at=moment("2026-02-10T12:00"))

    assert cohorts(store) == [
        Cohort(month=date(2026, 1, 1), cards=4, active=[2, 2, 1], shares=["0.5000", "0.5000", "0.2500"]),
        Cohort(month=date(2026, 2, 1), cards=1, active=[0, 1], shares=["0.0000", "1.0000"]),
        Cohort(month=date(2026, 3, 1), cards=0, active=[0], shares=[None]),
    ]


def test_months_are_those_of_the_shop():
    store = make_store(make_merchant(timezone="America/New_York"))
    card = make_card(store.merchant, at=moment("2026-02-01T04:30"))  # 23:30 on 31 January
    buy(store, card, moment("2026-03-01T04:30"))  # 23:30 on 28 February

    january, february, march = cohorts(store)

    assert (january.cards, january.active) == (1, [0, 1, 0])
    assert (february.cards, march.cards) == (0, 0)


def test_a_late_sale_counts_in_the_month_of_the_sale():
    store = make_store()
    card = make_card(store.merchant, at=moment("2026-01-10T12:00"))
    buy(store, card, moment("2026-03-02T12:00"), moment=moment("2026-02-28T12:00"))

    assert cohorts(store)[0].active == [0, 1, 0]


def test_a_sale_from_before_the_enrolment_is_of_no_month():
    store = make_store()
    card = make_card(store.merchant, at=moment("2026-02-01T12:00"))
    buy(store, card, moment("2026-02-01T12:00"), moment=moment("2026-01-31T12:00"))

    assert [cohort.active for cohort in cohorts(store)] == [[0, 0, 0], [0, 0], [0]]


def test_closed_cards_stay_in_their_cohort_and_other_merchants_have_their_own():
    store = make_store()
    card = make_card(store.merchant, at=moment("2026-01-10T12:00"))
    buy(store, card, moment("2026-02-10T12:00"))
    Card.objects.update(status="closed")
    make_card(at=moment("2026-01-10T12:00"))

    assert (cohorts(store)[0].cards, cohorts(store)[0].active) == (1, [0, 1, 0])


def test_months_back_go_over_the_year():
    listed = cohorts(make_store(), 24)

    assert [listed[0].month, listed[1].month, listed[-1].month] == [
        date(2024, 3, 1),
        date(2024, 4, 1),
        date(2026, 3, 1),
    ]
    assert [len(cohort.active) for cohort in listed] == list(range(25, 0, -1))


@pytest.mark.parametrize("months_back", [0, 25])
def test_months_that_cannot_be_shown_are_refused(months_back):
    with pytest.raises(InvalidInput) as refusal:
        cohorts(make_store(), months_back)

    assert refusal.value.details == {"field": "months_back"}


# --- cards at risk


def at_risk(store: Store, limit: int = 50, at: datetime = NOON) -> list[CardAtRisk]:
    return reports.cards_at_risk(merchant=store.merchant, at=at, limit=limit)


def make_regular(store: Store, visited_days_ago: list[int]) -> Card:
    card = make_card(store.merchant, at=NOON - days(max(visited_days_ago)))
    for number in sorted(visited_days_ago, reverse=True):
        buy(store, card, NOON - days(number))
    return card


def test_who_stays_away_for_more_than_twice_their_interval_is_at_risk():
    store = make_store()
    make_regular(store, [40, 30, 20])
    away = make_regular(store, [41, 31, 21])
    make_regular(store, [90, 75, 30])

    [found] = at_risk(store)

    assert found == CardAtRisk(
        card_id=away.pk,
        card_number_ends=away.card_number[-4:],
        last_activity_on=(NOON - days(21)).date(),
        average_interval_days="10.0",
        idle_days=21,
        points_balance=3,
    )


def test_intervals_are_averaged():
    store = make_store()
    make_regular(store, [35, 32, 21])
    away = make_regular(store, [36, 32, 22, 20])

    [found] = at_risk(store, at=NOON - days(20) + days(11))

    assert (found.card_id, found.average_interval_days, found.idle_days) == (away.pk, "5.3", 11)


@pytest.mark.parametrize(("idle_days", "is_at_risk"), [(60, False), (61, True)])
@pytest.mark.parametrize("visits_before", [[], [0], [2, 0], [2, 0, 0]], ids=["none", "one", "two", "two days"])
def test_new_cards_have_sixty_days(idle_days, is_at_risk, visits_before):
    store = make_store()
    card = make_card(store.merchant, at=NOON - days(idle_days + max(visits_before, default=0)))
    for number in visits_before:
        buy(store, card, NOON - days(idle_days + number))

    found = at_risk(store)

    assert [(line.card_id, line.idle_days, line.average_interval_days) for line in found] == (
        [(card.pk, idle_days, None)] if is_at_risk else []
    )


def test_a_gift_is_no_visit():
    store = make_store()
    away = make_regular(store, [50, 40, 30])
    adjustments.adjust(merchant=store.merchant, card_id=away.pk, points=100, at=NOON, **BY)

    assert [line.idle_days for line in at_risk(store)] == [30]


def test_habits_of_long_ago_are_forgotten():
    store = make_store()
    make_regular(store, [900, 890, 880])

    [found] = at_risk(store)

    assert (found.idle_days, found.average_interval_days) == (880, None)
    assert found.last_activity_on == (NOON - days(880)).date()


def test_those_with_most_points_come_first():
    store = make_store()
    poor, rich, poor_and_longer_away = (
        make_card(store.merchant, points=points, at=NOON - days(idle_days))
        for points, idle_days in [(5, 70), (500, 65), (5, 80)]
    )

    assert [line.card_id for line in at_risk(store)] == [rich.pk, poor_and_longer_away.pk, poor.pk]
    assert [line.card_id for line in at_risk(store, limit=1)] == [rich.pk]


def test_only_active_cards_of_the_merchant_are_at_risk():
    store = make_store()
    make_card(store.merchant, at=NOON - days(70))
    Card.objects.update(status="suspended")
    make_card(at=NOON - days(70))

    assert at_risk(store) == []


def test_idle_days_are_days_in_the_shop():
    store = make_store(make_merchant(timezone="America/New_York"))
    make_card(store.merchant, at=moment("2026-01-01T04:30"))  # 23:30 on 31 December

    [found] = at_risk(store, at=moment("2026-03-03T04:30"))  # 23:30 on 2 March

    assert (found.last_activity_on, found.idle_days) == (date(2025, 12, 31), 61)


def test_nothing_tells_who_it_is():
    store = make_store()
    card = make_card(store.merchant, at=NOON - days(70), first_name="Canaria", email="canaria@example.com")

    [found] = at_risk(store)

    assert "anaria" not in str(asdict(found))
    assert card.card_number not in str(asdict(found))


@pytest.mark.parametrize("limit", [0, 201])
def test_a_limit_that_cannot_be_shown_is_refused(limit):
    with pytest.raises(InvalidInput) as refusal:
        at_risk(make_store(), limit)

    assert refusal.value.details == {"field": "limit"}
