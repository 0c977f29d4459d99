"""The same change to many cards, each by itself: what is refused for one card stops no other."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from django.db import connection, transaction

from loyalty.errors import InvalidInput, LoyaltyError
from loyalty.models import IdempotencyKey, Merchant
from loyalty.services import adjustments, card_status
from loyalty.services.adjustments import require_reason
from loyalty.services.once import AnsweredBefore, Request, look, once, record

log = structlog.get_logger()
MOST_CARDS = 1000
LONGEST_KEY = IdempotencyKey._meta.get_field("key").max_length or 0


@dataclass(frozen=True)
class SkippedCard:
    """A card that the change was refused for, with the refusal's code and sentence."""

    card_id: int
    code: str
    sentence: str


@dataclass
class BulkReport:
    """What was done, what was refused, and on which cards it failed, which is a fault and in the log."""

    done_card_ids: list[int] = field(default_factory=list)
    skipped: list[SkippedCard] = field(default_factory=list)
    failed_card_ids: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def deactivate_cards(
    *,
    merchant: Merchant,
    card_ids: Collection[int],
    reason: str,
    actor: str,
    at: datetime,
    request: Request | None = None,
) -> BulkReport:
    """Suspend up to 1,000 cards, each in a transaction of its own.

    A call with a `request` that died or failed halfway can be repeated: what it did is not done again.

    Raises:
        InvalidInput: there are no cards, or too many.
        ReasonRequired: there is no reason.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`, before anything is done.
    """
    suspend = partial(card_status.suspend_card, merchant=merchant, reason=require_reason(reason), actor=actor, at=at)
    report = _each(card_ids, suspend, request=request, at=at)
    _tell("loyalty.cards_deactivated", merchant, report)
    return report


def adjust_cards(
    *,
    merchant: Merchant,
    card_ids: Collection[int],
    points: int,
    reason: str,
    actor: str,
    at: datetime,
    request: Request | None = None,
) -> BulkReport:
    """Add points to up to 1,000 cards, or take them, each in a transaction of its own.

    A call with a `request` that died or failed halfway can be repeated: what it did is not done again.

    Raises:
        InvalidInput: there are no cards, or too many, or 0 points.
        ReasonRequired: there is no reason.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`, before anything is done.
    """
    if not points:
        raise InvalidInput("An adjustment of 0 changes nothing.", field="points")
    adjust = partial(
        adjustments.adjust, merchant=merchant, points=points, reason=require_reason(reason), actor=actor, at=at
    )
    report = _each(card_ids, adjust, request=request, at=at)
    _tell("loyalty.cards_adjusted", merchant, report)
    return report


def _each(
    card_ids: Collection[int], change: Callable[..., object], *, request: Request | None, at: datetime
) -> BulkReport:
    ids = _distinct(card_ids)
    report = BulkReport()
    with once(request):
        look(request)
        _claim(request, at=at)
        for card_id in ids:
            _try(card_id, change, request, report)
        if not report.failed_card_ids:  # else a repeat shall try those again
            with transaction.atomic():
                record(request, answer=report.as_json(), at=at)
    return report


def _distinct(card_ids: Collection[int]) -> list[int]:
    ids = sorted(set(card_ids))
    if not 1 <= len(ids) <= MOST_CARDS:
        raise InvalidInput(f"Choose 1 to {MOST_CARDS:,} cards; these are {len(ids):,}.", field="card_ids")
    return ids


def _claim(request: Request | None, *, at: datetime) -> None:
    """Bind the key to what it asks for before the first card, so that a repeat which asks for more does nothing."""
    claim = _of_its_own(request, "begun")
    try:
        with once(claim), transaction.atomic():
            look(claim)
            record(claim, answer={}, at=at)
    except AnsweredBefore:
        return  # the same call began before, and was interrupted or is still at it


def _try(card_id: int, change: Callable[..., object], request: Request | None, report: BulkReport) -> None:
    try:
        change(card_id=card_id, request=_of_its_own(request, str(card_id)))
    except AnsweredBefore:
        report.done_card_ids.append(card_id)
    except LoyaltyError as refusal:
        report.skipped.append(SkippedCard(card_id, refusal.code, refusal.sentence))
    except Exception:
        if not connection.is_usable():
            raise
        # Whatever is wrong with one card, the others are changed.
        report.failed_card_ids.append(card_id)
        log.exception("loyalty.bulk_card_failed", card_id=card_id)
    else:
        report.done_card_ids.append(card_id)


def _of_its_own(request: Request | None, part: str) -> Request | None:
    """A request for a part of a bulk call, with a key that no client would send."""
    if request is None:
        return None
    key = f"{request.key} {part}"
    return replace(request, key=key if len(key) <= LONGEST_KEY else hashlib.sha256(key.encode()).hexdigest())


def _tell(event: str, merchant: Merchant, report: BulkReport) -> None:
    log.info(
        event,
        merchant_id=merchant.pk,
        done=len(report.done_card_ids),
        skipped=len(report.skipped),
        failed=len(report.failed_card_ids),
    )
