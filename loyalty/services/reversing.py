"""Purchases, stamps and redemptions are taken back: whole by a void, and purchases in part by a refund."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models import F, Sum

from loyalty.errors import (
    AlreadyVoided,
    InvalidAmount,
    NotVoidable,
    PointsAlreadySpent,
    RefundExceedsPurchase,
    TransactionNotFound,
    VoidNotAllowed,
    VoidWindowPassed,
)
from loyalty.models import (
    Card,
    Merchant,
    Program,
    ReceiptClaim,
    Reward,
    StaffMember,
    Store,
    Transaction,
    TransactionType,
)
from loyalty.models.money import spelled, to_decimal
from loyalty.models.program import points_at
from loyalty.services import ledger
from loyalty.services.adjustments import require_in_use, require_reason
from loyalty.services.earning import require_own_store
from loyalty.services.ledger import Move
from loyalty.services.once import Client, Request, once

log = structlog.get_logger()
VOIDED_BY = {
    TransactionType.POINTS_EARNED: TransactionType.POINTS_VOIDED,
    TransactionType.STAMP_EARNED: TransactionType.STAMP_VOIDED,
    TransactionType.POINTS_REDEEMED: TransactionType.REDEMPTION_VOIDED,
    TransactionType.STAMP_REDEEMED: TransactionType.REDEMPTION_VOIDED,
}


class _TakenBack(NamedTuple):
    """What was taken back of a transaction so far. Points that the card no longer had count as taken."""

    points: int
    refunded_minor: int
    in_full_by: Transaction | None


def void(
    *,
    store: Store | None,
    merchant: Merchant,
    transaction_id: int,
    reason: str,
    actor: str,
    at: datetime,
    staff_member: StaffMember | None = None,
    client: Client | None = None,
    request: Request | None = None,
) -> Transaction:
    """Take back a purchase, stamps or a redemption, or what refunds left of a purchase.

    `store` is None for a back office, which voids anything at any time; so do supervisors and managers at a till. The
    receipt of a voided purchase may earn again, and a voided reward is back in the stock. When the card no longer holds
    what it got, the program either takes what there is and notes the shortfall in the details, or refuses.
    A suspended card, and one of a program that is switched off, can have its wrong transactions voided.

    Raises:
        ReasonRequired, InvalidInput: there is no usable reason.
        TransactionNotFound: the merchant has no such transaction.
        CardNotActive, CardOfAnotherStore: the card is closed, merged or erased, or belongs to another store.
        NotVoidable: it is of a type that is not taken back.
        AlreadyVoided: it was taken back in full, by a void or by refunds.
        VoidNotAllowed, VoidWindowPassed: not at a till of this program; or so long ago that a cashier may not.
        PointsAlreadySpent: the card holds less than it got, and the program's refund policy is to block.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    back = Move(
        type=TransactionType.POINTS_VOIDED,
        transaction_at=at,
        store=store,
        staff_member=staff_member,
        actor=actor,
        reason=require_reason(reason),
        reverses_in_full=True,
        client=client,
        request=request,
    )
    with once(request), transaction.atomic():
        row, card = _lock(transaction_id, merchant=merchant, store=store, request=request)
        if row.type not in VOIDED_BY:
            raise NotVoidable(f"This cannot be voided: {row.get_type_display()}.", type=row.type)
        taken = _taken_back(row)
        if taken.in_full_by:
            raise _already_voided(taken.in_full_by)
        if store:
            _require_voidable_at_till(card.program, row, staff_member, at=at)
        voided = ledger.post(card, _all_of(row, card, taken, back), at=at)
        _set_free(row)
    log.info("loyalty.transaction_voided", card_id=card.pk, transaction_id=voided.pk, voided_id=row.pk, type=row.type)
    return voided


