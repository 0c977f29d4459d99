"""A balance that left the path of its ledger is put back on it."""

from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import F

from loyalty.errors import CardNotFound, InvalidInput, NothingToChange
from loyalty.models import Card, CardBalance, Merchant, Transaction
from loyalty.services import ledger
from loyalty.services.adjustments import require_reason

log = structlog.get_logger()


@transaction.atomic
def mend_balance(*, merchant: Merchant, card_id: int, reason: str, actor: str, at: datetime) -> CardBalance:
    """Set a card's balance to what its last ledger row states. The ledger itself stays as it is.

    Phones are told at the next sync. The log keeps what the balance was, who mended it and why, because the ledger
    cannot: nothing moved.

    Raises:
        CardNotFound: the merchant has no such card.
        InvalidInput: the ledger of the card is broken itself, so it cannot say what the balance is; or there is no
            balance, whose last activity and promised day no ledger row knows.
        NothingToChange: the balance is what the ledger says.
        ReasonRequired, InvalidInput: there is no usable reason.
    """
    reason = require_reason(reason)
    balance = _locked(card_id, merchant=merchant)
    points, stamps, seq = _stated(card_id)
    if balance.last_seq > seq:
        # The balance is the only thing left that knows of those rows: mending it would take their points for good.
        raise InvalidInput(
            f"The balance of card {card_id} knows row {balance.last_seq} as the last, but its ledger ends at row "
            f"{seq}: rows are missing at its end.",
            field="card",
        )
    if (balance.points_balance, balance.stamp_count, balance.last_seq) == (points, stamps, seq):
        raise NothingToChange(f"The balance of card {card_id} is what its ledger says. Nothing was done.")
    log.warning(
        "loyalty.balance_mended",
        card_id=card_id,
        actor=actor,
        reason=reason,
        points=points,
        points_before=balance.points_balance,
        stamps=stamps,
        stamps_before=balance.stamp_count,
    )
    CardBalance.objects.filter(card=card_id).update(
        points_balance=points, stamp_count=stamps, last_seq=seq, version=F("version") + 1, changed_at=at
    )
    return CardBalance.objects.get(card=card_id)


def _locked(card_id: int, *, merchant: Merchant) -> CardBalance:
    try:
        return ledger.lock(card_id, merchant=merchant).balance
    except CardNotFound:
        if not Card.objects.of(merchant).filter(pk=card_id).exists():
            raise
    raise InvalidInput(f"Card {card_id} has no balance that could be mended: its row is missing.", field="card")


def _stated(card_id: int) -> tuple[int, int, int]:
    """Points, stamps and number of the last row, if all rows add up to it."""
    points = stamps = seq = 0
    for row in Transaction.objects.filter(card=card_id).order_by("seq").iterator():
        points, stamps, seq = points + row.points_delta, stamps + row.stamps_delta, seq + 1
        if (row.points_balance_after, row.stamps_balance_after, row.seq) != (points, stamps, seq):
            raise InvalidInput(f"Row {row.seq} of card {card_id} does not continue the one before it.", field="card")
    if not seq:
        raise InvalidInput(f"Card {card_id} has no ledger rows.", field="card")
    return points, stamps, seq
