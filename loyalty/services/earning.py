"""Purchases become points."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import IntegrityError, connection, transaction

from loyalty.errors import (
    BelowMinimumPurchase,
    CardNotActive,
    CardOfAnotherStore,
    DailyLimitReached,
    DuplicateReceipt,
    InvalidAmount,
    MomentNotAccepted,
    NotInThisProgram,
    ReceiptRequired,
)
from loyalty.models import Campaign, Card, Program, ReceiptClaim, StaffMember, Store, Transaction, TransactionType
from loyalty.models.money import MAX_AMOUNT_MINOR, spelled
from loyalty.services import ledger
from loyalty.services.finding import card_of
from loyalty.services.ledger import Move
from loyalty.services.once import Client, Request, once

log = structlog.get_logger()
OLDEST_OFFLINE_SALE = timedelta(hours=72)
CLOCK_DRIFT_OF_TILLS = timedelta(minutes=5)


class Worth(NamedTuple):
    """What a purchase earns, and the campaign that made it more."""

    points: int
    campaign: Campaign | None


class Preview(NamedTuple):
    """What a purchase would earn on a card, and what the card would hold then."""

    points: int
    points_balance_after: int
    campaign: Campaign | None


class _Facts(NamedTuple):
    """What else an earn depends on: the sales of the day so far, what has expired, the campaigns of the store."""

    earns_today: int
    expiry_since: int | None
    cycle_has_expired: bool
    campaigns: list[Campaign]


def earn(
    *,
    store: Store,
    card_id: int,
    amount_minor: int,
    at: datetime,
    transaction_at: datetime | None = None,
    receipt_number: str = "",
    staff_member: StaffMember | None = None,
    actor: str = "",
    client: Client | None = None,
    request: Request | None = None,
) -> Transaction:
    """Give a card the points a purchase is worth.

    `amount_minor` is in minor units of the merchant's currency, after any discount paid with points.
    `transaction_at` is the moment of the sale when a till was offline; by default it is `at`.
    A purchase worth 0 points is a row all the same, and an activity. An offline sale from before the card's last
    expiry says so in its details.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not earn here.
        InvalidAmount: it is negative or larger than any sale.
        MomentNotAccepted: the sale is more than 72 hours old or more than 5 minutes in the future.
        BelowMinimumPurchase: the program earns nothing under its minimum.
        ReceiptRequired, DuplicateReceipt: the receipt number is missing, or has earned already.
        DailyLimitReached: the card has earned as often today as the program allows.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    with once(request), _receipts_earn_once(store, receipt_number), transaction.atomic():
        # Inside: a late repeat of an offline sale is answered, however old the sale has become.
        moment = accepted_moment(transaction_at or at, at=at)
        card = ledger.lock(card_id, merchant=store.merchant, request=request)
        require_usable(card, store=store)
        require_kind(card.program, Program.Kind.POINTS)
        _require_sale(card.program, amount_minor=amount_minor, receipt_number=receipt_number)
        facts = _facts(card.program, store=store, moment=moment, card=card)
        _require_below_daily_limit(card.program, facts.earns_today, at=at)
        worth = _best(card.program, amount_minor, facts.campaigns, moment)
        move = Move(
            type=TransactionType.POINTS_EARNED,
            points=worth.points,
            amount_minor=amount_minor,
            points_per_unit=card.program.points_per_unit,
            store=store,
            staff_member=staff_member,
            actor=actor,
            receipt_number=receipt_number,
            transaction_at=moment,
            details=_campaign_details(worth.campaign) | _expired_since(facts),
            cycle_has_expired=facts.cycle_has_expired,
            client=client,
            request=request,
        )
        row = ledger.post(card, move, at=at)
    log.info("loyalty.points_earned", card_id=card_id, store_id=store.pk, transaction_id=row.pk, points=worth.points)
    return row


