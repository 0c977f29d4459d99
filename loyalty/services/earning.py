"""Purchases become points."""

from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple

import structlog
from django.db import IntegrityError, transaction

from loyalty.errors import (
    BelowMinimumPurchase,
    CardNotActive,
    CardOfAnotherStore,
    DailyLimitReached,
    DuplicateReceipt,
    InvalidAmount,
    MomentNotAccepted,
    ReceiptRequired,
)
from loyalty.models import Campaign, Card, Program, StaffMember, Store, Transaction, TransactionType
from loyalty.models.money import MAX_AMOUNT_MINOR, spelled
from loyalty.services import ledger
from loyalty.services.ledger import Move

log = structlog.get_logger()
OLDEST_OFFLINE_SALE = timedelta(hours=72)
CLOCK_DRIFT_OF_TILLS = timedelta(minutes=5)


class Worth(NamedTuple):
    """What a purchase earns, and the campaign that made it more."""

    points: int
    campaign: Campaign | None


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
) -> Transaction:
    """Give a card the points a purchase is worth.

    `amount_minor` is in minor units of the merchant's currency, after any discount paid with points.
    `transaction_at` is the moment of the sale when a till was offline; by default it is `at`.
    A purchase worth 0 points is a row all the same, and an activity.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not earn here.
        InvalidAmount: it is negative or larger than any sale.
        MomentNotAccepted: the sale is more than 72 hours old or more than 5 minutes in the future.
        BelowMinimumPurchase: the program earns nothing under its minimum.
        ReceiptRequired, DuplicateReceipt: the receipt number is missing, or has earned already.
        DailyLimitReached: the card has earned as often today as the program allows.
    """
    moment = _accepted_moment(transaction_at or at, at=at)
    try:
        with transaction.atomic():
            card = ledger.lock(card_id, merchant=store.merchant)
            require_usable(card, store=store)
            _require_sale(card.program, amount_minor=amount_minor, receipt_number=receipt_number)
            _require_below_daily_limit(card, moment)
            worth = points_worth(program=card.program, amount_minor=amount_minor, store=store, moment=moment)
            row = ledger.post(
                card,
                Move(
                    type=TransactionType.POINTS_EARNED,
                    points=worth.points,
                    amount_minor=amount_minor,
                    points_per_unit=card.program.points_per_unit,
                    store=store,
                    staff_member=staff_member,
                    actor=actor,
                    receipt_number=receipt_number,
                    transaction_at=moment,
                    details={"campaign": worth.campaign.pk, **_terms(worth.campaign)} if worth.campaign else {},
                ),
                at=at,
            )
    except IntegrityError as error:
        if "receipt_claimed_once_per_store" in str(error):
            raise DuplicateReceipt(f"Receipt {receipt_number} has already earned points.") from None
        raise
    log.info("loyalty.points_earned", card_id=card_id, store_id=store.pk, transaction_id=row.pk, points=worth.points)
    return row


def points_worth(*, program: Program, amount_minor: int, store: Store | None, moment: datetime) -> Worth:
    """What a purchase would earn: the best of the plain rate and each running campaign, then the cap."""
    best = Worth(program.points_for(amount_minor), None)
    day = program.policy.local_date(moment)
    # Running campaigns are few or none, so their stores are read one by one.
    for campaign in Campaign.objects.running(program=program, at=moment).order_by("pk"):
        if campaign.covers(day, amount_minor) and _takes_part(store, campaign):
            points = program.points_for(amount_minor, campaign.multiplier) + campaign.bonus_points
            best = max(best, Worth(points, campaign), key=lambda worth: worth.points)
    if program.max_points_per_transaction is not None:
        best = best._replace(points=min(best.points, program.max_points_per_transaction))
    return best


def _takes_part(store: Store | None, campaign: Campaign) -> bool:
    stores = set(campaign.stores.values_list("pk", flat=True))
    return not stores or (store is not None and store.pk in stores)


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
    if not card.program.allow_cross_store and card.enrolled_at_store_id != store.pk:
        raise CardOfAnotherStore("This card can be used only in the store that gave it out.")


def _accepted_moment(moment: datetime, *, at: datetime) -> datetime:
    if moment > at + CLOCK_DRIFT_OF_TILLS:
        raise MomentNotAccepted("The time of the sale is in the future. Please check the clock of the till.")
    if moment < at - OLDEST_OFFLINE_SALE:
        raise MomentNotAccepted("The sale is more than 72 hours old. Please ask for an adjustment instead.")
    return moment


def _require_sale(program: Program, *, amount_minor: int, receipt_number: str) -> None:
    if not 0 <= amount_minor <= MAX_AMOUNT_MINOR:
        raise InvalidAmount("The amount is negative or larger than any sale.")
    if amount_minor < program.minimum_purchase_minor:
        minimum = spelled(program.minimum_purchase_minor, program.merchant.currency)
        raise BelowMinimumPurchase(f"Points are given for purchases of {minimum} and more.")
    if program.require_receipt_number and not receipt_number:
        raise ReceiptRequired("Please enter the receipt number; this program needs it.")


def _require_below_daily_limit(card: Card, moment: datetime) -> None:
    limit = card.program.max_daily_earns
    if limit is None:
        return
    zone = card.program.merchant.zone
    day_began = datetime.combine(moment.astimezone(zone), time.min, zone)
    # A statement of its own: inside the one that waited for the lock it would count what was before the wait.
    today = Transaction.objects.filter(
        card=card,
        type=TransactionType.POINTS_EARNED,
        transaction_at__gte=day_began,
        transaction_at__lt=day_began + timedelta(days=1),
    )
    if today.not_given_back().count() >= limit:
        raise DailyLimitReached(f"This card has already earned {limit} times today.", limit=limit)


def _terms(campaign: Campaign) -> dict[str, str | int]:
    """The campaign as it was, so that a refund can be worked out later."""
    return {
        "multiplier": str(Decimal(campaign.multiplier)),
        "bonus_points": campaign.bonus_points,
        "minimum_purchase_minor": campaign.minimum_purchase_minor,
    }
