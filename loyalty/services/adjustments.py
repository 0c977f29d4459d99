"""Changes by hand, each with an actor and a reason."""

from datetime import datetime

import structlog
from django.db import transaction

from loyalty.errors import CardChanged, CardNotActive, InvalidInput, NothingToChange, ReasonRequired
from loyalty.models import Card, CardBalance, ExemptionChange, Merchant, Transaction, TransactionType
from loyalty.services import ledger
from loyalty.services.ledger import Move
from loyalty.services.once import Request, once

log = structlog.get_logger()
LONGEST_REASON = 500


def require_reason(reason: str) -> str:
    """The reason without surrounding space.

    Raises:
        ReasonRequired: there is none. InvalidInput: it is too long, or no text.
    """
    reason = reason.strip()
    if not reason:
        raise ReasonRequired("Please give a reason; it is kept with the change.")
    if len(reason) > LONGEST_REASON:
        raise InvalidInput(
            f"A reason has at most {LONGEST_REASON} characters; this one has {len(reason):,}.", field="reason"
        )
    if "\x00" in reason or not _is_text(reason):
        raise InvalidInput("The reason holds characters that are no text.", field="reason")
    return reason


def _is_text(value: str) -> bool:
    """Whether it can be written down: a command line may hold bytes that are no characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_in_use(card: Card) -> None:
    if card.status not in Card.IN_USE:
        raise CardNotActive(f"This card is {card.get_status_display()} and cannot be changed.", status=card.status)


def require_as_seen(card: Card, seen_version: int | None) -> None:
    """Refuse to act on a locked card that moved since it was shown with this version: a form sent twice, say.

    Raises:
        CardChanged: it did.
    """
    if seen_version is not None and card.balance.version != seen_version:
        raise CardChanged(
            f"The card has changed since you opened this page and now holds {card.balance.points_balance:,} points. "
            "Nothing was done. Look again, then decide.",
            points_balance=card.balance.points_balance,
        )


def adjust(
    *,
    merchant: Merchant,
    card_id: int,
    points: int,
    reason: str,
    actor: str,
    at: datetime,
    stamps: int = 0,
    seen_version: int | None = None,
    request: Request | None = None,
) -> Transaction:
    """Add or take points and stamps by hand. More points count as activity, fewer do not.

    `seen_version` is the version of the balance on which a person decided; None adjusts whatever there is.

    Raises:
        CardNotFound: the merchant has no such card.
        CardChanged: the card has another version than the one seen.
        CardNotActive: the card is closed, merged or erased. A suspended one can be adjusted.
        ReasonRequired: there is no reason.
        InvalidInput: nothing would change, or the card would hold more than it can.
        InsufficientPoints: the balance is smaller than what is taken.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    reason = require_reason(reason)
    if not points and not stamps:
        raise InvalidInput("An adjustment of 0 changes nothing.", field="points")
    with once(request), transaction.atomic():
        card = ledger.lock(card_id, merchant=merchant, request=request)
        require_as_seen(card, seen_version)
        require_in_use(card)
        move = Move(
            type=TransactionType.ADMIN_ADJUSTMENT,
            points=points,
            stamps=stamps,
            reason=reason,
            actor=actor,
            transaction_at=at,
            request=request,
        )
        row = ledger.post(card, move, at=at)
    log.info("loyalty.points_adjusted", card_id=card_id, transaction_id=row.pk, points=points, stamps=stamps)
    return row


@transaction.atomic
def exempt_from_expiry(*, merchant: Merchant, card_id: int, reason: str, actor: str, at: datetime) -> Card:
    """Take a card out of expiry: no warnings, nothing expires, until the exemption is ended.

    Raises:
        CardNotFound, CardNotActive, ReasonRequired: as for an adjustment.
        NothingToChange: the card is exempt already.
    """
    return _set_exemption(True, merchant=merchant, card_id=card_id, reason=reason, actor=actor, at=at)


@transaction.atomic
def end_exemption(*, merchant: Merchant, card_id: int, reason: str, actor: str, at: datetime) -> Card:
    """Put a card back into expiry. It is warned again, with a full notice period, before anything expires.

    Raises:
        CardNotFound, CardNotActive, ReasonRequired: as for an adjustment.
        NothingToChange: the card is not exempt.
    """
    card = _set_exemption(False, merchant=merchant, card_id=card_id, reason=reason, actor=actor, at=at)
    CardBalance.objects.filter(card=card).update(last_expiration_warning_at=None)
    card.balance.last_expiration_warning_at = None
    return card


def _set_exemption(exempt: bool, *, merchant: Merchant, card_id: int, reason: str, actor: str, at: datetime) -> Card:
    reason = require_reason(reason)
    card = ledger.lock(card_id, merchant=merchant)
    require_in_use(card)
    if card.expiration_exempt == exempt:
        raise NothingToChange(f"This card is {'already' if exempt else 'not'} exempt from expiry.")
    card.expiration_exempt = exempt
    card.expiration_exempt_reason = reason if exempt else ""
    card.save(update_fields=["expiration_exempt", "expiration_exempt_reason"])
    ExemptionChange.objects.create(card=card, exempt=exempt, reason=reason, actor=actor, changed_at=at)
    log.info("loyalty.exemption_changed", card_id=card_id, exempt=exempt)
    return card
