"""What a change of policy is said to mean, against what the nights after it do."""

import random
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction

from loyalty.models import Card, CardBalance, Program
from loyalty.services import expiration, policies
from loyalty.services.policies import PolicyTerms
from loyalty.services.policy_impact import PolicyImpact
from tests.factories import days, make_card, make_cards, make_merchant
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 30, 15, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_guard(settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 0


def terms(program: Program, **changes: Any) -> PolicyTerms:
    return PolicyTerms(**{**vars(PolicyTerms.of(program)), **changes})


def preview(program: Program, at: datetime = AT, **changes: Any) -> PolicyImpact:
    return policies.preview_policy(program=program, terms=terms(program, **changes), at=at)


def test_switching_on_tells_cards_points_warnings_and_the_first_loss():
    merchant = make_merchant(points_expiration_days=None)
    make_cards(merchant, 3, points=10, at=AT - days(400))
    make_cards(merchant, 2, points=5, at=AT - days(170))
    make_cards(merchant, 4, points=1, at=AT)

    impact = preview(merchant.program, points_expiration_days=180)

    assert impact == PolicyImpact(3, 30, 5, date(2026, 4, 14), needs_confirmation=True)
    assert impact.sentence == (
        "3 cards with 30 points are past the limit today. The next run would send 5 warnings. "
        "The first points could be gone on 14 April 2026."
    )
    assert impact.as_json() == {
        "cards_past_limit": 3,
        "points_past_limit": 30,
        "warnings": 5,
        "first_loss_on": "2026-04-14",
        "needs_confirmation": True,
    }


def test_a_policy_without_expiry_takes_nothing():
    merchant = make_merchant()
    make_card(merchant, points=10, at=AT - days(400))

    impact = preview(merchant.program, points_expiration_days=None)

    assert impact == PolicyImpact(0, 0, 0, None, needs_confirmation=False)
    assert impact.sentence == "With this policy no card can lose points."
    assert impact.as_json()["first_loss_on"] is None


def test_a_program_without_points_can_lose_none():
    impact = preview(make_merchant().program, points_expiration_days=90)

    assert impact == PolicyImpact(0, 0, 0, None, needs_confirmation=True)


def test_cards_that_cannot_expire_are_not_counted():
    merchant = make_merchant(points_expiration_days=None)
    for change in ({"status": "suspended"}, {"expiration_exempt": True, "expiration_exempt_reason": "VIP"}):
        card = make_card(merchant, points=10, at=AT - days(400))
        Card.objects.filter(pk=card.pk).update(**change)
    make_card(make_merchant(), points=10, at=AT - days(400))

    assert preview(merchant.program, points_expiration_days=180).cards_past_limit == 0


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"points_expiration_days": 181}, False),
        ({"points_expiration_days": 179}, True),
        ({"points_expiration_days": None}, False),
        ({"expiration_warning_days": 13}, True),
        ({"expiration_warning_days": 15}, False),
        ({"require_expiration_notice": False}, True),
        ({"expiration_paused_until": date(2026, 5, 1)}, False),
        ({"points_expiration_days": 365, "expiration_warning_days": 7}, True),
    ],
    ids=["longer", "shorter", "never", "shorter notice", "longer notice", "no notice", "a pause", "longer with less"],
)
def test_only_what_takes_points_sooner_needs_a_confirmation(changes, needed):
    assert preview(make_merchant().program, **changes).needs_confirmation is needed


@pytest.mark.parametrize(
    ("paused_until", "changed_to", "needed"),
    [
        (date(2026, 4, 30), None, True),
        (date(2026, 4, 30), date(2026, 4, 29), True),
        (date(2026, 4, 30), date(2026, 5, 31), False),
        (date(2026, 3, 30), None, False),
        (date(2026, 3, 29), None, False),
    ],
    ids=["ended", "shortened", "prolonged", "ended on its last day", "over already"],
)
def test_ending_or_shortening_a_pause_needs_a_confirmation(paused_until, changed_to, needed):
    program = make_merchant(expiration_paused_until=paused_until).program

    assert preview(program, expiration_paused_until=changed_to).needs_confirmation is needed


def test_turning_notice_on_needs_no_confirmation():
    program = make_merchant(require_expiration_notice=False).program

    assert not preview(program, require_expiration_notice=True).needs_confirmation


def test_a_preview_writes_nothing():
    program = make_merchant().program
    make_cards(program.merchant, 2, at=AT - days(400))

    preview(program, points_expiration_days=30)

    program.refresh_from_db()
    assert (program.points_expiration_days, program.version) == (180, 1)


# --- against brute force


@pytest.fixture
def dice():
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize("attempt", range(25))
def test_the_numbers_are_those_of_the_next_run(dice, attempt):
    program = make_random_program(dice, cards=12)
    changes = random_changes(dice, program)

    impact = preview(program, **changes)

    with transaction.atomic():
        change(program, changes)
        assert impact.cards_past_limit == len(past_limit(program))
        assert impact.points_past_limit == sum(balance.points_balance for balance in past_limit(program))
        assert impact.warnings == expiration.preview_expiration(as_of=AT).tally.warnings
        transaction.set_rollback(True)


