import random
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction
from django.utils import timezone

from loyalty.models import Card, CardBalance, Customer, ExpirationRun, Merchant, Transaction
from loyalty.services import expiration
from loyalty.services.expiring import Tally
from notifications.models import Message
from tests.factories import days, make_cards, make_merchant
from tests.loyalty.oracle import expire_points_per_card
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db
AS_OF = datetime(2026, 3, 30, 2, 0, tzinfo=UTC)
ZONES = ["UTC", "Europe/Luxembourg", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu", "Pacific/Pago_Pago"]
NIGHTS = 3


@pytest.fixture(autouse=True)
def no_guard(settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 0


@pytest.fixture
def dice():
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.mark.parametrize("without_notice", [False, True], ids=["as the policy says", "without notice"])
@pytest.mark.parametrize("attempt", range(3))
def test_sets_come_out_as_card_by_card(dice, attempt, without_notice):
    for _ in range(8):
        make_random_merchant(dice, cards=15)
    for night in range(NIGHTS):
        as_of = AS_OF + timedelta(days=night, hours=dice.randrange(24))

        told = outcome(lambda as_of=as_of: preview(as_of, without_notice))
        in_sets = outcome(lambda as_of=as_of: set_based(as_of, without_notice))
        card_by_card = outcome(lambda as_of=as_of: one_by_one(as_of, without_notice))

        assert differing(in_sets, card_by_card) == []
        assert told["counts"] == in_sets["counts"]
        set_based(as_of, without_notice)


def test_random_data_reaches_every_branch(dice):
    for _ in range(40):
        make_random_merchant(dice, cards=15)

    done = set_based(AS_OF, False)

    assert min(done) > 0


def make_random_merchant(dice: random.Random, *, cards: int) -> Merchant:
    """A merchant whose cards stand everywhere around their warning and their last day."""
    expires_after, warning = dice.choice([(180, 14), (30, 14), (15, 14), (2, 1), (1, 0)])
    notice = dice.random() < 0.7
    merchant = make_merchant(
        timezone=dice.choice(ZONES),
        points_expiration_days=dice.choice([expires_after] * 8 + [0, None]),
        expiration_warning_days=warning if notice or dice.random() < 0.5 else 30,
        require_expiration_notice=notice,
        expiration_paused_until=dice.choice([None] * 4 + [AS_OF.date() + days(n) for n in (-10, -1, 0, 1)]),
        is_active=dice.random() < 0.9,
    )
    Merchant.objects.filter(pk=merchant.pk).update(is_active=dice.random() < 0.95)
    for card in make_cards(merchant, cards, points=dice.choice([1, 50, 1_000_000])):
        make_random_past(dice, card, expires_after=expires_after, warning=warning)
    return merchant


def make_random_past(dice: random.Random, card: Card, *, expires_after: int, warning: int) -> None:
    zone = ZoneInfo(card.program.merchant.timezone)
    idle_days = expires_after + dice.choice([-warning - 1, -warning, -warning + 1, -1, 0, 1, 2, warning, 400])
    active_on = AS_OF.astimezone(zone).date() - timedelta(days=max(idle_days, 0))
    active_at = datetime.combine(active_on, dice.choice([time.min, time(12, 0, 0, 500000), time.max]), zone)
    warned_at, warned_for = make_random_warning(dice, active_on + timedelta(days=expires_after), warning)
    CardBalance.objects.filter(card=card).update(
        last_activity_at=active_at, last_expiration_warning_at=warned_at, expiration_warned_for=warned_for
    )
    Card.objects.filter(pk=card.pk).update(
        status=dice.choice(["active"] * 9 + ["suspended", "closed"]),
        expiration_exempt=dice.random() < 0.1,
        expiration_exempt_reason="Asked for it",
    )
    if dice.random() < 0.2:
        Customer.objects.filter(pk=card.customer_id).update(email="")


def make_random_warning(dice: random.Random, expires_on: date, warning: int) -> tuple[datetime | None, date | None]:
    """Never warned, warned in time, warned late, or warned in a cycle that was forgotten."""
    warned_at = AS_OF - timedelta(days=dice.choice([0, 1, warning, warning + 1, 40]), minutes=dice.choice([0, 1]))
    promised = dice.choice([expires_on, expires_on + days(1), *(AS_OF.date() + days(n) for n in (-1, 0, 1))])
    return dice.choice([(None, None), (None, promised), *[(warned_at, max(promised, expires_on))] * 3])


def preview(as_of: datetime, without_notice: bool) -> tuple[int, int, int]:
    return counted(expiration.preview_expiration(as_of=as_of, without_notice=without_notice).tally)


def set_based(as_of: datetime, without_notice: bool) -> tuple[int, int, int]:
    report = expire(as_of, without_notice=without_notice, reason="night", initiated_by="ops", batch_size=7)
    assert report.failed_card_ids == []
    return counted(report.tally)


def counted(tally: Tally) -> tuple[int, int, int]:
    return tally.cards_expired, tally.points_expired, tally.warnings


def one_by_one(as_of: datetime, without_notice: bool) -> tuple[int, int, int]:
    run = ExpirationRun.objects.create(
        trigger="command", as_of=as_of, started_at=timezone.now(), reason="night", initiated_by="ops"
    )
    expire_points_per_card(as_of, run, without_notice=without_notice)
    run.refresh_from_db()
    return run.cards_expired, run.points_expired, run.warnings


def outcome(way: Any) -> dict[str, Any]:
    """What one way leaves behind, on a copy of the data: all is taken back afterwards."""
    with transaction.atomic():
        counts = way()
        left = {"counts": counts, "balances": balances(), "rows": rows(), "messages": messages()}
        transaction.set_rollback(True)
    return left


def balances() -> list[dict[str, Any]]:
    return [dict(row) for row in CardBalance.objects.order_by("pk").values()]


def rows() -> list[dict[str, Any]]:
    """Ledger rows, less their numbers and their run's; moments in details are compared as moments."""
    found: list[dict[str, Any]] = [dict(row) for row in Transaction.objects.order_by("card", "seq").values()]
    for row in found:
        del row["id"]
        assert row["details"].pop("run", None) == row.pop("expiration_run_id")
        for name in ("last_activity_at", "warned_at"):
            if row["details"].get(name):
                row["details"][name] = datetime.fromisoformat(row["details"][name])
    return found


def messages() -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "id"} for row in Message.objects.order_by("dedupe_key").values()]


def differing(these: dict[str, Any], those: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What only one of two outcomes has, most telling first."""
    found: list[tuple[str, str, str]] = []
    for name, left in these.items():
        sides = [list(map(repr, side)) for side in (left, those[name])]
        found += [(name, "in sets", item) for item in sides[0] if item not in sides[1]]
        found += [(name, "card by card", item) for item in sides[1] if item not in sides[0]]
    return found
