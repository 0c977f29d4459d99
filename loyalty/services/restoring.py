"""Expired points are given back: to one card, or to all cards of a run."""

from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.db import connection, transaction

from loyalty.errors import CardNotActive, InvalidInput, MoreThanExpired, RunNotFinished, RunNotFound
from loyalty.models import Card, ExpirationRun, Merchant, Transaction, TransactionType
from loyalty.services import ledger, messages
from loyalty.services.adjustments import require_as_seen, require_in_use, require_reason
from loyalty.services.ledger import Move
from loyalty.services.once import Request, once

log = structlog.get_logger()
CARDS_PER_COMMIT = 200


@dataclass(frozen=True)
class Restoration:
    """One restore. `warning` is a sentence when more came back than ever expired, else empty."""

    transaction: Transaction
    points_balance: int
    warning: str


@dataclass
class RunRestorationReport:
    """What giving a run back did. Skipped cards are closed, merged or erased meanwhile; failed ones are in the log."""

    run_id: int
    restored_cards: int = 0
    restored_points: int = 0
    already_restored_card_ids: list[int] = field(default_factory=list)
    skipped_card_ids: list[int] = field(default_factory=list)
    failed_card_ids: list[int] = field(default_factory=list)


def restore_points(
    *,
    merchant: Merchant,
    card_id: int,
    points: int,
    reason: str,
    actor: str,
    at: datetime,
    seen_version: int | None = None,
    only_expired: bool = False,
    request: Request | None = None,
) -> Restoration:
    """Give points back to a card: an adjustment that counts as activity, so that they live a full term again.

    It is linked to the card's latest expiry that nobody has given back; that expiry then counts as restored.
    `seen_version` is the version of the balance on which a person decided; None restores whatever there is.
    `only_expired` is for those who may give back and not give away.

    Raises:
        MoreThanExpired: with `only_expired`, more would be restored on the card than ever expired.
        CardNotFound: the merchant has no such card.
        CardChanged: the card has another version than the one seen.
        CardNotActive: the card is closed, merged or erased. A suspended one can get points back.
        ReasonRequired: there is no reason.
        InvalidInput: the number of points is not positive, or more than a card can hold.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    reason = require_reason(reason)
    if points < 1:
        raise InvalidInput("Restore at least 1 point.", field="points")
    with once(request), transaction.atomic():
        card = ledger.lock(card_id, merchant=merchant, request=request)
        require_as_seen(card, seen_version)
        require_in_use(card)
        expiries = Transaction.objects.filter(card=card, type=TransactionType.POINTS_EXPIRED)
        latest = expiries.not_given_back().order_by("-seq").first()
        restored, expired = _restored_with(card, points), card.balance.lifetime_points_expired
        if only_expired and restored > expired:
            raise MoreThanExpired(
                f"{restored:,} points would be restored on this card, but only {expired:,} ever expired. "
                "A manager may give more."
            )
        so_far = f"{restored:,} points have now been restored on this card, but only {expired:,} ever expired."
        warning = so_far if restored > expired else ""
        row = _give_back(
            card, points, expiry=latest, reason=reason, actor=actor, at=at, warning=warning, request=request
        )
    return Restoration(row, card.balance.points_balance, warning)


def restore_expiration_run(
    *, run_id: int, reason: str, actor: str, at: datetime, merchant: Merchant | None = None
) -> RunRestorationReport:
    """Give back everything a run took, or what it took from one merchant's cards, once per card.

    Repeating it does nothing; it commits in chunks.

    Raises:
        RunNotFound: there is no such run, or it was another merchant's.
        RunNotFinished: the run is still working.
        ReasonRequired: there is no reason.
    """
    reason = require_reason(reason)
    run = ExpirationRun.objects.filter(pk=run_id).first()
    if run is None or (merchant and run.merchant_id not in (None, merchant.pk)):
        raise RunNotFound(f"There is no expiration run {run_id}.")
    if run.status == ExpirationRun.Status.RUNNING:
        raise RunNotFinished(f"Expiration run {run_id} is still working. Give it back when it has finished.")
    report = RunRestorationReport(run_id)
    taken = Transaction.objects.expired_in(run).select_related("merchant").order_by("pk")
    if merchant:
        taken = taken.filter(merchant=merchant)
    last_id = 0
    while expiries := list(taken.filter(pk__gt=last_id)[:CARDS_PER_COMMIT]):
        last_id = expiries[-1].pk
        with transaction.atomic():
            for expiry in sorted(expiries, key=lambda row: row.card_id):
                _restore_or_name(expiry, report, reason=reason, actor=actor, at=at)
    log.info("loyalty.run_restored", run_id=run_id, restored_cards=report.restored_cards, points=report.restored_points)
    return report


def _restore_or_name(
    expiry: Transaction, report: RunRestorationReport, *, reason: str, actor: str, at: datetime
) -> None:
    try:
        with transaction.atomic():
            _restore_one(expiry, report, reason=reason, actor=actor, at=at)
    except Exception:
        if not connection.is_usable():
            raise
        # Whatever is wrong with one card, the others get their points back.
        report.failed_card_ids.append(expiry.card_id)
        log.exception("loyalty.restoration_card_failed", run_id=report.run_id, card_id=expiry.card_id)


def _restore_one(expiry: Transaction, report: RunRestorationReport, *, reason: str, actor: str, at: datetime) -> None:
    card = ledger.lock(expiry.card_id, merchant=expiry.merchant)
    if Transaction.objects.filter(reverses=expiry, reverses_in_full=True).exists():
        report.already_restored_card_ids.append(card.pk)
        return
    try:
        require_in_use(card)
    except CardNotActive:
        report.skipped_card_ids.append(card.pk)
        return
    _give_back(card, -expiry.points_delta, expiry=expiry, reason=reason, actor=actor, at=at)
    report.restored_cards += 1
    report.restored_points += -expiry.points_delta


def _give_back(
    card: Card,
    points: int,
    *,
    expiry: Transaction | None,
    reason: str,
    actor: str,
    at: datetime,
    warning: str = "",
    request: Request | None = None,
) -> Transaction:
    move = Move(
        type=TransactionType.ADMIN_ADJUSTMENT,
        points=points,
        reason=reason,
        actor=actor,
        reverses=expiry,
        reverses_in_full=expiry is not None,
        details={"restores": expiry.pk if expiry else None, **({"warning": warning} if warning else {})},
        transaction_at=at,
        request=request,
    )
    row = ledger.post(card, move, at=at)
    messages.queue_restored(card, points=points, transaction_id=row.pk, at=at)
    log.info("loyalty.points_restored", card_id=card.pk, transaction_id=row.pk, points=points)
    return row


def _restored_with(card: Card, points: int) -> int:
    """What will have been restored on the card when these points are."""
    restores = Transaction.objects.filter(card=card, type=TransactionType.ADMIN_ADJUSTMENT, details__has_key="restores")
    return points + sum(restores.values_list("points_delta", flat=True))
