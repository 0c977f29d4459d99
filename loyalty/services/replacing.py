"""A card that was lost or copied gets a new number and a new QR code."""

from datetime import datetime

import structlog
from django.db import transaction

from loyalty.models import Card, Merchant
from loyalty.models.card import new_qr_token
from loyalty.services import ledger
from loyalty.services.adjustments import require_as_seen, require_in_use, require_reason
from loyalty.services.enrolment import free_card_number
from loyalty.services.once import Request, once, record

log = structlog.get_logger()


def replace_card(
    *,
    merchant: Merchant,
    card_id: int,
    reason: str,
    actor: str,
    at: datetime,
    seen_version: int | None = None,
    request: Request | None = None,
) -> Card:
    """Give a card a new number and QR code. It keeps all that it holds; the old number and code lead nowhere.

    No points move, so the ledger does not tell of it; the version grows, and a log line names the actor.

    Raises:
        CardNotFound: the merchant has no such card.
        CardChanged: the card has another version than the one seen.
        CardNotActive: the card is closed, merged or erased.
        ReasonRequired, InvalidInput: there is no usable reason.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    require_reason(reason)
    with once(request), transaction.atomic():
        card = ledger.lock(card_id, merchant=merchant, request=request)
        require_as_seen(card, seen_version)
        require_in_use(card)
        card.card_number, card.qr_token = free_card_number(), new_qr_token()
        card.save(update_fields=["card_number", "qr_token"])
        card.balance.version += 1
        card.balance.changed_at = at
        card.balance.save(update_fields=["version", "changed_at"])
        answer = {"card": card.pk, "card_number": card.card_number, "qr_token": card.qr_token}
        record(request, answer=answer, card_id=card.pk, at=at)
    log.info("loyalty.card_replaced", card_id=card.pk, actor=actor)
    return card
