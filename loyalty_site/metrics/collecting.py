"""Reads the state of the installation, part by part: a part that cannot be read is named, and hides no other."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import structlog
from django.db import connection, transaction
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from loyalty_site.metrics import broker, ledger, machinery, messages, passes, rollups
from loyalty_site.metrics.declaring import Reading, State

log = structlog.get_logger()

# Every statement finds its rows by an index or reads a table that stays small; what is not done by then never will be.
LONGEST_STATEMENT_MS = 2000
IN_DATABASE: dict[str, Callable[[datetime], Iterator[Reading]]] = {
    "jobs": machinery.jobs,
    "schedule": machinery.schedule,
    "clocks": machinery.clocks,
    "staff": machinery.staff,
    "expiration": ledger.expiration,
    "ledger": ledger.transactions,
    "messages": messages.messages,
    "wallet": passes.wallet,
    "business": rollups.business,
}
ERRORS = State(
    "loyalty_scrape_errors",
    "1 for a part of the state that could not be read; its metrics are missing then.",
    {"part": (*IN_DATABASE, "broker")},
)
STATES: tuple[State, ...] = (
    *machinery.STATES,
    *ledger.STATES,
    *messages.STATES,
    *passes.STATES,
    *rollups.STATES,
    *broker.STATES,
    ERRORS,
)


class StateCollector(Collector):
    """One look at the installation at a moment."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def collect(self) -> Iterable[Metric]:
        families = {state: state.family() for state in STATES}
        for reading in self._readings():
            families[reading.state].add_metric(list(reading.labels), reading.value)  # type: ignore[attr-defined]
        return [family for family in families.values() if family.samples]

    def _readings(self) -> Iterator[Reading]:
        for part, look in IN_DATABASE.items():
            yield from self._part(part, lambda look=look: _asked(look, self.at))  # type: ignore[misc]
        yield from self._part("broker", lambda: list(broker.broker(self.at)))

    def _part(self, part: str, read: Callable[[], list[Reading]]) -> Iterator[Reading]:
        try:
            readings = read()
        except Exception as error:  # noqa: BLE001  whatever is wrong with one part, the others are asked for
            log.warning("loyalty_site.scrape_failed", part=part, reason=type(error).__name__)
            readings = []
            yield ERRORS.read(1, part=part)
        else:
            yield ERRORS.read(0, part=part)
        yield from readings


def _asked(look: Callable[[datetime], Iterator[Reading]], at: datetime) -> list[Reading]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {LONGEST_STATEMENT_MS}")
        return list(look(at))
