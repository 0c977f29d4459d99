"""Sending what is due: claim a batch, send it over one connection, mark each message at once."""

import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction

from notifications.errors import MessageNotRendered
from notifications.models import Message, MessageQuerySet, Status
from notifications.services.connecting import (
    ConnectionCut,
    DeliveryFailed,
    MailConnection,
    RefusedForGood,
    RefusedForNow,
    ServerUnavailable,
    TurnedAway,
)
from notifications.services.rendering import compose

RETRY_AFTER = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(hours=12),
)
DEFER_FOR = timedelta(minutes=1)
TROUBLES_IN_A_ROW = 3
# Replies one message can wait for, a reconnection included; each may take EMAIL_TIMEOUT.
REPLIES_PER_MESSAGE = 12
DEFAULT_TIMEOUT_SECONDS = 60

log = structlog.get_logger(__name__)


@dataclass
class SendReport:
    """What became of the messages of one run.

    `retried` failed and will be tried again, `deferred` were not tried because the server is unavailable, `cancelled`
    were taken back while they waited in the batch. `out_of_time`: the run stopped at its budget, more may be due.
    """

    sent: int = 0
    retried: int = 0
    dead: int = 0
    deferred: int = 0
    cancelled: int = 0
    out_of_time: bool = False


def send_messages(*, at: datetime, batch_size: int = 100, budget_seconds: float = 50) -> SendReport:
    """Send the messages that are due until none is left or the time is over.

    Any number of senders may run at once; each message has one at a time. A message is sent at least once and
    normally once: more often only when a sender dies, or the connection is cut, between the server's yes and our
    note of it.
    """
    run = _Run(at=at, budget=timedelta(seconds=budget_seconds))
    try:
        run.send_all(batch_size)
    finally:
        run.connection.close()
    return run.report


class _Run:
    """One sender from its first claim to its last: its clock, its connection, its report."""

    def __init__(self, *, at: datetime, budget: timedelta) -> None:
        self.at = at
        self.started = time.monotonic()
        self.ends_at = at + budget
        self.connection = MailConnection()
        self.troubles_in_a_row = 0
        self.report = SendReport()

    def now(self) -> datetime:
        return self.at + timedelta(seconds=time.monotonic() - self.started)

    def is_over(self) -> bool:
        self.report.out_of_time = self.now() >= self.ends_at
        return self.report.out_of_time

    def send_all(self, batch_size: int) -> None:
        lease = self.ends_at + _longest_for_one_message()
        while not self.is_over() and (batch := _claim(self.now(), lease_until=lease, limit=batch_size)):
            rest = deque(batch)
            try:
                self.send_batch(rest, lease)
            except ServerUnavailable as outage:
                self.defer(rest, lease, outage)
                return

    def send_batch(self, rest: deque[int], lease: datetime) -> None:
        """Send the messages one by one, taking each from `rest` when it is settled."""
        while rest:
            if self.is_over():
                _held(rest, lease).update(status=Status.DUE, lease_until=None)
                return
            message = _held([rest[0]], lease).first()
            if message is None:
                self.report.cancelled += 1
            else:
                self.send_one(message, lease)
            rest.popleft()

    def send_one(self, message: Message, lease: datetime) -> None:
        """Try one message and note what came of it.

        Raises:
            ServerUnavailable: there is no connection, or three messages in a row lost theirs.
        """
        try:
            self.connection.send(compose(message))
        except MessageNotRendered as error:
            self.give_up(message, lease, RefusedForGood(str(error), label=error.code))
        except (TurnedAway, ConnectionCut) as trouble:
            self.put_off(message, lease, trouble)
            self.troubles_in_a_row += 1
            if self.troubles_in_a_row == TROUBLES_IN_A_ROW:
                raise ServerUnavailable(trouble.reason, label=trouble.label) from trouble
        except RefusedForGood as refusal:
            self.troubles_in_a_row = 0
            self.give_up(message, lease, refusal)
        except RefusedForNow as refusal:
            self.troubles_in_a_row = 0
            self.retry(message, lease, refusal)
        else:
            self.troubles_in_a_row = 0
            self.note_sent(message)

    def put_off(self, message: Message, lease: datetime, trouble: TurnedAway | ConnectionCut) -> None:
        """Only a cut costs an attempt: the server may have taken the message, or fallen over it."""
        if isinstance(trouble, ConnectionCut):
            self.retry(message, lease, trouble)
        else:
            self.defer([message.id], lease, trouble)

    def note_sent(self, message: Message) -> None:
        # Whatever happened to the row meanwhile: the mail is out, and nobody may send it once more.
        Message.objects.filter(id=message.id).update(
            status=Status.SENT,
            sent_at=self.now(),
            attempts=message.attempts + 1,
            lease_until=None,
            cancelled_at=None,
            last_error="",
        )
        self.report.sent += 1
        log.info("notifications.message_sent", message_id=message.id, kind=message.kind, attempts=message.attempts + 1)

    def retry(self, message: Message, lease: datetime, failure: DeliveryFailed) -> None:
        if message.attempts == len(RETRY_AFTER):
            self.give_up(message, lease, failure)
            return
        retried = _held([message.id], lease).update(
            status=Status.DUE,
            attempts=message.attempts + 1,
            next_attempt_at=self.now() + RETRY_AFTER[message.attempts],
            lease_until=None,
            last_error=failure.reason,
        )
        self.report.retried += retried
        self.report.cancelled += 1 - retried
        _log_failure(message, failure, result="retried")

    def give_up(self, message: Message, lease: datetime, failure: DeliveryFailed) -> None:
        dead = _held([message.id], lease).update(
            status=Status.DEAD, attempts=message.attempts + 1, lease_until=None, last_error=failure.reason
        )
        self.report.dead += dead
        self.report.cancelled += 1 - dead
        _log_failure(message, failure, result="dead")

    def defer(self, rest: Collection[int], lease: datetime, outage: DeliveryFailed) -> None:
        """Give messages back for a minute, their attempts untouched: an outage of a day must lose nothing."""
        deferred = _held(rest, lease).update(
            status=Status.DUE, next_attempt_at=self.now() + DEFER_FOR, lease_until=None, last_error=outage.reason
        )
        self.report.deferred += deferred
        if deferred:
            log.warning("notifications.messages_deferred", count=deferred, reason=outage.label)


@transaction.atomic(durable=True)
def _claim(at: datetime, *, lease_until: datetime, limit: int) -> list[int]:
    due = Message.objects.due(at).select_for_update(skip_locked=True).order_by("next_attempt_at", "id")
    batch = list(due.values_list("id", flat=True)[:limit])
    Message.objects.filter(id__in=batch).update(status=Status.LEASED, lease_until=lease_until)
    return batch


def _held(message_ids: Collection[int], lease: datetime) -> MessageQuerySet:
    """Those of the messages that are still ours: not cancelled, not taken over after a pause of this process."""
    return Message.objects.filter(id__in=message_ids).leased_until(lease)


def _longest_for_one_message() -> timedelta:
    return timedelta(seconds=REPLIES_PER_MESSAGE * (settings.EMAIL_TIMEOUT or DEFAULT_TIMEOUT_SECONDS))


def _log_failure(message: Message, failure: DeliveryFailed, *, result: str) -> None:
    log.warning(
        "notifications.message_failed",
        message_id=message.id,
        kind=message.kind,
        attempts=message.attempts + 1,
        result=result,
        reason=failure.label,
    )
