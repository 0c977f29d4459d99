"""What became of one call to a platform, in words that both platforms share."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    """What is to follow."""

    DONE = "done"
    GONE = "gone"  # the phone has the pass no more: its registration goes, and the card is fine
    CREDENTIAL = "credential"  # no call can succeed before somebody acts
    THROTTLED = "throttled"  # too many; try later
    TROUBLE = "trouble"  # the platform or the way to it; try again
    FINAL = "final"  # this card's data, or our mistake; trying again changes nothing


@dataclass(frozen=True)
class Outcome:
    """How a call ended. `code` is short and stable; `reason` is for people and holds no secret and no personal data.

    `retry_after_seconds`: what a platform that throttles asked for. `gone_at`: since when a phone has been gone.
    """

    kind: Kind
    code: str = ""
    reason: str = ""
    retry_after_seconds: float = 0
    gone_at: datetime | None = None

    @property
    def is_done(self) -> bool:
        return self.kind is Kind.DONE


DONE = Outcome(Kind.DONE)
