"""Points become rewards or discounts."""

from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction

from loyalty.errors import BelowMinimumRedemption, InsufficientPoints, InvalidInput, OutOfStock, RewardNotAvailable
from loyalty.models import Card, Program, Reward, StaffMember, Store, Transaction, TransactionType
from loyalty.services import ledger
from loyalty.services.earning import require_usable
from loyalty.services.ledger import Move
from loyalty.services.once import Client, Request, once

log = structlog.get_logger()
EXPIRY_WORTH_EXPLAINING = timedelta(days=60)


def redeem_points(
    *,
    store: Store,
    card_id: int,
    points: int,
    at: datetime,
    staff_member: StaffMember | None = None,
    actor: str = "",
    client: Client | None = None,
    request: Request | None = None,
) -> Transaction:
    """Take points off a card as a discount.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not redeem here.
        InvalidInput: the number of points is not positive.
        BelowMinimumRedemption: the program redeems only larger amounts.
        InsufficientPoints: the balance is smaller; details name it and what expired in the last 60 days.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    if points < 1:
        raise InvalidInput("Redeem at least 1 point.", field="points")
    with once(request), transaction.atomic():
        card = ledger.lock(card_id, merchant=store.merchant, request=request)
        require_usable(card, store=store)
        minimum = card.program.minimum_redemption_points
        if points < minimum:
            raise BelowMinimumRedemption(f"Points can be redeemed from {minimum:,} on.", minimum_points=minimum)
        _require_points(card, points, at=at)
        move = _taking(points, store=store, staff_member=staff_member, actor=actor, at=at)
        return _take(card, replace(move, client=client, request=request), at=at)


def redeem_reward(
    *,
    store: Store,
    card_id: int,
    reward_id: int,
    at: datetime,
    staff_member: StaffMember | None = None,
    actor: str = "",
    client: Client | None = None,
    request: Request | None = None,
) -> Transaction:
    """Exchange points for one reward and take it from the stock.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not redeem here.
        RewardNotAvailable: the program offers no such reward today.
        InsufficientPoints: the balance is smaller than what the reward costs.
        OutOfStock: the last one is gone.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    with once(request), transaction.atomic():
        card = ledger.lock(card_id, merchant=store.merchant, request=request)
        require_usable(card, store=store)
        reward = _take_from_stock(card.program, reward_id, at=at)
        _require_points(card, reward.points_cost, at=at)
        move = _taking(reward.points_cost, store=store, staff_member=staff_member, actor=actor, at=at)
        return _take(card, replace(move, reward=reward, client=client, request=request), at=at)


def _taking(points: int, *, store: Store, staff_member: StaffMember | None, actor: str, at: datetime) -> Move:
    return Move(
        type=TransactionType.POINTS_REDEEMED,
        points=-points,
        store=store,
        staff_member=staff_member,
        actor=actor,
        transaction_at=at,
    )


def _take(card: Card, move: Move, *, at: datetime) -> Transaction:
    row = ledger.post(card, move, at=at)
    log.info("loyalty.points_redeemed", card_id=card.pk, transaction_id=row.pk, points=-move.points)
    return row


TAKE_FROM_STOCK = """
UPDATE loyalty_reward SET stock = stock - 1
WHERE id = %s AND program_id = %s AND is_active AND (stock IS NULL OR stock > 0)
  AND coalesce(active_from <= %s, true) AND coalesce(active_to >= %s, true)
RETURNING {columns}
"""


def _take_from_stock(program: Program, reward_id: int, *, at: datetime) -> Reward:
    """Take one reward in one statement, so that two tills never hand out the same last one."""
    today = program.policy.local_date(at)
    fields = Reward._meta.concrete_fields
    statement = TAKE_FROM_STOCK.format(columns=", ".join(str(field.column) for field in fields))
    with connection.cursor() as cursor:
        cursor.execute(statement, [reward_id, program.pk, today, today])
        row = cursor.fetchone()
    if row:
        return Reward.from_db(connection.alias, [field.attname for field in fields], row)
    if reward := Reward.objects.offered(today).filter(program=program, pk=reward_id).first():
        raise OutOfStock(f"{reward.name} is out of stock.")
    raise RewardNotAvailable("This reward is not offered at the moment.")


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
