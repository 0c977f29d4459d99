"""A metric says once what it is called and which values its labels may have; nothing else ever becomes a series."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import prod
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from loyalty_site.schedules import JOBS

# Of the schedule, not of the database: staff may schedule a task of any name.
TASKS = tuple(sorted({job.task for job in JOBS}))


@dataclass(frozen=True)
class State:
    """A metric that is read when somebody asks. `labels` holds every value that each label may have."""

    name: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    counts: bool = False

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def series(self) -> int:
        """How many series it can have at most."""
        return prod(len(values) for values in self.labels.values())

    def read(self, value: float | datetime, **labels: str) -> "Reading":
        """One series of it. Moments become seconds since 1970.

        Raises:
            ValueError: a label has a value that was not declared, or is missing.
        """
        if labels.keys() != self.labels.keys() or any(labels[name] not in self.labels[name] for name in labels):
            raise ValueError(f"{self.name} has no series {labels}")
        number = value.timestamp() if isinstance(value, datetime) else float(value)
        return Reading(self, tuple(labels[name] for name in self.labels), number)

    def family(self) -> Metric:
        made = CounterMetricFamily if self.counts else GaugeMetricFamily
        return made(self.name, self.help, labels=list(self.labels))


class Reading(NamedTuple):
    """A state and its value for some labels."""

    state: State
    labels: tuple[str, ...]
    value: float
