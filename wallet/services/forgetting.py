"""What wallets keep for a while only: what points at customers who were erased, and what was heard long ago."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db.models import F, Q, QuerySet

from loyalty.models import Card
from wallet.models import CallbackNonce, DeviceLog, Pass, Platform, Registration
from wallet.models.passes import PassQuerySet

log = structlog.get_logger()

PHONES_HEAR_FOR = timedelta(days=1)  # that a card was erased
COMPLAINTS_KEPT_FOR = timedelta(days=30)
NONCES_KEPT_FOR = timedelta(days=7)  # callbacks end much sooner
ROWS_PER_COMMIT = 2000


@dataclass(frozen=True)
class ForgettingReport:
    """How many registrations of phones, complaints of phones and callbacks were deleted, and passes given up."""

    registrations: int
    passes: int
    device_logs: int
    callbacks: int


def forget(*, at: datetime) -> ForgettingReport:
    """Delete what was kept long enough. In batches, each committed by itself, so whoever is interrupted begins again.

    - Phones that have the pass of an erased card: a day later, in which they were told that the card has ended.
    - Such passes are given up once their platform was told. Google is told also of those that nobody keeps, because it
      knows the name from before.
    - What phones complained about, after 30 days; that a callback was heard, after a week.
    """
    erased = Pass.objects.filter(card__status=Card.Status.ERASED).exclude(status=Pass.Status.REMOVED)
    _let_google_hear(erased)
    over = erased.filter(card__customer__erased_at__lt=at - PHONES_HEAR_FOR)
    report = ForgettingReport(
        registrations=_delete(Registration.objects.filter(wallet_pass__in=over)),
        passes=_give_up(over),
        device_logs=_delete(DeviceLog.objects.filter(received_at__lt=at - COMPLAINTS_KEPT_FOR)),
        callbacks=_delete(CallbackNonce.objects.filter(received_at__lt=at - NONCES_KEPT_FOR)),
    )
    log.info(
        "wallet.records_forgotten",
        registrations=report.registrations,
        passes=report.passes,
        device_logs=report.device_logs,
        callbacks=report.callbacks,
    )
    return report


def _let_google_hear(erased: PassQuerySet) -> None:
    unsaved = erased.filter(platform=Platform.GOOGLE, saved=False).exclude(status=Pass.Status.PENDING)
    unsaved.update(saved=True)


def _give_up(over: PassQuerySet) -> int:
    """Passes that show that their card has ended, or that nobody ever got."""
    is_told = Q(synced_version__gte=F("card__balance__version")) & ~Q(content_hash="")
    return over.filter(is_told | Q(status=Pass.Status.PENDING)).update(status=Pass.Status.REMOVED, lease_until=None)


def _delete(rows: QuerySet[Any]) -> int:
    deleted = 0
    while batch := list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS_PER_COMMIT]):
        deleted += rows.model._default_manager.filter(pk__in=batch).delete()[0]
    return deleted
