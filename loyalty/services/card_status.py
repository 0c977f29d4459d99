"""Cards are suspended, closed, and taken into use again. What they hold stays on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import structlog
from django.db import IntegrityError, transaction

from loyalty.errors import AlreadyEnrolled, CardNotActive, NothingToChange
from loyalty.models import Card, Merchant, Transaction, TransactionType
from loyalty.services import ledger
from loyalty.services.adjustments import require_as_seen, require_in_use, require_reason
from loyalty.services.ledger import Move
from loyalty.services.once import Request, once

log = structlog.get_logger()
Status = Card.Status


def suspend_card(
    *,
    merchant: Merchant,
    card_id: int,
    reason: str,
    actor: str,
    at: datetime,
    request: Request | None = None,
    seen_version: int | None = None,
) -> Transaction:
    """Stop a card until it is reactivated: it cannot be used, nobody is warned and nothing on it expires.

    `seen_version` is the version of the balance on which a person decided; None suspends whatever there is.

    Raises:
        CardNotFound: the merchant has no such card.
        CardChanged: the card has another version than the one seen.
        CardNotActive: the card is closed, merged or erased.
        NothingToChange: it is suspended already.
        ReasonRequired, InvalidInput: there is no usable reason.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    move = _by_hand(TransactionType.CARD_DEACTIVATED, reason, actor, at, request)
    with once(request), transaction.atomic():
        card = _lock(card_id, merchant, request, seen_version)
        if card.status == Status.SUSPENDED:
            raise NothingToChange("This card is already suspended.")
        require_in_use(card)
        return _turn(card, Status.SUSPENDED, move)


def close_card(
    *,
    merchant: Merchant,
    card_id: int,
    reason: str,
    actor: str,
    at: datetime,
    request: Request | None = None,
    seen_version: int | None = None,
) -> Transaction:
    """End a card: it is no longer its customer's card, who may be given a new one. Its points stay and are of no use.

    Only `reactivate_card` undoes it, as long as the customer has no other card.

    Raises:
        CardNotFound, CardChanged, CardNotActive, ReasonRequired, InvalidInput: as for a suspension.
        NothingToChange: it is closed already.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    move = _by_hand(TransactionType.CARD_DEACTIVATED, reason, actor, at, request)
    with once(request), transaction.atomic():
        card = _lock(card_id, merchant, request, seen_version)
        if card.status == Status.CLOSED:
            raise NothingToChange("This card is already closed.")
        require_in_use(card)
        return _turn(card, Status.CLOSED, move)


def reactivate_card(
    *,
    merchant: Merchant,
    card_id: int,
    reason: str,
    actor: str,
    at: datetime,
    request: Request | None = None,
    seen_version: int | None = None,
) -> Transaction:
    """Take a suspended or closed card into use again. It is warned again, in full time, before anything expires.

    Days that were promised stay promised. It is no activity: the points do not live longer for it.

    Raises:
        CardNotFound, CardChanged, ReasonRequired, InvalidInput: as for a suspension.
        CardNotActive: the card was merged or erased, which is final.
        NothingToChange: it is active.
        AlreadyEnrolled: it was closed, and its customer has another card in use now; `card_id` names it.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    move = _by_hand(TransactionType.CARD_REACTIVATED, reason, actor, at, request)
    with once(request), transaction.atomic():
        card = _lock(card_id, merchant, request, seen_version)
        _require_stopped(card)
        with _one_card_in_use(card):
            return _turn(card, Status.ACTIVE, replace(move, cycle=card.balance.cycle._replace(warned_at=None)))


def _by_hand(kind: TransactionType, reason: str, actor: str, at: datetime, request: Request | None) -> Move:
    return Move(type=kind, reason=require_reason(reason), actor=actor, transaction_at=at, request=request)


def _lock(card_id: int, merchant: Merchant, request: Request | None, seen_version: int | None) -> Card:
    card = ledger.lock(card_id, merchant=merchant, request=request)
    require_as_seen(card, seen_version)
    return card


def _require_stopped(card: Card) -> None:
    if card.status == Status.ACTIVE:
        raise NothingToChange("This card is already active.")
    if card.status not in (Status.SUSPENDED, Status.CLOSED):
        raise CardNotActive(f"This card is {card.get_status_display()} and cannot be reactivated.", status=card.status)


@contextmanager
def _one_card_in_use(card: Card) -> Iterator[None]:
    """Say in words that the customer has another card; the database knows it even while that one is being made."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "card_one_in_use_per_customer" not in str(error):
            raise
        other = Card.objects.in_use().filter(customer=card.customer).exclude(pk=card.pk).get()
        raise AlreadyEnrolled(
            f"The customer has another card now, {other}. Close that one first, or leave this one closed.",
            card_id=other.pk,
        ) from None


def _turn(card: Card, status: Card.Status, move: Move) -> Transaction:
    card.status = status
    card.save(update_fields=["status"])
    row = ledger.post(card, replace(move, details={"status": status.value}), at=move.transaction_at)
    log.info("loyalty.card_status_changed", card_id=card.pk, transaction_id=row.pk, status=status.value)
    return row
