"""Which passes lag behind, taking them into a run's hands, and writing down what became of them.

Everything here is quick and asks the database only; nothing is locked while a platform is called.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Func, Value
from django.db.models.functions import Greatest

from loyalty.models import Merchant
from wallet.content import Face, State, content_hash
from wallet.models import Pass, Platform
from wallet.models.passes import PassQuerySet
from wallet.outcomes import Kind, Outcome
from wallet.services.rendering import newest_face

RUNNER_LOCK = 0x10A3  # tells our advisory locks from those of other programs on the same database
LEASE = timedelta(minutes=2)  # longer than four attempts and their time-outs
LOOKED_AT_ONCE = 10_000
CLAIMED_AT_ONCE = 200
RETRY_AFTER = (
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(hours=12),
)
UNEXPECTED = "unexpected"  # an exception that nobody foresaw
UNEXPECTED_ATTEMPTS = 3
JITTER = 0.1
NOT_FAILING: dict[str, Any] = {
    "attempts": 0,
    "next_attempt_at": None,
    "lease_until": None,
    "last_error_code": "",
    "last_error": "",
    "last_error_at": None,
    "dead_at": None,
}


@dataclass(frozen=True)
class Selection:
    """The passes that a run is about: all, or those of some cards or a merchant."""

    card_ids: Sequence[int] = ()
    merchant: Merchant | None = None

    def passes(self) -> PassQuerySet:
        passes = Pass.objects.all()
        if self.merchant is not None:
            passes = passes.of(self.merchant)
        return passes.filter(card__in=self.card_ids) if self.card_ids else passes


@dataclass
class Taken:
    """A pass in the hands of this run. What it is to show was read together with the version it had then."""

    wallet_pass: Pass
    face: Face
    version: int
    look: int
    hash: str
    lease: datetime

    @property
    def card_id(self) -> int:
        return self.wallet_pass.card_id

    @property
    def is_known(self) -> bool:
        """Whether all phones show this already: none fetched anything else since they were told."""
        shown = self.wallet_pass
        is_as_told = shown.fetched_version <= shown.synced_version and shown.fetched_look <= shown.synced_look
        return is_as_told and self.hash == shown.content_hash

    @property
    def points_moved(self) -> bool:
        return self.wallet_pass.synced_version < self.version


@contextmanager
def only_runner(platform: Platform, identifier: str) -> Iterator[bool]:
    """Whether this process is the one that calls the platform with this credential, to the end of the block."""
    name = lock_name(platform, identifier)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [RUNNER_LOCK, name])
        is_ours = bool(cursor.fetchone()[0])
    try:
        yield is_ours
    finally:
        if is_ours:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [RUNNER_LOCK, name])


def lock_name(platform: Platform, identifier: str) -> int:
    """The number of the advisory lock, which has 32 bits."""
    return zlib.crc32(f"{platform}:{identifier}".encode()) - 2**31


# What `Pass.objects.due` says, by half the joins: each minute this looks at every pass there is.
DUE = """
SELECT id FROM (
    SELECT pass.id, row_number() OVER (PARTITION BY balance.program_id ORDER BY pass.id) AS turn
    FROM wallet_pass pass
    JOIN loyalty_cardbalance balance ON balance.card_id = pass.card_id
    JOIN loyalty_program program ON program.id = balance.program_id
    LEFT JOIN wallet_artwork artwork ON artwork.program_id = program.id
    WHERE pass.platform = %(platform)s AND pass.issued_under = %(identifier)s
      AND (pass.platform = 'apple' OR pass.saved) AND pass.status <> 'removed'
      AND (pass.synced_version < balance.version
           OR pass.synced_look < program.version + coalesce(artwork.version, 0))
      AND (pass.tried_version < balance.version
           OR pass.tried_look < program.version + coalesce(artwork.version, 0)
           OR pass.dead_at IS NULL AND (pass.next_attempt_at IS NULL OR pass.next_attempt_at <= %(at)s))
      AND (pass.lease_until IS NULL OR pass.lease_until <= %(at)s)
      AND (%(merchant)s::bigint IS NULL OR program.merchant_id = %(merchant)s)
      AND (%(cards)s::bigint[] IS NULL OR pass.card_id = ANY(%(cards)s))
) due
ORDER BY turn, id LIMIT %(limit)s
"""


def find_due(platform: Platform, identifier: str, selection: Selection, *, at: datetime) -> list[int]:
    """The ids of due passes, each program's in turn, so that no merchant waits for another's thousands."""
    values: dict[str, Any] = {
        "platform": platform.value,
        "identifier": identifier,
        "at": at,
        "merchant": selection.merchant.pk if selection.merchant else None,
        "cards": list(selection.card_ids) or None,
        "limit": LOOKED_AT_ONCE,
    }
    with connection.cursor() as cursor:
        cursor.execute(DUE, values)
        return [pass_id for (pass_id,) in cursor.fetchall()]


def count_due(passes: PassQuerySet, *, at: datetime) -> tuple[int, list[int]]:
    """How many passes are due, and the ids of the first 100 cards."""
    due = passes.due(at)
    return due.count(), sorted(set(due.order_by("card_id").values_list("card_id", flat=True)[:100]))


def claim(
    ids: Sequence[int], tell: Callable[[Pass, Face], Mapping[str, Any]], *, at: datetime
) -> tuple[list[Taken], int]:
    """Take those of the passes that are still due. Returns those whose content has changed, and how many have not.

    What has not changed is synced by that. What has gets its place in the order of changes before anybody is told of
    it, and no content counts as known until a platform has said that it knows it.
    """
    with transaction.atomic():
        taken = [_read(row, tell, lease=at + LEASE) for row in _lock(ids, at=at)]
        changed = [one for one in taken if not one.is_known]
        _note_unchanged([one for one in taken if one.is_known])
        _note_changing(changed, at=at)
    return changed, len(taken) - len(changed)


def _lock(ids: Sequence[int], *, at: datetime) -> PassQuerySet:
    rows = Pass.objects.filter(pk__in=ids).due(at).with_card().order_by("pk")
    return rows.select_for_update(skip_locked=True, no_key=True, of=("self",))


def _read(row: Pass, tell: Callable[[Pass, Face], Mapping[str, Any]], *, lease: datetime) -> Taken:
    face = newest_face(row)
    return Taken(row, face, row.card.balance.version, row.newest_look, content_hash(tell(row, face)), lease)


def _note_unchanged(taken: Sequence[Taken]) -> None:
    for one in taken:
        shown = {"synced_version": one.version, "synced_look": one.look}
        Pass.objects.filter(pk=one.wallet_pass.pk).update(**shown, **NOT_FAILING)


def _note_changing(taken: Sequence[Taken], *, at: datetime) -> None:
    second = at.replace(microsecond=0)
    next_in_order = Func(Value("wallet_update_seq"), function="nextval")
    Pass.objects.filter(pk__in=[one.wallet_pass.pk for one in taken]).update(
        content_hash="",
        lease_until=at + LEASE,
        update_seq=next_in_order,
        modified_at=Greatest(Value(second), F("modified_at") + timedelta(seconds=1)),
    )


def settle(taken: Sequence[Taken], *, at: datetime) -> None:
    """Note that the phones were told. A change that came meanwhile has another version, and stays due.

    So does a pass that somebody marked while it was in our hands: marking it takes the lease away.
    """
    with transaction.atomic():
        for one in taken:
            _held(one).update(
                synced_version=one.version,
                synced_look=one.look,
                content_hash=one.hash,
                synced_at=at,
                status=_status(one.face),
                **NOT_FAILING,
            )


def _held(one: Taken) -> PassQuerySet:
    return Pass.objects.filter(pk=one.wallet_pass.pk, lease_until=one.lease)


def _status(face: Face) -> Pass.Status:
    return Pass.Status.ACTIVE if face.state is State.IN_USE else Pass.Status.VOIDED


def release(one: Taken) -> None:
    """Give back what was not tried to the end: it is due as before, and no attempt is counted."""
    _held(one).update(lease_until=None)


def put_off(one: Taken, failure: Outcome, *, at: datetime) -> bool:
    """Note a failure and when to try again. Returns whether the pass was given up."""
    attempts = one.wallet_pass.attempts + 1
    is_dead = is_hopeless(failure, attempts)
    values: dict[str, Any] = {"dead_at": at} if is_dead else {"next_attempt_at": _next_attempt(attempts, failure, at)}
    _held(one).update(
        attempts=attempts,
        tried_version=one.version,
        tried_look=one.look,
        lease_until=None,
        last_error_code=failure.code[:60],
        last_error=failure.reason[:500],
        last_error_at=at,
        **values,
    )
    return is_dead


def is_hopeless(failure: Outcome, attempts: int) -> bool:
    """Whether a pass is given up after so many runs in a row that failed."""
    most = UNEXPECTED_ATTEMPTS if failure.code == UNEXPECTED else len(RETRY_AFTER) + 1
    return failure.kind is Kind.FINAL or attempts >= most


def _next_attempt(attempts: int, failure: Outcome, at: datetime) -> datetime:
    wait = RETRY_AFTER[min(attempts, len(RETRY_AFTER)) - 1]
    jittered = wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  spreads retries, guards nothing
    return at + max(jittered, timedelta(seconds=failure.retry_after_seconds))
