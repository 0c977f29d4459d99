"""What is kept for a while only: answers to repeated requests, sessions over, files never finished, mail long sent."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import F, QuerySet

from loyalty.models import (
    CardBalance,
    CardImport,
    CardImportRow,
    IdempotencyKey,
    StaffSession,
    Transaction,
    TransactionType,
)
from loyalty.services.imports.importing import IMPORT_LOCK
from notifications import services as notifications
from notifications.models import Message

log = structlog.get_logger()
ANSWERS_KEPT_FOR = timedelta(days=30)
SESSIONS_KEPT_FOR = timedelta(days=30)  # after their end
IMPORTS_KEPT_FOR = timedelta(days=7)  # unless they end, or go on, before
MESSAGES_KEPT_FOR = timedelta(days=400)  # after they were sent
ROWS_PER_COMMIT = 2000


@dataclass(frozen=True)
class PurgeReport:
    """How many rows of each sort were deleted."""

    answered_requests: int
    staff_sessions: int
    import_lines: int
    messages: int


def purge(*, at: datetime) -> PurgeReport:
    """Delete what was kept long enough. In batches, each committed by itself, so whoever is interrupted begins again.

    - Answers to requests: a repeated request is then refused and told which transaction it wrote.
    - Staff sessions that ended.
    - Lines of imports that were begun and not finished. The import counts as ended, its lines as left out; one that
      made no card yet is forgotten.
    - Sent messages. A warning stays while what it promised is open, and for good once it has led to an expiry.
    """
    report = PurgeReport(
        answered_requests=_delete(IdempotencyKey.objects.filter(created_at__lt=at - ANSWERS_KEPT_FOR), "created_at"),
        staff_sessions=_delete(StaffSession.objects.filter(expires_at__lt=at - SESSIONS_KEPT_FOR), "pk"),
        import_lines=_end_imports(at),
        messages=notifications.purge_sent(before=at - MESSAGES_KEPT_FOR, needed=_proofs),
    )
    log.info(
        "loyalty.records_purged",
        answered_requests=report.answered_requests,
        staff_sessions=report.staff_sessions,
        import_lines=report.import_lines,
        messages=report.messages,
    )
    return report


def _delete(rows: QuerySet[Any], order: str) -> int:
    """Delete rows that nothing refers to, the first ones first."""
    deleted = 0
    while batch := list(rows.order_by(order).values_list("pk", flat=True)[:ROWS_PER_COMMIT]):
        deleted += rows.model._default_manager.filter(pk__in=batch).delete()[0]
    return deleted


def _end_imports(at: datetime) -> int:
    unfinished = CardImport.objects.filter(finished_at=None, created_at__lt=at - IMPORTS_KEPT_FOR)
    return sum(_end_import(card_import, at=at) for card_import in unfinished.order_by("pk"))


@transaction.atomic
def _end_import(card_import: CardImport, *, at: datetime) -> int:
    """Delete the waiting lines and end the import, together: one that went on without them would seem complete."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [IMPORT_LOCK, card_import.merchant_id])
        [[nobody_imports]] = cursor.fetchall()
    if not nobody_imports:
        return 0
    deleted, _ = CardImportRow.objects.filter(card_import=card_import).delete()
    unfinished = CardImport.objects.filter(pk=card_import.pk, finished_at=None)
    # What made cards is part of their history; a file that made none may come again as if for the first time.
    unfinished.filter(imported=0).delete()
    unfinished.update(finished_at=at, skipped=F("rows") - F("imported"))
    return deleted


def _proofs(messages: Sequence[Message]) -> list[int]:
    """Those that warned in a cycle that ended with an expiry, or in one that still has points under a promise."""
    warnings = [message for message in messages if message.kind == Message.Kind.POINTS_EXPIRING]
    cycles = _cycles_to_prove({int(warning.reference) for warning in warnings})
    return [
        warning.pk
        for warning in warnings
        if any(
            began_at <= warning.created_at and (ended_at is None or warning.created_at <= ended_at)
            for began_at, ended_at in cycles[int(warning.reference)]
        )
    ]


def _cycles_to_prove(card_ids: Collection[int]) -> dict[int, list[tuple[datetime, datetime | None]]]:
    """When such cycles of these cards began and ended; None: not yet."""
    expiries = Transaction.objects.filter(card__in=card_ids, type=TransactionType.POINTS_EXPIRED)
    promised = CardBalance.objects.filter(card__in=card_ids, points_balance__gt=0, expiration_warned_for__isnull=False)
    ended: list[tuple[int, Any, Any]] = list(expiries.values_list("card_id", "cycle_started_at", "created_at"))
    going_on = [(card_id, began_at, None) for card_id, began_at in promised.values_list("card_id", "last_activity_at")]
    cycles = defaultdict(list)
    for card_id, began_at, ended_at in ended + going_on:
        cycles[card_id].append((began_at, ended_at))
    return cycles
