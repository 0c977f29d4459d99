"""Passes that somebody looks after by hand."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db import models, transaction

from loyalty.errors import CardNotFound
from loyalty.models import Card, Merchant
from wallet.models import Pass
from wallet.models.passes import PassQuerySet

log = structlog.get_logger()


class Condition(models.TextChoices):
    """How true a pass is."""

    UP_TO_DATE = "up_to_date", "up to date"
    BEHIND = "behind", "behind"  # the next run tells phones
    FAILING = "failing", "failing"  # phones could not be told, and are told again later
    GIVEN_UP = "given_up", "given up"
    NOT_IN_PHONES = "not_in_phones", "no phone has it"


# Phones are told when calls go on.
WAITING = (Condition.BEHIND, Condition.FAILING)


def condition_of(wallet_pass: Pass) -> Condition:
    """How true a pass is, as `shown` found it."""
    if not wallet_pass.is_in_phones:
        return Condition.NOT_IN_PHONES
    if wallet_pass.dead_at:
        return Condition.GIVEN_UP
    if wallet_pass.last_error_code:
        return Condition.FAILING
    is_older = wallet_pass.synced_version < wallet_pass.card.balance.version
    return Condition.BEHIND if is_older or wallet_pass.synced_look < wallet_pass.newest_look else Condition.UP_TO_DATE


@transaction.atomic
def sync_again(*, passes: PassQuerySet, at: datetime) -> int:
    """Let the next run tell phones about these passes, whatever they were told before and however often it failed.

    Passes that no phone can have are left alone. Returns how many will be told.
    """
    # Locked in one order, as runs do it, so that nobody waits in a circle.
    rows = Pass.objects.filter(pk__in=passes.in_phones().order_by().values("pk")).order_by("pk")
    ids = list(rows.select_for_update(no_key=True).values_list("pk", flat=True))
    Pass.objects.filter(pk__in=ids).update(
        content_hash="",
        synced_version=0,
        attempts=0,
        next_attempt_at=None,
        lease_until=None,
        dead_at=None,
        last_error_code="",
        last_error="",
        last_error_at=None,
    )
    log.info("wallet.passes_marked_due", passes=len(ids))
    return len(ids)


def sync_cards_again(*, merchant: Merchant, card_ids: Sequence[int] | None, at: datetime) -> int:
    """Let the next run tell phones about the passes of these cards; None: of all the merchant's cards.

    Raises:
        CardNotFound: one of the cards is unknown, or another merchant's; nothing is told.
    """
    passes = Pass.objects.of(merchant)
    if card_ids is None:
        return sync_again(passes=passes, at=at)
    if Card.objects.of(merchant).filter(pk__in=card_ids).count() < len(set(card_ids)):
        raise CardNotFound("This card is not known here.")
    return sync_again(passes=passes.filter(card__in=card_ids), at=at)
