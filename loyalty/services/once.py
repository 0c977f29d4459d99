"""A request is done once: the same key gets the same answer, another body under that key a refusal.

A verb wraps its transaction in `once`; `ledger.lock` looks the key up in the statement that locks, and `ledger.post`
writes the answer in the statement that moves the balance. Verbs that move no balance call `look` and `record`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import IntegrityError

from loyalty.errors import IdempotencyKeyExpired, IdempotencyKeyReused, LoyaltyError
from loyalty.models import IdempotencyKey, Transaction
from notifications.errors import MessageError


@dataclass(frozen=True, kw_only=True)
class Request:
    """What names a request: its key and a fingerprint of what it asks for.

    `status` is kept beside the answer for whoever renders it. A key belongs to the merchant, or to the user if there
    is one; `merchant_id` is then None when the request is about no single merchant.
    """

    key: str
    fingerprint: str
    status: int
    merchant_id: int | None
    user_id: int | None = None

    @property
    def ledger_key(self) -> str:
        """The key as ledger rows keep it, for ever. Keys have no space, so those of users stay apart from tills'."""
        return self.key if self.user_id is None else f"user {self.user_id} {self.key}"


class Client(NamedTuple):
    """Where a request came from. Kept only by programs that ask for it."""

    address: str
    agent: str


class AnsweredBefore(Exception):
    """The request was answered with this status, from these rows."""

    def __init__(self, status: int, answer: Mapping[str, Any]) -> None:
        super().__init__(status, answer)
        self.status = status
        self.answer = answer


@contextmanager
def once(request: Request | None) -> Iterator[None]:
    """Wrap the transaction of a verb: what it refuses may have been done, by the same request, a moment ago.

    Raises:
        AnsweredBefore: it was. IdempotencyKeyReused, IdempotencyKeyExpired: as `judge`.
    """
    try:
        yield
    except (LoyaltyError, MessageError, IntegrityError):
        # While this one waited for the card, its twin was answered: what it looked up was older than that.
        look(request)
        raise


def look(request: Request | None) -> None:
    """Go on only with a request that was not answered yet.

    Raises:
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `judge`.
    """
    if request is None:
        return
    keys = IdempotencyKey.objects.filter(key=request.key, user=request.user_id)
    if request.user_id is None:
        keys = keys.filter(merchant=request.merchant_id)
    found = keys.first()
    rows = Transaction.objects.filter(merchant=request.merchant_id, idempotency_key=request.ledger_key)
    judge(request, found, None if found else rows.values_list("pk", flat=True).first())


def judge(request: Request, found: IdempotencyKey | None, transaction_id: int | None) -> None:
    """Decide about what is kept under a request's key: its answer, or only the ledger row that it wrote.

    Raises:
        AnsweredBefore: the same request was answered.
        IdempotencyKeyReused: another request was.
        IdempotencyKeyExpired: the answer is not kept any more.
    """
    if found and found.fingerprint != request.fingerprint:
        raise IdempotencyKeyReused("This idempotency key was used for another request. Take a new key.")
    if found:
        raise AnsweredBefore(found.status, found.answer)
    if transaction_id:
        raise IdempotencyKeyExpired(
            f"This request was carried out as transaction {transaction_id}; its answer is not kept any more.",
            transaction_id=transaction_id,
        )


def record(request: Request | None, *, answer: Mapping[str, Any], at: datetime, card_id: int | None = None) -> None:
    """Keep the answer, in the caller's transaction. `card_id` is the card that it tells about, for an erasure.

    Raises:
        IntegrityError: a twin was faster.
    """
    if request is None:
        return
    IdempotencyKey.objects.create(
        merchant_id=request.merchant_id,
        user_id=request.user_id,
        card_id=card_id,
        key=request.key,
        fingerprint=request.fingerprint,
        status=request.status,
        answer=dict(answer),
        created_at=at,
    )
