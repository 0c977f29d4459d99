import random
from collections import Counter
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import pytest

from loyalty.errors import InvalidInput
from loyalty.models import Card, CardBalance, Merchant, Program
from loyalty.services import explaining, reports
from notifications import services as notifications
from notifications.models import Message
from tests.factories import NOON, days, make_card, make_cards, make_merchant
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db

TODAY = NOON.date()
NOTHING = (0, 0)


def day(number: int) -> date:
    return TODAY + timedelta(days=number)


def foreseen(merchant: Merchant, *, at: datetime = NOON, **choices: int) -> dict[date, tuple[int, int]]:
    """Cards and points by last day, without the days that have none."""
    report = reports.expiring_by_date(merchant=merchant, at=at, **choices)
    return {line.day: (line.cards, line.points) for line in report.days if line.cards or line.points}


def overdue(merchant: Merchant) -> tuple[int, int]:
    report = reports.expiring_by_date(merchant=merchant, at=NOON)
    return report.overdue_cards, report.overdue_points


# --- expiring by date


def test_points_go_after_their_last_day():
    merchant = make_merchant()
    make_cards(merchant, 2, points=100, at=NOON - days(150))
    make_card(merchant, points=7, at=NOON - days(130))
    make_card(merchant, points=5, at=NOON - days(80))
    make_card(points=1, at=NOON - days(150))

    assert foreseen(merchant) == {day(30): (2, 200), day(50): (1, 7)}
    assert foreseen(merchant, days=30) == {}
    assert foreseen(merchant, days=31) == {day(30): (2, 200)}
    assert foreseen(merchant, days=366)[day(100)] == (1, 5)


def test_every_day_is_listed():
    listed = reports.expiring_by_date(merchant=make_merchant(), at=NOON, days=3).days

    assert [(line.day, line.cards, line.points) for line in listed] == [(day(number), 0, 0) for number in range(3)]


def test_who_was_not_warned_has_the_time_of_a_notice():
    merchant = make_merchant()
    make_card(merchant, points=9, at=NOON - days(400))
    assert foreseen(merchant) == {day(14): (1, 9)}

    expire(NOON)

    assert foreseen(merchant, at=NOON + days(5)) == {day(14): (1, 9)}


def test_a_promise_is_kept():
    merchant = make_merchant()
    card = make_card(merchant, points=9, at=NOON - days(170))
    expire(NOON)
    CardBalance.objects.filter(card=card).update(expiration_warned_for=day(60))

    assert foreseen(merchant) == {day(60): (1, 9)}


def test_what_the_next_run_takes_is_overdue():
    merchant = make_merchant(require_expiration_notice=False)
    make_card(merchant, points=9, at=NOON - days(181))
    make_card(merchant, points=4, at=NOON - days(180))

    assert overdue(merchant) == (1, 9)
    assert foreseen(merchant) == {TODAY: (1, 4)}


def test_a_pause_puts_everything_off_to_a_notice_after_it():
    merchant = make_merchant(expiration_paused_until=day(20))
    make_card(merchant, points=9, at=NOON - days(400))

    assert foreseen(merchant) == {day(21 + 14): (1, 9)}


def test_a_pause_without_notices_puts_everything_off_to_its_end():
    merchant = make_merchant(expiration_paused_until=day(20), require_expiration_notice=False)
    make_card(merchant, points=9, at=NOON - days(400))

    assert foreseen(merchant) == {day(20): (1, 9)}


def test_a_warning_from_before_a_pause_is_forgotten():
    merchant = make_merchant()
    make_card(merchant, points=9, at=NOON - days(200))
    expire(NOON - days(20))
    Program.objects.filter(merchant=merchant).update(expiration_paused_until=day(-5))

    assert foreseen(merchant) == {day(14): (1, 9)}
    within_14, within_30, _ = reports.outstanding(at=NOON, merchants=[merchant.pk]).expiring
    assert (within_14, within_30) == (0, 9)


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
        lambda card: Merchant.objects.filter(program=card.program_id).update(is_active=False),
    ],
    ids=["suspended", "exempt", "zero", "never", "switched off", "merchant switched off"],
)
def test_what_cannot_expire_is_not_foreseen(change):
    card = make_card(points=1, at=NOON - days(150))
    merchant = card.program.merchant
    assert foreseen(merchant)
    change(card)

    assert foreseen(merchant) == {}
    assert overdue(merchant) == NOTHING


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Kiritimati"])
@pytest.mark.parametrize("requires_notice", [True, False])
def test_the_report_says_of_each_card_what_the_policy_says(zone, requires_notice):
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    merchant = make_merchant(timezone=zone, points_expiration_days=60, require_expiration_notice=requires_notice)
    for _ in range(40):
        make_card(merchant, points=dice.randint(1, 50), at=NOON - timedelta(minutes=dice.randrange(100 * 1440)))
    expire(NOON - days(7))

    expected: Counter[date] = Counter()
    for card in Card.objects.select_related("balance", "program__merchant"):
        if last_day := explaining.keeps_until(card, at=NOON):
            expected[last_day] += card.balance.points_balance
    report = reports.expiring_by_date(merchant=merchant, at=NOON)

    today = NOON.astimezone(merchant.zone).date()
    assert {line.day: line.points for line in report.days if line.points} == {
        last_day: points for last_day, points in expected.items() if last_day >= today
    }
    assert report.overdue_points == sum(points for last_day, points in expected.items() if last_day < today)