@pytest.mark.parametrize("attempt", range(12))
def test_no_points_are_gone_before_the_day_that_is_shown(dice, attempt):
    program = make_random_program(dice, cards=6)
    changes = random_changes(dice, program)
    impact = preview(program, **changes)

    change(program, changes)

    first_loss = night_of_the_first_loss(program)
    assert (impact.first_loss_on is None) == (first_loss is None)
    assert (impact.first_loss_on or date.min) <= (first_loss or date.max)


@pytest.mark.parametrize(
    ("idle_days", "changes", "first_loss_on"),
    [
        (400, {}, date(2026, 4, 14)),
        (170, {}, date(2026, 4, 14)),
        (160, {}, date(2026, 4, 20)),
        (400, {"require_expiration_notice": False}, date(2026, 3, 30)),
        (170, {"require_expiration_notice": False}, date(2026, 4, 10)),
        (400, {"expiration_paused_until": date(2026, 4, 30)}, date(2026, 5, 16)),
        (400, {"expiration_warning_days": 0}, date(2026, 3, 31)),
    ],
    ids=["dormant", "near", "in time", "plain rule", "plain rule in time", "paused first", "warned on the day"],
)
def test_the_first_loss_of_one_card_is_known_exactly(idle_days, changes, first_loss_on):
    program = make_merchant(points_expiration_days=None).program
    make_card(program.merchant, points=10, at=AT - days(idle_days))
    changes = {"points_expiration_days": 180, **changes}

    assert preview(program, **changes).first_loss_on == first_loss_on

    change(program, changes)
    assert night_of_the_first_loss(program) == first_loss_on


def change(program: Program, changes: dict[str, Any]) -> None:
    policies.change_policy(
        program_id=program.pk, terms=terms(program, **changes), actor="kim", at=AT, confirmed_cards=10**6
    )
    program.refresh_from_db()


def past_limit(program: Program) -> list[CardBalance]:
    zone, limit = ZoneInfo(program.merchant.timezone), timedelta(days=program.points_expiration_days or 10**5)
    today = AT.astimezone(zone).date()
    balances = CardBalance.objects.filter(card__status="active", card__expiration_exempt=False, points_balance__gt=0)
    return [
        balance
        for balance in balances
        if today > balance.last_activity_at.astimezone(zone).date() + limit
        and today > (balance.expiration_warned_for or date.min)
    ]


def night_of_the_first_loss(program: Program) -> date | None:
    """The local day of the first run that takes points; runs begin today and come every day."""
    if not program.points_expiration_days:
        return None
    zone = ZoneInfo(program.merchant.timezone)
    for night in range(300):
        if expire(AT + days(night)).tally.cards_expired:
            return (AT + days(night)).astimezone(zone).date()
    return None


def make_random_program(dice: random.Random, *, cards: int) -> Program:
    days_of_expiry = dice.choice([None, 30, 60])
    program = make_merchant(
        timezone=dice.choice(["UTC", "America/Los_Angeles", "Pacific/Kiritimati"]),
        points_expiration_days=days_of_expiry,
        expiration_warning_days=dice.choice([0, 7, 14]),
        require_expiration_notice=dice.random() < 0.7,
        expiration_paused_until=dice.choice([None, None, AT.date() + days(dice.randint(-20, 20))]),
    ).program
    zone = ZoneInfo(program.merchant.timezone)
    for card in make_cards(program.merchant, cards, points=dice.randint(1, 9)):
        active_on = AT.date() - timedelta(days=dice.randint(0, 90))
        active_at = datetime.combine(active_on, dice.choice([time.min, time.max]), zone)
        expires_on = active_on + timedelta(days=days_of_expiry or 0)
        warned_at = dice.choice([None, AT - days(dice.randint(0, 30))])
        promised = max(expires_on, AT.date() + days(dice.randint(-2, 20)))
        CardBalance.objects.filter(card=card).update(
            last_activity_at=active_at,
            last_expiration_warning_at=warned_at,
            expiration_warned_for=promised if warned_at else dice.choice([None, promised]),
        )
    return program


def random_changes(dice: random.Random, program: Program) -> dict[str, Any]:
    """Some other terms, which do not contradict each other."""
    choices: list[dict[str, Any]] = [
        {"points_expiration_days": dice.choice([None, 20, 30, 45, 60, 61, 90])},
        {"expiration_warning_days": dice.choice([0, 3, 7, 10, 19])},
        {"require_expiration_notice": not program.require_expiration_notice},
        {"expiration_paused_until": dice.choice([None, AT.date() + days(dice.randint(-25, 25))])},
    ]
    changes: dict[str, Any] = {}
    while terms(program, **changes) == PolicyTerms.of(program):
        changes = {"points_expiration_days": program.points_expiration_days or 25, **dice.choice(choices)}
    return changes
