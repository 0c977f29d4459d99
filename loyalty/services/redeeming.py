"""Points become rewards or discounts."""

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F

from loyalty.errors import BelowMinimumRedemption, InsufficientPoints, InvalidInput, OutOfStock, RewardNotAvailable
from loyalty.models import Card, Reward, StaffMember, Store, Transaction, TransactionType
from loyalty.services import ledger
from loyalty.services.earning import require_usable
from loyalty.services.ledger import Move

log = structlog.get_logger()
EXPIRY_WORTH_EXPLAINING = timedelta(days=60)


@transaction.atomic
def redeem_points(
    *,
    store: Store,
    card_id: int,
    points: int,
    at: datetime,
    staff_member: StaffMember | None = None,
    actor: str = "",
) -> Transaction:
    """Take points off a card as a discount.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not redeem here.
        InvalidInput: the number of points is not positive.
        BelowMinimumRedemption: the program redeems only larger amounts.
        InsufficientPoints: the balance is smaller; details name it and what expired in the last 60 days.
    """
    if points < 1:
        raise InvalidInput("Redeem at least 1 point.", field="points")
    card = ledger.lock(card_id, merchant=store.merchant)
    require_usable(card, store=store)
    if points < card.program.minimum_redemption_points:
        raise BelowMinimumRedemption(f"Points can be redeemed from {card.program.minimum_redemption_points:,} on.")
    _require_points(card, points, at=at)
    return _take(card, points, store=store, staff_member=staff_member, actor=actor, reward=None, at=at)


@transaction.atomic
def redeem_reward(
    *,
    store: Store,
    card_id: int,
    reward_id: int,
    at: datetime,
    staff_member: StaffMember | None = None,
    actor: str = "",
) -> Transaction:
    """Exchange points for one reward and take it from the stock.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not redeem here.
        RewardNotAvailable: the program offers no such reward today.
        InsufficientPoints: the balance is smaller than what the reward costs.
        OutOfStock: the last one is gone.
    """
    card = ledger.lock(card_id, merchant=store.merchant)
    require_usable(card, store=store)
    today = card.program.policy.local_date(at)
    reward = Reward.objects.offered(today).filter(program=card.program, pk=reward_id).first()
    if reward is None:
        raise RewardNotAvailable("This reward is not offered at the moment.")
    _require_points(card, reward.points_cost, at=at)
    _take_from_stock(reward)
    return _take(card, reward.points_cost, store=store, staff_member=staff_member, actor=actor, reward=reward, at=at)


def _take(
    card: Card,
    points: int,
    *,
    store: Store,
    staff_member: StaffMember | None,
    actor: str,
    reward: Reward | None,
    at: datetime,
) -> Transaction:
    move = Move(
        type=TransactionType.POINTS_REDEEMED,
        points=-points,
        store=store,
        staff_member=staff_member,
        actor=actor,
        reward=reward,
        transaction_at=at,
    )
    row = ledger.post(card, move, at=at)
    log.info("loyalty.points_redeemed", card_id=card.pk, store_id=store.pk, transaction_id=row.pk, points=points)
    return row


def _take_from_stock(reward: Reward) -> None:
    if reward.stock is None:
        return
    if not Reward.objects.filter(pk=reward.pk, stock__gt=0).update(stock=F("stock") - 1):
        raise OutOfStock(f"{reward.name} is out of stock.")


def _require_points(card: Card, points: int, *, at: datetime) -> None:
    balance = card.balance.points_balance
    if balance >= points:
        return
    sentence = f"The card has {balance:,} points, which is fewer than {points:,}."
    details: dict[str, object] = {"points_balance": balance}
    recent = Transaction.objects.filter(
        card=card, type=TransactionType.POINTS_EXPIRED, created_at__gte=at - EXPIRY_WORTH_EXPLAINING
    )
    if expired := recent.order_by("-seq").first():
        day = card.program.policy.local_date(expired.created_at)
        sentence += f" {-expired.points_delta:,} points expired on {day:%d %B %Y}."
        details |= {"points_expired": -expired.points_delta, "expired_on": day.isoformat()}
    raise InsufficientPoints(sentence, **details)
