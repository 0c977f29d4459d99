"""One platform's part of a sync: calls side by side, four attempts for each, and a breaker for all.

A lane knows no platform. What is particular is with its teller, which says what a pass shows, whom to call about it,
and how.
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import structlog
from asgiref.sync import sync_to_async

from wallet.content import Face
from wallet.models import Breaker, Pass, Platform
from wallet.models.passes import PassQuerySet
from wallet.outcomes import Kind, Outcome
from wallet.services import breaking, claiming
from wallet.services.claiming import CLAIMED_AT_ONCE, Selection, Taken

log = structlog.get_logger(__name__)

WAIT_SECONDS = (1.0, 4.0, 16.0)  # before the second, third and fourth attempt
LONGEST_WAIT_SECONDS = 20.0  # a platform that asks for more is left alone until then
FIRST_AT_ONCE = 10  # calls side by side; more with each success, so that an outage meets few of them
SETTLED_EVERY_SECONDS = 0.2
GONE_BEFORE_DOUBT = 10
STOPPED = Outcome(Kind.TROUBLE, "stopped", "The breaker opened.")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Call:
    """One thing to tell a platform: an object to Google, or to Apple that a phone has passes to fetch."""

    about: list[Taken]
    perform: Callable[[], Awaitable[Outcome]]
    forget: Callable[[Outcome], None] = lambda outcome: None


class Teller(Protocol):
    """How the passes of one platform are told that they changed.

    `throttles_all`: a platform that throttles means all calls, and not the phone that a call was about.
    """

    most_at_once: int
    throttles_all: bool

    def ready(self, at: datetime) -> Outcome:
        """Whether calls make sense at all, as far as can be known without one."""

    def tell(self, wallet_pass: Pass, face: Face) -> Mapping[str, Any]:
        """What the pass shows: the same for two faces that look the same in the phone."""

    def first_calls(self) -> list[Call]:
        """What there is to tell that is about no pass."""

    def calls(self, changed: Sequence[Taken]) -> list[Call]:
        """Whom to call. A pass that no call is about has nobody to be told."""

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """What is open while calls are made."""

    async def probe(self) -> Outcome:
        """One call that changes nothing: DONE when the credential and the platform are well."""


@dataclass
class Failure:
    """A card that could not be told in four attempts."""

    card_id: int
    code: str
    reason: str
    is_dead: bool


@dataclass
class LaneReport:
    """What a lane did. `unchanged`: nobody had to be told. `failures`: the cards behind `retrying` and `dead`."""

    status: str = "ran"
    examined: int = 0
    pushed: int = 0
    unchanged: int = 0
    deferred: int = 0
    retrying: int = 0
    dead: int = 0
    deferred_card_ids: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    breaker: dict[str, Any] = field(default_factory=dict)

    def count_examined(self) -> None:
        self.examined = self.pushed + self.unchanged + self.deferred + self.retrying + self.dead

    def figures(self) -> dict[str, Any]:
        hidden = ("deferred_card_ids", "failures", "breaker")
        return {name: value for name, value in asdict(self).items() if name not in hidden}


class Lane:
    """All due passes of one credential, told by one process."""

    def __init__(
        self,
        *,
        platform: Platform,
        identifier: str,
        teller: Teller,
        selection: Selection,
        at: datetime,
        budget_seconds: float,
    ) -> None:
        self.platform = platform
        self.identifier = identifier
        self.teller = teller
        self.selection = selection
        self.at = at
        self.started = time.monotonic()
        self.budget_seconds = budget_seconds
        self.report = LaneReport()
        self.breaker = Breaker()
        self.room = Room(most=teller.most_at_once)
        self.stopped = asyncio.Event()
        self.probing = asyncio.Lock()
        self.is_well = False  # a call of this run or a probe went through
        self.is_trusted = False  # a probe of this run found the credential well
        self.seen: set[int] = set()
        self.calls_left: dict[int, int] = {}  # of each pass in hand
        self.causes: dict[int, Outcome] = {}  # why a pass in hand has failed
        self.told: list[Taken] = []  # and not yet written down
        self.gone: list[tuple[Call, Outcome]] = []
        self.calls_ended = 0

    def now(self) -> datetime:
        return self.at + timedelta(seconds=time.monotonic() - self.started)

    @property
    def passes(self) -> PassQuerySet:
        return self.selection.passes().filter(platform=self.platform, issued_under=self.identifier)

    async def run(self) -> LaneReport:
        """Tell what is due until nothing is, the time is over, or the breaker opens."""
        self.breaker = await in_database(breaking.breaker_of)(self.platform, self.identifier)
        ready = await in_database(self.teller.ready)(self.now())
        if not ready.is_done:
            await self._stay_shut(ready)
        elif not self.breaker.is_open or breaking.is_probe_due(self.breaker, at=self.now()):
            async with self.teller.connection():
                await self._look_whether_it_is_over()
                if not self.breaker.is_open:
                    await self._tell_all()
        if self.breaker.is_open:
            await self._defer()
        self.report.count_examined()
        return self.report

    async def _stay_shut(self, cause: Outcome) -> None:
        if not self.breaker.is_open:
            await self._open(cause)
        elif breaking.is_probe_due(self.breaker, at=self.now()):
            await in_database(breaking.note_failed_probe)(self.breaker, cause, at=self.now())

    async def _look_whether_it_is_over(self) -> None:
        if not self.breaker.is_open:
            return
        outcome = await self._probe()
        if outcome.is_done:
            await in_database(breaking.close_breaker)(platform=self.platform, identifier=self.identifier)
            self.breaker = await in_database(breaking.breaker_of)(self.platform, self.identifier)
        else:
            await in_database(breaking.note_failed_probe)(self.breaker, outcome, at=self.now())

    async def _defer(self) -> None:
        count, card_ids = await in_database(claiming.count_due)(self.passes, at=self.now())
        self.report.status = "open"
        self.report.deferred, self.report.deferred_card_ids = count, card_ids
        self.report.breaker = breaking.told(self.breaker)

    async def _tell_all(self) -> None:
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as notes:
            notes.create_task(self._settle_until(ended))
            try:
                async with asyncio.TaskGroup() as calls:
                    await self._begin_all(calls)
                await self._believe_that_phones_are_gone()
            finally:
                ended.set()
        if not self.stopped.is_set():
            await in_database(breaking.note_failures)(self.breaker)

    async def _begin_all(self, calls: asyncio.TaskGroup) -> None:
        """Claim what is due, in batches, and begin the calls about it. Each pass is had once in a run."""
        await self._begin_calls(await in_database(self.teller.first_calls)(), calls)
        while not self._is_over():
            due = await in_database(claiming.find_due)(self.platform, self.identifier, self.selection, at=self.now())
            due = [pass_id for pass_id in due if pass_id not in self.seen]
            if not due:
                return
            for start in range(0, len(due), CLAIMED_AT_ONCE):
                if self._is_over():
                    return
                await self._begin(due[start : start + CLAIMED_AT_ONCE], calls)

    async def _begin(self, ids: Sequence[int], calls: asyncio.TaskGroup) -> None:
        self.seen.update(ids)
        changed, unchanged = await in_database(claiming.claim)(ids, self.teller.tell, at=self.now())
        self.report.unchanged += unchanged
        begun = await in_database(self.teller.calls)(changed)
        self._count_calls(changed, begun)
        await self._begin_calls(begun, calls)

    async def _begin_calls(self, begun: Sequence[Call], calls: asyncio.TaskGroup) -> None:
        for call in begun:
            await self.room.take(unless=self.stopped)
            calls.create_task(self._attend(call))

    def _count_calls(self, changed: Sequence[Taken], begun: Sequence[Call]) -> None:
        self.calls_left.update((one.wallet_pass.pk, 0) for one in changed)
        for call in begun:
            for one in call.about:
                self.calls_left[one.wallet_pass.pk] += 1
        alone = [one for one in changed if not self.calls_left[one.wallet_pass.pk]]
        self.report.unchanged += len(alone)
        self.told.extend(alone)

    def _is_over(self) -> bool:
        return self.stopped.is_set() or time.monotonic() - self.started >= self.budget_seconds

    async def _attend(self, call: Call) -> None:
        """See a call through, in four attempts at most, while others go on. Room was taken for the first."""
        outcome = await self._attempt(call)
        for wait in WAIT_SECONDS:
            if self.stopped.is_set() or not is_worth_repeating(outcome):
                break
            await self._pause(max(wait, outcome.retry_after_seconds))
            await self.room.take(unless=self.stopped)
            outcome = await self._attempt(call)
        self.calls_ended += 1
        if outcome.kind is Kind.TROUBLE and outcome.code != claiming.UNEXPECTED:
            await self._open_unless_well(outcome, is_last=True)
        if outcome.kind is Kind.GONE:
            self.gone.append((call, outcome))
        else:
            await self._count_off(call, None if outcome.is_done else outcome)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the lane is stopped meanwhile."""
        try:
            await asyncio.wait_for(self.stopped.wait(), seconds)
        except TimeoutError:
            return

    async def _attempt(self, call: Call) -> Outcome:
        try:
            outcome = await self._perform(call)
            # In its place: while a probe looks whether this is an outage, no other call begins.
            await self._learn(outcome)
        finally:
            await self.room.leave()
        return outcome

    async def _perform(self, call: Call) -> Outcome:
        """The outcome of the call. Once the lane is stopped none is made, and none that was begun is waited for."""
        if self.stopped.is_set():
            return STOPPED
        performing = asyncio.ensure_future(call.perform())
        stopping = asyncio.ensure_future(self.stopped.wait())
        try:
            await asyncio.wait({performing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return performing.result() if performing.done() else STOPPED
        except Exception as error:  # noqa: BLE001  one call of many; its cards are named in the report
            return self._unexpected(call, error)
        finally:
            performing.cancel()
            stopping.cancel()

    def _unexpected(self, call: Call, error: Exception) -> Outcome:
        log.error(
            "wallet.call_failed",
            platform=self.platform,
            card_ids=[one.card_id for one in call.about],
            problem=type(error).__name__,
            traceback="".join(traceback.format_tb(error.__traceback__)),
        )
        return Outcome(Kind.TROUBLE, claiming.UNEXPECTED, f"{type(error).__name__} while it was told.")

    async def _learn(self, outcome: Outcome) -> None:
        """What an outcome says about the platform and the credential, beyond this one call."""
        if outcome.kind in (Kind.DONE, Kind.GONE):
            await self.room.widen()
            self.is_well = True
            self.breaker.failures_in_a_row = 0
        elif outcome.kind is Kind.TROUBLE and outcome.code not in (claiming.UNEXPECTED, STOPPED.code):
            self.room.narrow()
            self.breaker.failures_in_a_row += 1
            await self._open_unless_well(outcome)
        elif outcome.kind is Kind.CREDENTIAL:
            self.breaker.failures_in_a_row += 1
            await self._open_unless_well(outcome)
        elif outcome.retry_after_seconds > LONGEST_WAIT_SECONDS and self.teller.throttles_all:
            await self._open(outcome, probe_after=timedelta(seconds=outcome.retry_after_seconds))

    async def _open_unless_well(self, cause: Outcome, *, is_last: bool = False) -> None:
        """Open the breaker if a probe confirms the cause. If it finds all well, it is about some cards only."""
        async with self.probing:
            if self.stopped.is_set() or not self._is_serious(cause, is_last=is_last):
                return
            if (await self._probe()).is_done:
                self.is_well = self.is_trusted = True
                self.breaker.failures_in_a_row = 0
            else:
                await self._open(cause)

    def _is_serious(self, cause: Outcome, *, is_last: bool) -> bool:
        """Whether it may be about more than this one call: many failed, or nothing has gone through in this run.

        A credential may be refused from one call to the next, so what went through before says nothing about it.
        """
        is_new_to_us = not self.is_trusted if cause.kind is Kind.CREDENTIAL else is_last and not self.is_well
        return is_new_to_us or self.breaker.failures_in_a_row >= breaking.FAILURES_TO_OPEN

    async def _probe(self) -> Outcome:
        try:
            return await self.teller.probe()
        except Exception as error:  # noqa: BLE001  a probe that fails in any way says that it is not over
            return Outcome(Kind.TROUBLE, claiming.UNEXPECTED, f"{type(error).__name__} while it was probed.")

    async def _open(self, cause: Outcome, *, probe_after: timedelta = breaking.FIRST_PROBE_AFTER) -> None:
        if not self.stopped.is_set():
            self.stopped.set()
            await in_database(breaking.open_breaker)(self.breaker, cause, at=self.now(), probe_after=probe_after)
            await self.room.wake()

    async def _count_off(self, call: Call, cause: Outcome | None) -> None:
        """Note that a call ended, and what became of the passes for which it was the last."""
        for one in call.about:
            key = one.wallet_pass.pk
            if cause:
                self.causes.setdefault(key, cause)
            self.calls_left[key] -= 1
            if self.calls_left[key]:
                continue
            if failed := self.causes.get(key):
                await self._fail(one, failed)
            else:
                self.report.pushed += 1
                self.told.append(one)

    async def _fail(self, one: Taken, cause: Outcome) -> None:
        # What the breaker cut short was not tried to the end: it stays due, and no attempt counts.
        if self.stopped.is_set() and cause.kind is not Kind.FINAL:
            await in_database(claiming.release)(one)
            return
        is_dead = await in_database(claiming.put_off)(one, cause, at=self.now())
        self.report.dead += is_dead
        self.report.retrying += not is_dead
        self.report.failures.append(Failure(one.card_id, cause.code, cause.reason, is_dead))
        log.warning(
            "wallet.card_failed",
            platform=self.platform,
            card_id=one.card_id,
            reason=cause.code,
            result="dead" if is_dead else "retrying",
        )

    async def _settle_until(self, ended: asyncio.Event) -> None:
        """Write down every now and then what was told: a commit for each would be slower than the pushes."""
        while not ended.is_set() or self.told:
            told, self.told = self.told, []
            await in_database(claiming.settle)(told, at=self.now())
            try:
                await asyncio.wait_for(ended.wait(), SETTLED_EVERY_SECONDS)
            except TimeoutError:
                continue

    async def _believe_that_phones_are_gone(self) -> None:
        """Forget registrations of phones that are gone; when most seem to be, only if a probe finds all well."""
        if len(self.gone) >= GONE_BEFORE_DOUBT and len(self.gone) * 2 > self.calls_ended and not self.stopped.is_set():
            probed = await self._probe()
            if not probed.is_done:
                await self._open(probed)
        for call, outcome in self.gone:
            if not self.stopped.is_set():
                await in_database(call.forget)(outcome)
            await self._count_off(call, STOPPED if self.stopped.is_set() else None)


def is_worth_repeating(outcome: Outcome) -> bool:
    """Whether the same call may succeed within this run."""
    return (
        outcome.kind in (Kind.TROUBLE, Kind.THROTTLED)
        and outcome.code != STOPPED.code
        and outcome.retry_after_seconds <= LONGEST_WAIT_SECONDS
    )


class Room:
    """How many calls run side by side: few at first, more with each success, half with each failure."""

    def __init__(self, *, most: int) -> None:
        self.most = most
        self.size = min(FIRST_AT_ONCE, most)
        self.taken = 0
        self.changed = asyncio.Condition()

    async def take(self, *, unless: asyncio.Event) -> None:
        """Wait for a place. After the event everybody has one."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.taken < self.size or unless.is_set())
            self.taken += 1

    async def leave(self) -> None:
        self.taken -= 1
        await self.wake()

    async def widen(self) -> None:
        self.size = min(self.most, self.size + 1)
        await self.wake()

    def narrow(self) -> None:
        self.size = max(1, self.size // 2)

    async def wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def in_database(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """The function on the thread that owns the database connection."""
    return sync_to_async(function, thread_sensitive=True)
