"""Mail that is owed. Nothing here reads more than a fixed number of the newest, or of the next, messages."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, Q

from loyalty_site.metrics.declaring import Reading, State
from notifications.models import Message

NEXT_AT_MOST = 1000
GIVEN_UP_AT_MOST = 10_000
NEWEST_AT_MOST = 100_000
COUNTED = ("sent", "dead")
OLDEST_DUE = State(
    "loyalty_outbox_oldest_due_age_seconds",
    "For how long the oldest message that is due has been waiting; 0 when none is.",
)
SETTLED = State(
    "loyalty_messages_settled",
    "Messages that were sent or given up in the last 24 hours, among the newest 100,000.",
    {"result": COUNTED},
)
NEWEST_DEAD = State(
    "loyalty_dead_letter_newest_timestamp_seconds",
    "When the message, or the pass, that was given up last was due.",
    {"of": ("message", "pass")},
)
DEAD = State(
    "loyalty_dead_letters",
    "Messages, among the newest 10,000 that were given up or cancelled, and passes that wait for a person.",
    {"of": ("message", "pass")},
)
STATES = (OLDEST_DUE, SETTLED, NEWEST_DEAD, DEAD)
Status = Message.Status


def messages(at: datetime) -> Iterator[Reading]:
    """Three statements, of which each reads the end of an index."""
    yield OLDEST_DUE.read(_waiting_seconds(at))
    yield from _settled(at)
    given_up = Message.objects.filter(status__in=(Status.CANCELLED, Status.DEAD)).order_by("-pk")
    dead = Q(status=Status.DEAD)
    found = given_up[:GIVEN_UP_AT_MOST].aggregate(
        newest=Max("next_attempt_at", filter=dead), dead=Count("pk", filter=dead)
    )
    yield DEAD.read(found["dead"], of="message")
    if found["newest"] is not None:
        yield NEWEST_DEAD.read(found["newest"], of="message")


def _waiting_seconds(at: datetime) -> float:
    """A server that is down puts messages off minute by minute, so what was never tried counts from its beginning."""
    untried = Q(attempts=0, resends=0)
    soonest = Message.objects.waiting().order_by("next_attempt_at", "pk")[:NEXT_AT_MOST]
    found = soonest.aggregate(due=Min("next_attempt_at"), made=Min("created_at", filter=untried))
    oldest = min((moment for moment in found.values() if moment is not None), default=at)
    return max(0.0, (at - oldest).total_seconds())


def _settled(at: datetime) -> Iterator[Reading]:
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    since = at - timedelta(hours=24)
    recent = Message.objects.filter(pk__gt=newest - NEWEST_AT_MOST)
    found = recent.aggregate(
        sent=Count("pk", filter=Q(status=Status.SENT, sent_at__gt=since)),
        dead=Count("pk", filter=Q(status=Status.DEAD, next_attempt_at__gt=since)),
    )
    for result in COUNTED:
        yield SETTLED.read(found[result], result=result)
