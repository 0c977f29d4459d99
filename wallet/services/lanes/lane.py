"""All due passes of one credential, told by one process."""

import asyncio
import time
import traceback
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from wallet.models import Platform
from wallet.models.passes import PassQuerySet
from wallet.outcomes import Kind, Outcome
from wallet.services import breaking, claiming
from wallet.services.claiming import CLAIMED_AT_ONCE, Selection, Taken
from wallet.services.lanes.database import in_database
from wallet.services.lanes.gate import LONGEST_WAIT_SECONDS, STOPPED, Gate
from wallet.services.lanes.reporting import Failure, LaneReport
from wallet.services.lanes.telling import Call, Teller

log = structlog.get_logger(__name__)

WAIT_SECONDS = (1.0, 4.0, 16.0)  # before the second, third and fourth attempt
SETTLED_EVERY_SECONDS = 0.2
GONE_BEFORE_DOUBT = 10


class Lane:
    """Claims what is due, calls, tries again, and writes down what became of each pass."""

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
        self.gate = Gate(platform, identifier, teller, now=self.now)
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

    @property
    def is_stopped(self) -> bool:
        return self.gate.stopped.is_set()

    async def run(self) -> LaneReport:
        """Tell what is due until nothing is, the time is over, or the breaker opens."""
        await self.gate.load()
        ready = await in_database(self.teller.ready)(self.now())
        if not ready.is_done:
            await self.gate.stay_shut(ready)
        elif self.gate.may_be_tried():
            async with self.teller.connection():
                await self.gate.look_whether_it_is_over()
                if not self.gate.breaker.is_open:
                    await self._tell_all()
        if self.gate.breaker.is_open:
            await self._defer()
        self.report.count_examined()
        return self.report

    async def _defer(self) -> None:
        count, card_ids = await in_database(claiming.count_due)(self.passes, at=self.now())
        self.report.status = "open"
        self.report.deferred, self.report.deferred_card_ids = count, card_ids
        self.report.breaker = breaking.told(self.gate.breaker)

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
        if not self.is_stopped:
            await in_database(breaking.note_failures)(self.gate.breaker)

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
            await self._take_room()
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
        return self.is_stopped or time.monotonic() - self.started >= self.budget_seconds

    async def _attend(self, call: Call) -> None:
        """See a call through, in four attempts at most, while others go on. Room was taken for the first."""
        outcome = await self._attempt(call)
        for wait in WAIT_SECONDS:
            if self.is_stopped or not is_worth_repeating(outcome):
                break
            await self._pause(max(wait, outcome.retry_after_seconds))
            await self._take_room()
            outcome = await self._attempt(call)
        self.calls_ended += 1
        await self.gate.learn_last(outcome)
        if outcome.kind is Kind.GONE:
            self.gone.append((call, outcome))
        else:
            await self._count_off(call, None if outcome.is_done else outcome)

    async def _take_room(self) -> None:
        await self.gate.room.take(unless=self.gate.stopped)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the lane is stopped meanwhile."""
        try:
            await asyncio.wait_for(self.gate.stopped.wait(), seconds)
        except TimeoutError:
            return

    async def _attempt(self, call: Call) -> Outcome:
        try:
            outcome = await self._perform(call)
            # In its place: while a probe looks whether this is an outage, no other call begins.
            await self.gate.learn(outcome)
        finally:
            await self.gate.room.leave()
        return outcome

    async def _perform(self, call: Call) -> Outcome:
        """The outcome of the call. Once the lane is stopped none is made, and none that was begun is waited for."""
        if self.is_stopped:
            return STOPPED
        performing = asyncio.ensure_future(call.perform())
        stopping = asyncio.ensure_future(self.gate.stopped.wait())
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
        if self.is_stopped and cause.kind is not Kind.FINAL:
            await in_database(claiming.release)(one)
            return
        is_dead = await in_database(claiming.put_off)(one, cause, at=self.now())
        self.report.count_failure(Failure(one.card_id, cause.code, cause.reason, is_dead))
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
        if len(self.gone) >= GONE_BEFORE_DOUBT and len(self.gone) * 2 > self.calls_ended and not self.is_stopped:
            probed = await self.gate.probe()
            if not probed.is_done:
                await self.gate.shut(probed)
        for call, outcome in self.gone:
            if not self.is_stopped:
                await in_database(call.forget)(outcome)
            await self._count_off(call, STOPPED if self.is_stopped else None)


def is_worth_repeating(outcome: Outcome) -> bool:
    """Whether the same call may succeed within this run."""
    return (
        outcome.kind in (Kind.TROUBLE, Kind.THROTTLED)
        and outcome.code != STOPPED.code
        and outcome.retry_after_seconds <= LONGEST_WAIT_SECONDS
    )
