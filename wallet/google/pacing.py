"""How fast Google is called."""

import asyncio
import threading
import time

SLOWEST_SHARE = 1 / 16  # of the full rate, however often Google asked for less
RECOVERED_BY = 500  # calls that went well, from half the rate to the full one
SHORTEST_PAUSE_SECONDS = 1.0


class Pace:
    """Turns for all tasks and threads of this process: never more than `per_second` in any second.

    Turns have equal gaps and are not saved up, so no second sees a burst, wherever it begins. Google's wish to wait
    outlives the run that heard it, if the pace does.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.rate = per_second
        self._next_at = 0.0
        self._paused_until = 0.0
        self._guard = threading.Lock()
        self._lines: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    @property
    def pause_seconds(self) -> float:
        """For how long nobody gets a turn because Google asked for it."""
        return max(0.0, self._paused_until - time.monotonic())

    async def turn(self) -> None:
        """Wait for a turn. First come, first served; a call is made right after it."""
        async with self._line():
            while wait := self._take_turn():
                await asyncio.sleep(wait)

    def slow_down(self, retry_after_seconds: float = 0) -> None:
        """Google has had too many: nobody goes for so long, and then at half the rate.

        Calls that were under way meanwhile are refused for the same reason, so they do not halve it again.
        """
        now = time.monotonic()
        with self._guard:
            if now >= self._paused_until:
                self.rate = max(self.rate / 2, self.per_second * SLOWEST_SHARE)
            self._paused_until = max(self._paused_until, now + max(retry_after_seconds, SHORTEST_PAUSE_SECONDS))

    def recover(self) -> None:
        """A call went well: a little faster again."""
        with self._guard:
            self.rate = min(self.rate + self.per_second / 2 / RECOVERED_BY, self.per_second)

    def _take_turn(self) -> float:
        """Take the turn if it has come, and return 0; else the seconds to wait for it."""
        with self._guard:
            now = time.monotonic()
            wait = max(self._next_at, self._paused_until) - now
            if wait > 0:
                return wait
            # From now and not from when it was due: turns that came late would be followed by a burst.
            self._next_at = now + 1 / self.rate
            return 0

    def _line(self) -> asyncio.Lock:
        """Where the tasks of this event loop stand in line; a lock belongs to one loop."""
        loop = asyncio.get_running_loop()
        with self._guard:
            self._lines = {kept: line for kept, line in self._lines.items() if not kept.is_closed()}
            return self._lines.setdefault(loop, asyncio.Lock())