def preview(
    *, store: Store, card_id: int, amount_minor: int, at: datetime, transaction_at: datetime | None = None
) -> Preview:
    """Tell what a purchase would earn, by the rules of `earn`. Reads only; limits of the day are not looked at.

    Raises:
        CardNotFound, CardNotActive, CardOfAnotherStore, NotInThisProgram, InvalidAmount, MomentNotAccepted,
        BelowMinimumPurchase: as for `earn`.
    """
    moment = accepted_moment(transaction_at or at, at=at)
    card = card_of(merchant=store.merchant, card_id=card_id)
    require_usable(card, store=store)
    require_kind(card.program, Program.Kind.POINTS)
    _require_amount(card.program, amount_minor)
    worth = points_worth(program=card.program, amount_minor=amount_minor, store=store, moment=moment)
    return Preview(worth.points, card.balance.points_balance + worth.points, worth.campaign)


@contextmanager
def _receipts_earn_once(store: Store, receipt_number: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if "receipt_claimed_once_per_store" not in str(error):
            raise
        claims = ReceiptClaim.objects.filter(store=store, receipt_number=receipt_number)
        raise DuplicateReceipt(
            f"Receipt {receipt_number} has already earned points.",
            transaction_id=claims.values_list("transaction", flat=True).first(),
        ) from None


def points_worth(*, program: Program, amount_minor: int, store: Store | None, moment: datetime) -> Worth:
    """What a purchase would earn: the best of the plain rate and each running campaign, then the cap."""
    return _best(program, amount_minor, _facts(program, store=store, moment=moment).campaigns, moment)


def _best(program: Program, amount_minor: int, campaigns: list[Campaign], moment: datetime) -> Worth:
    best = Worth(program.points_for(amount_minor), None)
    day = program.policy.local_date(moment)
    for campaign in campaigns:
        if campaign.covers(day, amount_minor):
            points = program.points_for(amount_minor, campaign.multiplier) + campaign.bonus_points
            best = max(best, Worth(points, campaign), key=lambda worth: worth.points)
    if program.max_points_per_transaction is not None:
        best = best._replace(points=min(best.points, program.max_points_per_transaction))
    return best


# After the lock and not in it: the statement that waited for the lock would count what was there before the wait.
FACTS = """
SELECT
    CASE WHEN %(counts)s THEN (
        SELECT count(*) FROM loyalty_transaction sale
        WHERE card_id = %(card)s AND type = 'POINTS_EARNED'
          AND transaction_at >= %(day)s AND transaction_at < %(next_day)s
          AND NOT EXISTS (SELECT FROM loyalty_transaction WHERE reverses_id = sale.id AND reverses_in_full)
    ) END,
    (
        SELECT id FROM loyalty_transaction
        WHERE card_id = %(card)s AND type = 'POINTS_EXPIRED' AND created_at > %(moment)s
        ORDER BY seq DESC LIMIT 1
    ),
    EXISTS (
        SELECT FROM loyalty_transaction
        WHERE card_id = %(card)s AND type = 'POINTS_EXPIRED' AND cycle_started_at = %(cycle)s
    ),
    {campaign}
FROM (VALUES (1)) one
LEFT JOIN loyalty_campaign campaign
    ON campaign.program_id = %(program)s AND campaign.is_active
    AND campaign.starts_at <= %(moment)s AND campaign.ends_at > %(moment)s
    AND (
        NOT EXISTS (SELECT FROM loyalty_campaign_stores WHERE campaign_id = campaign.id)
        OR EXISTS (SELECT FROM loyalty_campaign_stores WHERE campaign_id = campaign.id AND store_id = %(store)s)
    )
ORDER BY campaign.id
"""


def _facts(program: Program, *, store: Store | None, moment: datetime, card: Card | None = None) -> _Facts:
    day, next_day = day_of(program, moment)
    fields = Campaign._meta.concrete_fields
    with connection.cursor() as cursor:
        cursor.execute(
            FACTS.format(campaign=", ".join(f"campaign.{field.column}" for field in fields)),
            {
                "card": card.pk if card else None,
                "counts": program.max_daily_earns is not None,
                "cycle": card.balance.last_activity_at if card else None,
                "day": day,
                "next_day": next_day,
                "moment": moment,
                "program": program.pk,
                "store": store.pk if store else None,
            },
        )
        rows = cursor.fetchall()
    earns, expiry_since, cycle_has_expired = rows[0][:3]
    names = [field.attname for field in fields]
    campaigns = [Campaign.from_db(connection.alias, names, row[3:]) for row in rows if row[3] is not None]
    return _Facts(earns or 0, expiry_since, cycle_has_expired, campaigns)


def day_of(program: Program, moment: datetime) -> tuple[datetime, datetime]:
    """When the local day of a moment begins, and when the next one does."""
    policy = program.policy
    day = policy.local_date(moment)
    return policy.start_of(day), policy.start_of(day + timedelta(days=1))


def _expired_since(facts: _Facts) -> dict[str, Any]:
    """What an offline sale says about an expiry that came after it: the customer lost points in between."""
    return {"activity_predates_expiration": facts.expiry_since} if facts.expiry_since else {}


def require_usable(card: Card, *, store: Store) -> None:
    """Refuse a card that may not earn or redeem at this store.

    Raises:
        CardNotActive: it is suspended, closed, merged or erased, or the program is switched off.
        CardOfAnotherStore: the program keeps cards to the store that enrolled them.
    """
    if card.status != Card.Status.ACTIVE:
        raise CardNotActive(f"This card is {card.get_status_display()} and cannot be used.", status=card.status)
    if not card.program.is_active or not card.program.merchant.is_active:
        raise CardNotActive("The loyalty program is switched off at the moment.", status=card.status)
    require_own_store(card, store)


def require_own_store(card: Card, store: Store) -> None:
    """Keep a card to the store that enrolled it, if the program wants that.

    Raises:
        CardOfAnotherStore: it was enrolled elsewhere.
    """
    if not card.program.allow_cross_store and card.enrolled_at_store_id != store.pk:
        raise CardOfAnotherStore("This card can be used only in the store that gave it out.")


def require_kind(program: Program, kind: Program.Kind) -> None:
    """Refuse points on a card of stamps, and stamps on a card of points.

    Raises:
        NotInThisProgram: the program has none.
    """
    if program.kind not in (kind, Program.Kind.HYBRID):
        raise NotInThisProgram(f"This program collects {program.get_kind_display().lower()}, not {kind.label.lower()}.")


def accepted_moment(moment: datetime, *, at: datetime) -> datetime:
    if moment > at + CLOCK_DRIFT_OF_TILLS:
        raise MomentNotAccepted("The time of the sale is in the future. Please check the clock of the till.")
    if moment < at - OLDEST_OFFLINE_SALE:
        raise MomentNotAccepted("The sale is more than 72 hours old. Please ask for an adjustment instead.")
    return moment


def _require_sale(program: Program, *, amount_minor: int, receipt_number: str) -> None:
    _require_amount(program, amount_minor)
    if program.require_receipt_number and not receipt_number:
        raise ReceiptRequired("Please enter the receipt number; this program needs it.")


def _require_amount(program: Program, amount_minor: int) -> None:
    if not 0 <= amount_minor <= MAX_AMOUNT_MINOR:
        raise InvalidAmount("The amount is negative or larger than any sale.")
    if amount_minor < program.minimum_purchase_minor:
        minimum = spelled(program.minimum_purchase_minor, program.merchant.currency)
        raise BelowMinimumPurchase(f"Points are given for purchases of {minimum} and more.")


def _require_below_daily_limit(program: Program, earns_today: int, *, at: datetime) -> None:
    limit = program.max_daily_earns
    if limit is not None and earns_today >= limit:
        _, tomorrow = day_of(program, at)
        raise DailyLimitReached(
            f"This card has already earned {limit} times today.",
            limit=limit,
            retry_after_seconds=math.ceil((tomorrow - at).total_seconds()),
        )


def _campaign_details(campaign: Campaign | None) -> dict[str, Any]:
    """The campaign as it was, so that a refund can be worked out later."""
    if campaign is None:
        return {}
    return {
        "campaign": campaign.pk,
        "multiplier": str(Decimal(campaign.multiplier)),
        "bonus_points": campaign.bonus_points,
        "minimum_purchase_minor": campaign.minimum_purchase_minor,
    }
