"""Whether the calls of a lane may go on: its breaker, and what this run has learned about the platform."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from wallet.models import Breaker, Platform
from wallet.outcomes import Kind, Outcome
from wallet.services import breaking, claiming
from wallet.services.lanes.database import in_database
from wallet.services.lanes.room import Room
from wallet.services.lanes.telling import Teller

LONGEST_WAIT_SECONDS = 20.0  # a platform that asks for more is left alone until then
STOPPED = Outcome(Kind.TROUBLE, "stopped", "The breaker opened.")
# These say nothing about the platform.
OUR_OWN = (claiming.UNEXPECTED, STOPPED.code)


class Gate:
    """Open for calls until it is `stopped`, which is when the breaker of the credential opens."""

    def __init__(self, platform: Platform, identifier: str, teller: Teller, *, now: Callable[[], datetime]) -> None:
        self.platform = platform
        self.identifier = identifier
        self.teller = teller
        self.now = now
        self.breaker = Breaker()
        self.stopped = asyncio.Event()
        self.room = Room(most=teller.most_at_once)
        self.probing = asyncio.Lock()
        self.is_well = False  # a call of this run or a probe went through
        self.is_trusted = False  # a probe of this run found the credential well

    async def load(self) -> None:
        self.breaker = await in_database(breaking.breaker_of)(self.platform, self.identifier)

    def may_be_tried(self) -> bool:
        """Whether there is anything to call for: the breaker is closed, or it is time to probe."""
        return not self.breaker.is_open or breaking.is_probe_due(self.breaker, at=self.now())

    async def stay_shut(self, cause: Outcome) -> None:
        """Make no call at all, because none can succeed."""
        if not self.breaker.is_open:
            await self.shut(cause)
        elif breaking.is_probe_due(self.breaker, at=self.now()):
            await in_database(breaking.note_failed_probe)(self.breaker, cause, at=self.now())

    async def look_whether_it_is_over(self) -> None:
        """Probe when the breaker is open, and close it when all is well."""
        if not self.breaker.is_open:
            return
        outcome = await self.probe()
        if outcome.is_done:
            await in_database(breaking.close_breaker)(platform=self.platform, identifier=self.identifier)
            await self.load()
        else:
            await in_database(breaking.note_failed_probe)(self.breaker, outcome, at=self.now())

    async def learn(self, outcome: Outcome) -> None:
        """What an outcome says about the platform and the credential, beyond this one call."""
        if outcome.kind in (Kind.DONE, Kind.GONE):
            await self.room.widen()
            self.is_well = True
            self.breaker.failures_in_a_row = 0
        elif outcome.kind is Kind.TROUBLE and outcome.code not in OUR_OWN:
            self.room.narrow()
            self.breaker.failures_in_a_row += 1
            await self._shut_unless_well(outcome)
        elif outcome.kind is Kind.CREDENTIAL:
            self.breaker.failures_in_a_row += 1
            await self._shut_unless_well(outcome)
        elif outcome.retry_after_seconds > LONGEST_WAIT_SECONDS and self.teller.throttles_all:
            await self.shut(outcome, probe_after=timedelta(seconds=outcome.retry_after_seconds))

    async def learn_last(self, outcome: Outcome) -> None:
        """What it says that a call ended like this after all of its attempts."""
        if outcome.kind is Kind.TROUBLE and outcome.code != claiming.UNEXPECTED:
            await self._shut_unless_well(outcome, is_last=True)

    async def probe(self) -> Outcome:
        try:
            return await self.teller.probe()
        except Exception as error:  # noqa: BLE001  a probe that fails in any way says that it is not over
            return Outcome(Kind.TROUBLE, claiming.UNEXPECTED, f"{type(error).__name__} while it was probed.")

    async def shut(self, cause: Outcome, *, probe_after: timedelta = breaking.FIRST_PROBE_AFTER) -> None:
        """Open the breaker and stop the lane."""
        if not self.stopped.is_set():
            self.stopped.set()
            await in_database(breaking.open_breaker)(self.breaker, cause, at=self.now(), probe_after=probe_after)
            await self.room.wake()

    async def _shut_unless_well(self, cause: Outcome, *, is_last: bool = False) -> None:
        """Shut if a probe confirms the cause. If it finds all well, it is about some cards only."""
        async with self.probing:
            if self.stopped.is_set() or not self._is_serious(cause, is_last=is_last):
                return
            if (await self.probe()).is_done:
                self.is_well = self.is_trusted = True
                self.breaker.failures_in_a_row = 0
            else:
                await self.shut(cause)

    def _is_serious(self, cause: Outcome, *, is_last: bool) -> bool:
        """Whether it may be about more than this one call: many failed, or nothing has gone through in this run.

        A credential may be refused from one call to the next, so what went through before says nothing about it.
        """
        is_new_to_us = not self.is_trusted if cause.kind is Kind.CREDENTIAL else is_last and not self.is_well
        return is_new_to_us or self.breaker.failures_in_a_row >= breaking.FAILURES_TO_OPEN
