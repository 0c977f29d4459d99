"""What a lane did."""

from dataclasses import asdict, dataclass, field
from typing import Any


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

    def count_failure(self, failure: Failure) -> None:
        self.dead += failure.is_dead
        self.retrying += not failure.is_dead
        self.failures.append(failure)

    def figures(self) -> dict[str, Any]:
        hidden = ("deferred_card_ids", "failures", "breaker")
        return {name: value for name, value in asdict(self).items() if name not in hidden}
