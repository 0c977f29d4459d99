"""What a lane asks of a platform. A lane knows none: what is particular is with its teller."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from wallet.content import Face
from wallet.models import Pass
from wallet.outcomes import Outcome
from wallet.services.claiming import Taken


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
