"""Putting messages into the outbox and taking them out again, inside the caller's transaction."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Case, F, Value, When

from notifications.errors import MessageAlreadyWaiting, MessageErased, MessageHasNoAddress, MessageNotFound
from notifications.models import ERASED, WAITING, Message, Status

log = structlog.get_logger(__name__)

# One JSON parameter, because psycopg writes seven text arrays of 500 ten times slower.
INSERT = """
    INSERT INTO notifications_message (
        kind, scope, reference, recipient, locale, context, dedupe_key,
        status, attempts, resends, next_attempt_at, last_error, created_at
    )
    SELECT kind, scope, reference, recipient, locale, context, dedupe_key,
           CASE recipient WHEN '' THEN 'undeliverable' ELSE 'due' END, 0, 0, %(at)s, '', %(at)s
    FROM json_to_recordset(%(messages)s::json) AS new (
        kind text, scope text, reference text, recipient text, locale text, context jsonb, dedupe_key text
    )
    ON CONFLICT (dedupe_key) DO NOTHING
"""
encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to queue. `recipient` may be empty: then it is kept as undeliverable, for people to see.

    `context` holds plain JSON: figures as integers, dates as YYYY-MM-DD under keys that end in `_on`.
    """

    kind: str
    scope: str
    reference: str
    recipient: str
    locale: str
    context: Mapping[str, Any]
    dedupe_key: str


def queue(message: NewMessage, *, at: datetime) -> bool:
    """Owe somebody a mail, due at once. False when a message with its dedupe key exists already."""
    return queue_many([message], at=at) == 1


def queue_many(messages: Iterable[NewMessage], *, at: datetime) -> int:
    """Owe many people a mail, in one statement, and return how many were not owed before."""
    rows = [
        {
            "kind": message.kind,
            "scope": message.scope,
            "reference": message.reference,
            "recipient": message.recipient,
            "locale": message.locale,
            "context": message.context,
            "dedupe_key": message.dedupe_key,
        }
        for message in messages
    ]
    if not rows:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(INSERT, {"messages": encode(rows), "at": at})
        return int(cursor.rowcount)


def cancel(*, reference: str, kinds: Collection[str], at: datetime, reason: str) -> int:
    """Take back the messages of these kinds that have not gone out, and return how many there were.

    One that a sender holds is taken back too, unless it is on the wire at this moment; then it ends as sent.
    """
    cancelled = (
        Message.objects.about(reference)
        .waiting()
        .filter(kind__in=kinds)
        .update(status=Status.CANCELLED, cancelled_at=at, lease_until=None, last_error=reason)
    )
    if cancelled:
        log.info("notifications.messages_cancelled", reference=reference, count=cancelled)
    return cancelled


def scrub(*, reference: str, at: datetime) -> int:
    """Erase the personal data of all messages about one thing, cancel the unsent ones, and return how many rows."""
    is_waiting = When(status__in=WAITING, then=Value(Status.CANCELLED))
    scrubbed = Message.objects.about(reference).update(
        status=Case(is_waiting, default=F("status")),
        cancelled_at=Case(When(status__in=WAITING, then=Value(at)), default=F("cancelled_at")),
        lease_until=None,
        locale="",
        context={},
        recipient=Case(When(recipient="", then=Value("")), default=Value(ERASED)),
        # A mail server's refusal often repeats the address.
        last_error=Case(When(last_error="", then=Value("")), default=Value(ERASED)),
    )
    log.info("notifications.messages_scrubbed", reference=reference, count=scrubbed)
    return scrubbed


@transaction.atomic
def send_again(*, message_id: int, at: datetime) -> Message:
    """Make a message due once more that was sent, cancelled or given up, with all its attempts before it.

    It goes out under a new Message-ID, or the receiver would drop it as a duplicate.

    Raises:
        MessageNotFound: there is no such message.
        MessageAlreadyWaiting: it is due, or being sent.
        MessageHasNoAddress: it was queued without a recipient.
        MessageErased: its personal data is gone.
    """
    message = Message.objects.select_for_update().filter(id=message_id).first()
    if message is None:
        raise MessageNotFound
    if message.status in WAITING:
        raise MessageAlreadyWaiting
    if message.status == Status.UNDELIVERABLE:
        raise MessageHasNoAddress
    if message.recipient == ERASED:
        raise MessageErased
    message.status = Status.DUE
    message.attempts = 0
    message.resends += 1
    message.next_attempt_at = at
    message.last_error = ""
    message.sent_at = message.cancelled_at = None
    message.save()
    log.info("notifications.message_requeued", message_id=message.id, kind=message.kind)
    return message
