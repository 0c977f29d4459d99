"""A shop's own purchases, replayed: what a policy would have done to its customers, night after night."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from django.db.models import Count, Q, Sum

from loyalty.errors import InvalidInput
from loyalty.models import CardBalance, ExpirationRun, Merchant, Store, Transaction, TransactionType
from loyalty.services import earning, enrolment, expiration, merchants, policies, purchase_log
from loyalty.services.enrolment import Person
from loyalty.services.purchase_log import Purchase, PurchaseLog
from notifications.models import Message

NIGHT, NOON = time(2, tzinfo=UTC), time(12, tzinfo=UTC)
CURRENCY = "USD"
ACTOR = "replay"


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """What is replayed, and under which rules.

    `last_day` moves all dates by whole days so that the last purchase falls on it; `until` (after that move) is
    the last night, by default the one after the last purchase. `email_domain` gives customers an address each.
    `name` is what customers read, by default the slug.
    """

    path: Path
    slug: str
    name: str = ""
    points_per_unit: Decimal
    expiration_days: int
    warning_days: int
    until: date | None = None
    last_day: date | None = None
    email_domain: str = ""


@dataclass(frozen=True)
class ReplayTotals:
    """What happened to the merchant. `expired_cards` counts expiries, so a card may count twice."""

    purchases: int
    cards: int
    points_earned: int
    expired_cards: int
    expired_points: int
    warnings: int
    points_outstanding: int
    cards_with_balance: int


class Progress(NamedTuple):
    """How far a replay has come."""

    day: date
    purchases: int
    of_purchases: int
    cards: int


def replay_purchases(
    *,
    plan: ReplayPlan,
    today: date,
    clock: Callable[[], datetime],
    progress: Callable[[Progress], None] = lambda _: None,
) -> ReplayTotals:
    """Feed a purchase log through the enrol and earn verbs and run the real expiry every night.

    Purchases happen at 12:00 UTC of their day, expiry at 02:00 UTC. Creates the merchant (UTC, USD). Rows are
    created as of their moment; `clock` gives the real time at which the expiration runs start.

    Raises:
        MerchantExists: the slug is taken.
        ImportRefused: the file has problems; details name them by line, and nothing was created.
        InvalidInput: the plan contradicts itself or the file. InvalidPolicy: so do its days.
    """
    _check(plan)
    merchants.require_free_slug(plan.slug)
    with purchase_log.staged(plan.path, currency=CURRENCY, today=today, last_day=plan.last_day) as log:
        until = plan.until or log.last_day + timedelta(days=1)
        if until < log.first_day:
            raise InvalidInput(f"The first purchase is on {log.first_day}, after the end of the replay on {until}.")
        store = _open(plan)
        _Replay(store, plan, log, clock, progress).through(until)
    return totals(store.merchant)


def totals(merchant: Merchant) -> ReplayTotals:
    """Sum up a merchant from its ledger, its balances and its messages: each warning is one."""
    rows = Transaction.objects.filter(merchant=merchant).aggregate(
        purchases=Count("pk", filter=Q(type=TransactionType.POINTS_EARNED)),
        earned=Sum("points_delta", filter=Q(type=TransactionType.POINTS_EARNED), default=0),
        expiries=Count("pk", filter=Q(type=TransactionType.POINTS_EXPIRED)),
        expired=Sum("points_delta", filter=Q(type=TransactionType.POINTS_EXPIRED), default=0),
    )
    balances = CardBalance.objects.filter(card__program__merchant=merchant).aggregate(
        cards=Count("pk"),
        points=Sum("points_balance", default=0),
        with_points=Count("pk", filter=Q(points_balance__gt=0)),
    )
    warnings = Message.objects.filter(kind=Message.Kind.POINTS_EXPIRING, scope=str(merchant.pk))
    return ReplayTotals(
        purchases=rows["purchases"],
        cards=balances["cards"],
        points_earned=rows["earned"],
        expired_cards=rows["expiries"],
        expired_points=-rows["expired"],
        warnings=warnings.count(),
        points_outstanding=balances["points"],
        cards_with_balance=balances["with_points"],
    )


def _check(plan: ReplayPlan) -> None:
    policies.validate_terms(
        policies.PolicyTerms(
            points_expiration_days=plan.expiration_days,
            expiration_warning_days=plan.warning_days,
            require_expiration_notice=True,
            expiration_paused_until=None,
        )
    )
    rate = plan.points_per_unit
    if not rate.is_finite() or not 0 <= rate < 1_000_000 or rate != round(rate, 4):
        raise InvalidInput("Points per unit are a number from 0 to 999999.9999, with 4 decimals at most.")


def _open(plan: ReplayPlan) -> Store:
    return merchants.open_merchant(
        slug=plan.slug,
        name=plan.name or plan.slug,
        currency=CURRENCY,
        timezone="UTC",
        store_name="Shop",
        points_per_unit=plan.points_per_unit,
        points_expiration_days=plan.expiration_days,
        expiration_warning_days=plan.warning_days,
    )


class _Replay:
    """One replay on its way through the days."""

    def __init__(
        self,
        store: Store,
        plan: ReplayPlan,
        log: PurchaseLog,
        clock: Callable[[], datetime],
        progress: Callable[[Progress], None],
    ) -> None:
        self.store, self.plan, self.log, self.clock, self.progress = store, plan, log, clock, progress
        self.cards: dict[str, int] = {}
        self.purchases = 0

    def through(self, until: date) -> None:
        day, of_purchases = self.log.first_day, self.log.count_until(until)
        while day <= until:
            self._night(day)
            for purchase in self.log.on(day):
                self._buy(purchase, at=datetime.combine(day, NOON))
            self.progress(Progress(day, self.purchases, of_purchases, len(self.cards)))
            day += timedelta(days=1)

    def _night(self, day: date) -> None:
        expiration.expire_points(
            as_of=datetime.combine(day, NIGHT),
            at=self.clock(),
            trigger=ExpirationRun.Trigger.COMMAND,
            merchant=self.store.merchant,
            initiated_by=ACTOR,
            # Nobody is there to confirm a number; every card of this merchant is one that may go.
            confirmed_cards=len(self.cards),
        )

    def _buy(self, purchase: Purchase, *, at: datetime) -> None:
        card_id = self.cards.get(purchase.customer)
        if card_id is None:
            card_id = self.cards[purchase.customer] = self._enrol(purchase.customer, at=at)
        earning.earn(store=self.store, card_id=card_id, amount_minor=purchase.amount_minor, at=at, actor=ACTOR)
        self.purchases += 1

    def _enrol(self, customer: str, *, at: datetime) -> int:
        domain = self.plan.email_domain
        email = f"customer-{len(self.cards) + 1}@{domain}" if domain else ""
        person = Person(external_id=customer, email=email)
        return enrolment.enrol(merchant=self.store.merchant, person=person, store=self.store, at=at, actor=ACTOR).pk
