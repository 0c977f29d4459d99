"""Throwing away what was sent long ago."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import structlog

from notifications.models import Message

log = structlog.get_logger(__name__)
MESSAGES_PER_COMMIT = 1000
SEEN = ("id", "kind", "reference", "created_at", "sent_at")  # not the context, which is large


def purge_sent(*, before: datetime, needed: Callable[[Sequence[Message]], Collection[int]]) -> int:
    """Delete the messages that were sent before a moment, and return how many.

    `needed` is asked about each batch of them and returns the ids of those that the caller still needs. Messages that
    reached nobody stay. Each batch is committed by itself, so whoever is interrupted begins again.
    """
    deleted, last = 0, 0
    while page := list(Message.objects.filter(pk__gt=last).only(*SEEN).order_by("pk")[:MESSAGES_PER_COMMIT]):
        last = page[-1].pk
        old = [message for message in page if message.sent_at and message.sent_at < before]
        purged = {message.pk for message in old} - set(needed(old)) if old else set()
        # Asked again: somebody may be sending one of them once more.
        deleted += Message.objects.filter(pk__in=purged, sent_at__lt=before).delete()[0]
        if all(message.created_at >= before for message in page):
            # Ids grow with time: all that follows is younger still.
            break
    if deleted:
        log.info("notifications.messages_purged", count=deleted)
    return deleted
