from datetime import date, timedelta

import pytest

from loyalty.models import Card, CardBalance, Program
from loyalty.services import earning, redeeming, reports
from loyalty.services.reports import DayOfPoints
from tests.factories import NOON, days, make_card, make_cards, make_merchant, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db

TODAY = NOON.date()


def expiring(merchant=None) -> tuple[int, int, int]:
    return reports.outstanding(at=NOON, merchants=merchant and [merchant.pk]).expiring


def test_points_are_added_up_by_program_and_valued():
    small, large = make_merchant(point_value_minor=2), make_merchant(currency="JPY", point_value_minor=1)
    make_card(small, points=100)
    make_cards(large, 3, points=500)
    make_card(make_merchant())

    standing = reports.outstanding(at=NOON)

    assert (standing.programs, standing.cards, standing.points) == (2, 4, 1600)
    assert standing.value_minor == {"EUR": 200, "JPY": 1500}
    assert [(line.merchant, line.cards, line.points) for line in standing.largest] == [
        (large.name, 3, 1500),
        (small.name, 1, 100),
    ]


def test_only_the_largest_programs_are_listed_and_all_are_counted():
    for points in (5, 30, 10):
        make_card(points=points)

    standing = reports.outstanding(at=NOON, largest=2)

    assert [line.points for line in standing.largest] == [30, 10]
    assert (standing.programs, standing.points) == (3, 45)


def test_other_merchants_can_be_left_out():
    own = make_card(points=5).program.merchant
    make_card(points=7)

    assert reports.outstanding(at=NOON, merchants=[own.pk]).points == 5
    assert reports.outstanding(at=NOON, merchants=[]).points == 0


@pytest.mark.parametrize(
    ("idle_days", "expected"),
    [
        (180 - 100, (0, 0, 0)),
        (180 - 90, (0, 0, 0)),
        (180 - 89, (0, 0, 1)),
        (180 - 30, (0, 0, 1)),
        (180 - 29, (0, 1, 1)),
        (180 - 15, (0, 1, 1)),
    ],
)
def test_idle_points_go_within_the_days_left(idle_days, expected):
    make_card(points=1, at=NOON - days(idle_days))

    assert expiring() == expected


def test_who_was_not_warned_still_has_the_time_of_a_notice():
    make_card(points=1, at=NOON - days(400))

    assert expiring() == (0, 1, 1)


def test_who_was_warned_in_time_goes_soon():
    make_card(points=1, at=NOON - days(179))
    expire(NOON - days(13))

    assert expiring() == (1, 1, 1)


def test_a_promise_is_counted_and_not_the_rule():
    card = make_card(points=1, at=NOON - days(400))
    expire(NOON)
    CardBalance.objects.filter(card=card).update(expiration_warned_for=TODAY + timedelta(days=60))

    assert expiring() == (0, 0, 1)


def test_without_a_required_notice_old_points_go_at_once():
    make_card(make_merchant(require_expiration_notice=False), points=1, at=NOON - days(400))

    assert expiring() == (1, 1, 1)


def test_a_pause_puts_everything_off():
    make_card(make_merchant(expiration_paused_until=TODAY + timedelta(days=20)), points=1, at=NOON - days(400))

    assert expiring() == (0, 0, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: Card.objects.filter(pk=card.pk).update(status="suspended"),
        lambda card: Card.objects.filter(pk=card.pk).update(
            expiration_exempt=True, expiration_exempt_reason="A friend"
        ),
        lambda card: Program.objects.filter(pk=card.program_id).update(points_expiration_days=0),
        lambda card: Program.objects.filter(pk=card.program_id).update(points_expiration_days=None),
        lambda card: Program.objects.filter(pk=card.program_id).update(is_active=False),
    ],
    ids=["suspended", "exempt", "zero", "never", "switched off"],
)
def test_what_cannot_expire_is_outstanding_and_not_expiring(change):
    card = make_card(points=1, at=NOON - days(400))
    change(card)

    assert reports.outstanding(at=NOON).points == 1
    assert expiring() == (0, 0, 0)


def test_what_the_report_foresees_is_what_a_run_then_takes():
    merchant = make_merchant()
    for idle_days in range(0, 400, 7):
        make_card(merchant, points=idle_days + 1, at=NOON - days(idle_days))
    expire(NOON)
    foreseen = expiring()

    taken, sums = 0, []
    for day in range(1, 91):
        taken += expire(NOON + days(day)).tally.points_expired
        if day in reports.HORIZONS:
            sums.append(taken)

    assert tuple(sums) == foreseen
    assert foreseen[0] < foreseen[2]


def test_each_day_has_its_points():
    store = make_store(make_merchant(welcome_bonus_points=10))
    card = make_card(store.merchant, points=300, at=NOON - days(40))
    make_card(store.merchant, at=NOON - days(2))
    earning.earn(store=store, card_id=card.pk, amount_minor=2500, at=NOON - days(2))
    earning.earn(store=store, card_id=card.pk, amount_minor=100, at=NOON - days(29))
    redeeming.redeem_points(store=store, card_id=card.pk, points=40, at=NOON)

    listed = reports.points_per_day(at=NOON)

    assert [line.day for line in listed] == [TODAY - timedelta(days=29 - number) for number in range(30)]
    moved = {line.day: line[1:] for line in listed if any(line[1:])}
    assert moved == {
        TODAY - timedelta(days=29): (1, 0, 0),
        TODAY - timedelta(days=2): (35, 0, 0),
        TODAY: (0, 40, 0),
    }


def test_expired_points_are_counted_on_their_day():
    make_card(points=300, at=NOON - days(200))
    expire(NOON - days(20))
    expire(NOON - days(3))

    listed = {line.day: line.expired for line in reports.points_per_day(at=NOON) if line.expired}

    assert listed == {TODAY - timedelta(days=3): 300}


def test_a_day_without_movements_is_zero_and_other_merchants_are_left_out():
    store = make_store()
    card = make_card(store.merchant)
    earning.earn(store=store, card_id=card.pk, amount_minor=2500, at=NOON)

    assert reports.points_per_day(at=NOON, days=1, merchants=[store.merchant_id]) == [DayOfPoints(TODAY, 25, 0, 0)]
    assert reports.points_per_day(at=NOON, days=1, merchants=[]) == [DayOfPoints(date(2026, 3, 2), 0, 0, 0)]