def test_what_the_report_foresees_is_what_the_runs_then_take():
    merchant = make_merchant()
    for idle_days in range(0, 400, 9):
        make_card(merchant, points=idle_days + 1, at=NOON - days(idle_days))
    expire(NOON)
    report = reports.expiring_by_date(merchant=merchant, at=NOON, days=40)

    taken = [expire(NOON + days(number)).tally for number in range(1, 41)]

    assert [(tally.cards_expired, tally.points_expired) for tally in taken] == [
        (line.cards, line.points) for line in report.days
    ]
    assert sum(tally.cards_expired for tally in taken) > 20


@pytest.mark.parametrize("number", [0, 367, -1])
def test_days_that_cannot_be_shown_are_refused(number):
    with pytest.raises(InvalidInput) as refusal:
        reports.expiring_by_date(merchant=make_merchant(), at=NOON, days=number)

    assert refusal.value.details == {"field": "days"}


# --- undelivered warnings


def undelivered(merchant: Merchant, limit: int = 50) -> list[reports.UndeliveredWarning]:
    return reports.undelivered_warnings(merchant=merchant, limit=limit)


def test_warnings_without_an_address_are_listed():
    merchant = make_merchant()
    card = make_card(merchant, points=9, at=NOON - days(170), email="", external_id="K-1")
    make_card(merchant, points=9, at=NOON - days(170))
    make_card(points=9, at=NOON - days(170), email="", external_id="K-1")
    expire(NOON)

    [warning] = undelivered(merchant)

    assert (warning.card_id, warning.warned_at, warning.promised_on) == (card.pk, NOON, day(14))
    assert warning.reason == "The customer has no e-mail address."


@pytest.mark.parametrize(
    ("attempts", "reason"),
    [
        (1, "The mail server refused the message for good."),
        (7, "The message was given up after 7 attempts."),
    ],
)
def test_warnings_that_were_given_up_are_listed_without_what_the_server_said(attempts, reason):
    card = make_card(points=9, at=NOON - days(170), email="ana@example.com")
    expire(NOON)
    Message.objects.update(status="dead", attempts=attempts, last_error="550 <ana@example.com> unknown")

    [warning] = undelivered(card.program.merchant)

    assert warning.reason == reason
    assert "ana" not in str(asdict(warning))


@pytest.mark.parametrize("status", ["due", "sent", "cancelled"])
def test_other_warnings_are_not_listed(status):
    card = make_card(points=9, at=NOON - days(170))
    expire(NOON)
    moments = {"sent_at": NOON} if status == "sent" else {"cancelled_at": NOON} if status == "cancelled" else {}
    Message.objects.update(status=status, **moments)

    assert undelivered(card.program.merchant) == []


def test_other_messages_are_not_listed():
    card = make_card(points=9, email="", external_id="K-1")
    assert Message.objects.filter(status="undeliverable").exists()

    assert undelivered(card.program.merchant) == []


def test_the_newest_undelivered_warnings_come_first():
    merchant = make_merchant()
    cards = [
        make_card(merchant, points=9, at=NOON - days(175 - number), email="", external_id=f"K-{number}")
        for number in range(4)
    ]
    for number in range(4):
        expire(NOON - days(9 - number))

    assert [warning.card_id for warning in undelivered(merchant, limit=3)] == [card.pk for card in reversed(cards[1:])]


def test_an_erased_warning_does_not_know_its_day_any_more():
    card = make_card(points=9, at=NOON - days(170), email="", external_id="K-1")
    expire(NOON)
    notifications.scrub(reference=str(card.pk), at=NOON)

    [warning] = undelivered(card.program.merchant)

    assert (warning.card_id, warning.promised_on) == (card.pk, None)


@pytest.mark.parametrize("limit", [0, 201])
def test_a_limit_that_cannot_be_shown_is_refused(limit):
    with pytest.raises(InvalidInput) as refusal:
        undelivered(make_merchant(), limit)

    assert refusal.value.details == {"field": "limit"}


def test_a_day_is_one_in_the_shop():
    merchant = make_merchant(timezone="America/New_York")
    make_card(merchant, points=9, at=datetime(2026, 1, 1, 4, 30, tzinfo=UTC))  # 23:30 on 31 December

    assert foreseen(merchant, days=366) == {date(2025, 12, 31) + timedelta(days=180): (1, 9)}
