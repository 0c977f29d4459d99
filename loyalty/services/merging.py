"""Two cards become one: what the first holds moves to the second, and its number leads there."""

from dataclasses import dataclass, replace
from datetime import date, datetime

import structlog
from django.db import transaction

from loyalty.errors import CardNotActive, CardNotFound, InvalidInput
from loyalty.models import Card, Merchant, Transaction, TransactionType
from loyalty.services import ledger
from loyalty.services.adjustments import require_as_seen, require_reason
from loyalty.services.explaining import keeps_until
from loyalty.services.ledger import Move
from loyalty.services.once import Request, once
from notifications import services as notifications

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What moved, or would move, and what the target holds then; `keeps_until` is the last day of its points.

    `transaction` is the target's ledger row; None in a preview.
    """

    source_id: int
    target_id: int
    points: int
    stamps: int
    points_balance: int
    stamp_count: int
    keeps_until: date | None
    transaction: Transaction | None = None


def merge_cards(
    *,
    merchant: Merchant,
    source_id: int,
    target_id: int,
    reason: str,
    actor: str,
    at: datetime,
    seen_version: int | None = None,
    request: Request | None = None,
) -> MergeReport:
    """Move all points and stamps of one card to another, and let the first one's number lead to it. It is final.

    The target keeps the later of both last activities and of both promised days, and its customer is warned again,
    in full time, before anything expires; the source's warning that has not gone out is taken back. A merge is no
    activity; but when the target's own points have just expired, those that come in begin a new cycle. Totals of what
    was ever earned, redeemed and expired stay with the card whose ledger rows they add up.

    `seen_version` is the version of the source's balance on which a person decided.

    Raises:
        CardNotFound: the merchant lacks one of the cards.
        CardChanged: the source has another version than the one seen.
        CardNotActive: one of the cards is closed, merged or erased.
        ReasonRequired: there is no reason.
        InvalidInput: it is the same card twice, or the target would hold more than a card can.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    reason = require_reason(reason)
    _require_two(source_id, target_id)
    with once(request), transaction.atomic():
        source, target = _lock(source_id, target_id, merchant=merchant, request=request)
        require_as_seen(source, seen_version)
        _require_both_in_use(source, target)
        come_in = _coming_in(source, target, reason=reason, actor=actor, at=at)
        _empty(source, target, reason=reason, actor=actor, at=at)
        row = ledger.post(target, replace(come_in, request=request), at=at)
        notifications.cancel(
            reference=str(source.pk),
            kinds=["loyalty_points_expiring"],
            at=at,
            reason="the card was merged into another one",
        )
    log.info("loyalty.cards_merged", source_id=source_id, target_id=target_id, transaction_id=row.pk)
    return _report(come_in, source, target, at=at, row=row)


def preview_merge(*, merchant: Merchant, source_id: int, target_id: int, at: datetime) -> MergeReport:
    """Tell what a merge would do. It only reads: it writes nothing and locks nothing.

    Raises:
        CardNotFound, CardNotActive, InvalidInput: as the merge.
    """
    _require_two(source_id, target_id)
    source, target = _read(source_id, merchant), _read(target_id, merchant)
    _require_both_in_use(source, target)
    come_in = _coming_in(source, target, reason="", actor="", at=at)
    ledger.foresee(target, come_in, at=at)
    return _report(come_in, source, target, at=at)


def final_target(card: Card) -> Card:
    """The card to which the number of a merged one leads, through any number of merges; others lead to themselves."""
    cards = Card.objects.select_related("balance", "customer", "program__merchant")
    while card.merged_into_id:
        card = cards.get(pk=card.merged_into_id)
    return card


def _require_two(source_id: int, target_id: int) -> None:
    if source_id == target_id:
        raise InvalidInput("A card cannot be merged into itself. Choose another one.", field="target_card_id")


def _lock(source_id: int, target_id: int, *, merchant: Merchant, request: Request | None) -> tuple[Card, Card]:
    """Both cards, locked by the order of their ids: two merges of the same cards then wait, and block nobody."""
    locked = {
        card_id: ledger.lock(card_id, merchant=merchant, request=request) for card_id in sorted((source_id, target_id))
    }
    return locked[source_id], locked[target_id]


def _read(card_id: int, merchant: Merchant) -> Card:
    cards = Card.objects.of(merchant).select_related("balance", "program__merchant")
    if card := cards.filter(pk=card_id).first():
        return card
    raise CardNotFound("This card is not known here.", card_id=card_id)


def _require_both_in_use(source: Card, target: Card) -> None:
    for card in (source, target):
        if card.status not in Card.IN_USE:
            raise CardNotActive(
                f"Card {card} is {card.get_status_display()} and cannot be merged.", status=card.status, card_id=card.pk
            )


def _coming_in(source: Card, target: Card, *, reason: str, actor: str, at: datetime) -> Move:
    """What the target is given: all that the source holds now."""
    return Move(
        type=TransactionType.MERGE_IN,
        points=source.balance.points_balance,
        stamps=source.balance.stamp_count,
        reason=reason,
        actor=actor,
        transaction_at=at,
        cycle=ledger.joined_cycle(target.balance, source.balance, at=at),
        details={"merged_from": source.pk},
    )


def _empty(source: Card, target: Card, *, reason: str, actor: str, at: datetime) -> None:
    move = Move(
        type=TransactionType.MERGE_OUT,
        points=-source.balance.points_balance,
        stamps=-source.balance.stamp_count,
        reason=reason,
        actor=actor,
        transaction_at=at,
        details={"merged_into": target.pk},
    )
    ledger.post(source, move, at=at)
    source.status, source.merged_into = Card.Status.MERGED, target
    source.save(update_fields=["status", "merged_into"])


def _report(come_in: Move, source: Card, target: Card, *, at: datetime, row: Transaction | None = None) -> MergeReport:
    return MergeReport(
        source_id=source.pk,
        target_id=target.pk,
        points=come_in.points,
        stamps=come_in.stamps,
        points_balance=target.balance.points_balance,
        stamp_count=target.balance.stamp_count,
        keeps_until=keeps_until(target, at=at),
        transaction=row,
    )