def refund(
    *,
    store: Store | None,
    merchant: Merchant,
    transaction_id: int,
    amount_minor: int,
    reason: str,
    actor: str,
    at: datetime,
    staff_member: StaffMember | None = None,
    client: Client | None = None,
    request: Request | None = None,
) -> Transaction:
    """Take back what a part of a purchase earned, so that the card keeps what the rest would have earned.

    `amount_minor` is the part, in minor units. Rate, campaign and cap are those of the sale, whatever the program says
    today. The receipt stays used. Goods come back when they come back, so the void window does not matter here.
    When the card no longer holds the points, it is as for a void.

    Raises:
        ReasonRequired, InvalidInput, TransactionNotFound, CardNotActive, CardOfAnotherStore: as for a void.
        InvalidAmount: it is not positive.
        NotVoidable: it is no purchase.
        AlreadyVoided: the purchase was voided.
        RefundExceedsPurchase: less than this is left of the purchase; details say how much.
        PointsAlreadySpent: as for a void.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    if amount_minor < 1:
        raise InvalidAmount("The amount to refund must be larger than zero.", field="amount")
    back = Move(
        type=TransactionType.POINTS_VOIDED,
        transaction_at=at,
        store=store,
        staff_member=staff_member,
        actor=actor,
        reason=require_reason(reason),
        amount_minor=amount_minor,
        client=client,
        request=request,
    )
    with once(request), transaction.atomic():
        row, card = _lock(transaction_id, merchant=merchant, store=store, request=request)
        if row.type != TransactionType.POINTS_EARNED:
            raise NotVoidable("Only a purchase can be refunded.", type=row.type)
        taken = _taken_back(row)
        if taken.in_full_by and not _is_refund(taken.in_full_by):
            raise _already_voided(taken.in_full_by)
        _require_refundable(row, card, taken, amount_minor)
        refunded = ledger.post(card, _part_of(row, card, taken, back), at=at)
    log.info("loyalty.purchase_refunded", card_id=card.pk, transaction_id=refunded.pk, refunded_id=row.pk)
    return refunded


def _lock(
    transaction_id: int, *, merchant: Merchant, store: Store | None, request: Request | None
) -> tuple[Transaction, Card]:
    """The transaction, which never changes, and its card, locked: what follows is decided on what is read now."""
    row = Transaction.objects.select_related("reward").filter(merchant=merchant, pk=transaction_id).first()
    if row is None:
        raise TransactionNotFound("This transaction is not known here.", transaction_id=transaction_id)
    card = ledger.lock(row.card_id, merchant=merchant, request=request)
    require_in_use(card)
    if store:
        require_own_store(card, store)
    return row, card


def _taken_back(row: Transaction) -> _TakenBack:
    reversals = list(Transaction.objects.filter(reverses=row))
    return _TakenBack(
        points=sum(_shortfall(reversal) - reversal.points_delta for reversal in reversals),
        refunded_minor=sum(reversal.amount_minor or 0 for reversal in reversals),
        in_full_by=next((reversal for reversal in reversals if reversal.reverses_in_full), None),
    )


def _shortfall(reversal: Transaction) -> int:
    return int(reversal.details.get("shortfall", 0))


def _is_refund(reversal: Transaction) -> bool:
    return "refunded_minor" in reversal.details


def _already_voided(by: Transaction) -> AlreadyVoided:
    how = "refunded in full" if _is_refund(by) else "voided"
    return AlreadyVoided(f"This was {how} already.", transaction_id=by.pk)


def _require_voidable_at_till(
    program: Program, row: Transaction, staff_member: StaffMember | None, *, at: datetime
) -> None:
    if not program.allow_void:
        raise VoidNotAllowed("Nothing is voided at the till here. Please ask the back office.")
    if staff_member and staff_member.role != StaffMember.Role.CASHIER:
        return
    if at - row.transaction_at > timedelta(hours=program.void_window_hours):
        raise VoidWindowPassed(
            f"This was more than {program.void_window_hours} hours ago. Please ask a supervisor to void it.",
            void_window_hours=program.void_window_hours,
        )


def _all_of(row: Transaction, card: Card, taken: _TakenBack, back: Move) -> Move:
    """What takes back all that is left of a transaction."""
    back = replace(back, type=VOIDED_BY[TransactionType(row.type)], reverses=row)
    match row.type:
        case TransactionType.POINTS_EARNED:
            points, details = _points_there(card, row.points_delta - taken.points, row)
            rest_minor = (row.amount_minor or 0) - taken.refunded_minor
            return replace(back, points=-points, amount_minor=rest_minor, details=details)
        case TransactionType.STAMP_EARNED:
            stamps, details = _stamps_there(card, row.stamps_delta)
            return replace(back, stamps=-stamps, details=details)
    return replace(back, points=-row.points_delta, stamps=-row.stamps_delta, reward=row.reward)


def _part_of(row: Transaction, card: Card, taken: _TakenBack, back: Move) -> Move:
    """What takes back the points of a part of a purchase."""
    refunded_minor = taken.refunded_minor + (back.amount_minor or 0)
    rest_minor = (row.amount_minor or 0) - refunded_minor
    worth = _worth_of_rest(row, rest_minor, card.program.merchant.currency)
    # A sale that earned less than its worth was capped: nothing is owed until the rest is worth less than the cap.
    points, details = _points_there(card, max(0, row.points_delta - taken.points - worth), row)
    return replace(
        back,
        points=-points,
        points_per_unit=row.points_per_unit,
        reverses=row,
        reverses_in_full=rest_minor == 0,
        details={"refunded_minor": refunded_minor, **details},
    )


def _require_refundable(row: Transaction, card: Card, taken: _TakenBack, amount_minor: int) -> None:
    rest_minor = (row.amount_minor or 0) - taken.refunded_minor
    if amount_minor <= rest_minor:
        return
    currency = card.program.merchant.currency
    left = f"only {spelled(rest_minor, currency)} of it" if rest_minor else "nothing of it"
    raise RefundExceedsPurchase(
        f"That is more than is left of this purchase: {left} can still be refunded.",
        refundable=str(to_decimal(rest_minor, currency)),
        refundable_minor=rest_minor,
    )


def _worth_of_rest(row: Transaction, rest_minor: int, currency: str) -> int:
    """What the rest of a purchase would have earned by the terms of its sale, its cap apart."""
    if not rest_minor:
        return 0
    rate, bonus, terms = row.points_per_unit or Decimal(0), 0, row.details
    if "campaign" in terms and rest_minor >= terms["minimum_purchase_minor"]:
        rate, bonus = rate * Decimal(terms["multiplier"]), terms["bonus_points"]
    return points_at(rate, rest_minor, currency) + bonus


def _points_there(card: Card, owed: int, row: Transaction) -> tuple[int, dict[str, Any]]:
    """How many of the points that are owed the card still has, and what to note if they are fewer."""
    balance = card.balance.points_balance
    if owed <= balance:
        return owed, {}
    # What expired since was not spent: nobody has had anything for it.
    if _blocks(card) and owed > balance + _expired_since(row):
        raise PointsAlreadySpent(
            f"The customer has already spent these points: {owed:,} would have to come back, the card has {balance:,}.",
            points_balance=balance,
            points_needed=owed,
        )
    return balance, {"shortfall": owed - balance}


def _stamps_there(card: Card, owed: int) -> tuple[int, dict[str, Any]]:
    count = card.balance.stamp_count
    if owed <= count:
        return owed, {}
    if _blocks(card):
        raise PointsAlreadySpent(
            f"The customer has already used these stamps: {owed:,} would have to come back, the card has {count:,}.",
            stamp_count=count,
            stamps_needed=owed,
        )
    return count, {"shortfall": owed - count}


def _blocks(card: Card) -> bool:
    return card.program.refund_policy == Program.RefundPolicy.BLOCK


def _expired_since(row: Transaction) -> int:
    """Points that expired on the card after a transaction, and were not given back."""
    expiries = Transaction.objects.filter(card=row.card_id, type=TransactionType.POINTS_EXPIRED, seq__gt=row.seq)
    total = expiries.not_given_back().aggregate(points=Sum("points_delta"))["points"]
    return -(total or 0)


def _set_free(row: Transaction) -> None:
    """What a voided transaction held: its receipt number may earn again, its reward is in the stock again."""
    if row.receipt_number:
        ReceiptClaim.objects.filter(transaction=row).delete()
    if row.reward_id:
        Reward.objects.filter(pk=row.reward_id).update(stock=F("stock") + 1)
