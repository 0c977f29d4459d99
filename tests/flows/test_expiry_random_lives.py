"""Random sales, redemptions, restores, exemptions, changes of policy and pauses; every expiry must be justified.

The proof looks at ledger rows and mails alone, as a customer with a complaint would.
"""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from loyalty.errors import LoyaltyError
from loyalty.models import Card, Program, Store, Transaction
from loyalty.services import adjustments, earning, policies, redeeming, restoring
from loyalty.services.ledger_check import check_ledger
from loyalty.services.policies import PolicyTerms
from notifications.models import Message
from tests.factories import make_card, make_merchant, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db
BEGIN = datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def no_guard(settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 0


@dataclass
class Shop:
    """A shop, its cards, and what the test itself remembers about its policy."""

    store: Store
    cards: list[Card]
    dice: random.Random
    terms: list[tuple[datetime, PolicyTerms]] = field(default_factory=list)
    pauses: list[tuple[date, date]] = field(default_factory=list)
    exempt: dict[int, list[tuple[datetime, bool]]] = field(default_factory=dict)
    days_lived: int = 0

    @property
    def program(self) -> Program:
        return Program.objects.select_related("merchant").get(merchant=self.store.merchant)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.store.merchant.timezone)

    def local(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def terms_at(self, moment: datetime) -> PolicyTerms:
        return [terms for since, terms in self.terms if since <= moment][-1]

    def live(self, number_of_days: int) -> None:
        for day in range(self.days_lived, self.days_lived + number_of_days):
            for _ in range(self.dice.randrange(3)):
                self._something_happens(BEGIN + day * DAY + timedelta(minutes=self.dice.randrange(720)))
            assert expire(BEGIN + (day + 1) * DAY - timedelta(hours=6)).failed_card_ids == []
        self.days_lived += number_of_days

    def _something_happens(self, at: datetime) -> None:
        card = self.dice.choice(self.cards)
        acts = [self._sell] * 6 + [self._redeem] * 3 + [self._adjust, self._restore, self._exempt, self._change_policy]
        with suppress(LoyaltyError):  # a refusal is fine
            self.dice.choice(acts)(card, at)

    def _sell(self, card: Card, at: datetime) -> None:
        late = timedelta(hours=self.dice.choice([0, 0, 0, 1, 30, 71]))
        earning.earn(
            store=self.store,
            card_id=card.pk,
            amount_minor=self.dice.randrange(9000),
            at=at,
            transaction_at=max(at - late, BEGIN),
        )

    def _redeem(self, card: Card, at: datetime) -> None:
        redeeming.redeem_points(store=self.store, card_id=card.pk, points=self.dice.randint(1, 120), at=at)

    def _adjust(self, card: Card, at: datetime) -> None:
        points = self.dice.choice([-50, -1, 1, 50])
        adjustments.adjust(
            merchant=self.store.merchant, card_id=card.pk, points=points, reason="Dice", actor="dice", at=at
        )

    def _restore(self, card: Card, at: datetime) -> None:
        restoring.restore_points(
            merchant=self.store.merchant, card_id=card.pk, points=10, reason="Dice", actor="dice", at=at
        )

    def _exempt(self, card: Card, at: datetime) -> None:
        is_exempt = Card.objects.get(pk=card.pk).expiration_exempt
        change = adjustments.end_exemption if is_exempt else adjustments.exempt_from_expiry
        change(merchant=self.store.merchant, card_id=card.pk, reason="Dice", actor="dice", at=at)
        self.exempt.setdefault(card.pk, []).append((at, not is_exempt))

    def _change_policy(self, card: Card, at: datetime) -> None:
        today, dice = self.local(at), self.dice
        choices: list[dict[str, Any]] = [
            {"points_expiration_days": dice.choice([None, 8, 10, 15, 25])},
            {"expiration_warning_days": dice.choice([0, 2, 4, 7])},
            {"expiration_paused_until": dice.choice([None, today, today + dice.randint(-5, 12) * DAY])},
        ]
        terms = PolicyTerms(**{**vars(PolicyTerms.of(self.program)), **dice.choice(choices)})
        policies.change_policy(program_id=self.program.pk, terms=terms, actor="dice", at=at, confirmed_cards=10**6)
        if self.pauses and self.pauses[-1][1] >= today:
            self.pauses[-1] = (self.pauses[-1][0], today - DAY)
        if terms.expiration_paused_until and terms.expiration_paused_until >= today:
            self.pauses.append((today, terms.expiration_paused_until))
        self.terms.append((at, terms))


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Kiritimati", "Europe/Luxembourg"])
def test_every_expiry_of_a_random_life_is_justified(zone):
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    shop = make_shop(zone, random.Random(seed))

    shop.live(number_of_days=120)

    expiries = Transaction.objects.filter(type="POINTS_EXPIRED", card__in=shop.cards).order_by("pk")
    while not expiries.exists():  # the dice may forbid it for months
        shop.live(number_of_days=30)
    for row in expiries:
        assert_was_idle_for_the_whole_term(shop, row)
        assert_was_warned_with_the_full_notice(shop, row)
        assert_was_not_exempt_or_paused(shop, row)
    assert_one_message_per_cycle_and_day()
    assert check_ledger().mismatches == []


def make_shop(zone: str, dice: random.Random) -> Shop:
    merchant = make_merchant(timezone=zone, points_expiration_days=10, expiration_warning_days=4)
    cards = [make_card(merchant, points=100, at=BEGIN) for _ in range(8)]
    shop = Shop(make_store(merchant), cards, dice)
    shop.terms.append((BEGIN, PolicyTerms.of(merchant.program)))
    return shop


def assert_was_idle_for_the_whole_term(shop: Shop, row: Transaction) -> None:
    earlier = Transaction.objects.filter(card=row.card, seq__lt=row.seq)
    active = [
        other.transaction_at
        for other in earlier
        if other.type in Transaction.COUNTS_AS_ACTIVITY or (other.type == "ADMIN_ADJUSTMENT" and other.points_delta > 0)
    ]
    term = timedelta(days=shop.terms_at(row.created_at).points_expiration_days or 0)
    assert term
    assert shop.local(row.created_at) > shop.local(max(active)) + term


def assert_was_warned_with_the_full_notice(shop: Shop, row: Transaction) -> None:
    assert row.cycle_started_at is not None
    about = f"loyalty_points_expiring:{row.card_id}:{row.cycle_started_at.isoformat()}:"
    mails = list(Message.objects.filter(dedupe_key__startswith=about, created_at__lt=row.created_at))
    promised = [date.fromisoformat(mail.context["expires_on"]) for mail in mails]
    warned_on = shop.local(datetime.fromisoformat(row.details["warned_at"]))
    assert row.details["warned_for"] in map(str, promised), "nothing goes without a mail that names the day"
    assert shop.local(row.created_at) > max(promised)
    notice = timedelta(days=shop.terms_at(datetime.fromisoformat(row.details["warned_at"])).expiration_warning_days)
    assert max(promised) >= warned_on + notice
    assert all(warned_on > last_day for _, last_day in shop.pauses if last_day < shop.local(row.created_at))


def assert_was_not_exempt_or_paused(shop: Shop, row: Transaction) -> None:
    exempt = [state for since, state in shop.exempt.get(row.card_id, []) if since <= row.created_at]
    assert not (exempt and exempt[-1])
    paused_until = shop.terms_at(row.created_at).expiration_paused_until
    assert paused_until is None or shop.local(row.created_at) > paused_until


def assert_one_message_per_cycle_and_day() -> None:
    keys = Message.objects.filter(kind__startswith="loyalty_points_exp").values_list("dedupe_key", flat=True)
    assert len(keys) == len(set(keys))
