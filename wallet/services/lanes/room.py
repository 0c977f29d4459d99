"""How many calls run side by side."""

import asyncio

FIRST_AT_ONCE = 10  # calls side by side; more with each success, so that an outage meets few of them


class Room:
    """Places for calls: few at first, more with each success, half with each failure."""

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
