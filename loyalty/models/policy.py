"""The arithmetic of expiry: pure, in the merchant's calendar days, and the only place that knows it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo


class Cycle(NamedTuple):
    """Where a card stands: idle since when, warned when, and which day was promised."""

    last_activity_at: datetime
    warned_at: datetime | None
    warned_for: date | None


@dataclass(frozen=True)
class ExpirationPolicy:
    """When idle points are warned about and when they go.

    `expires_after_days` and `warning_days` are whole local days; 0 days means never. Warnings from before
    `notices_count_from`, the end of a pause, are forgotten; the days that they promised are not.
    """

    zone: ZoneInfo
    expires_after_days: int
    warning_days: int
    requires_notice: bool
    notices_count_from: datetime | None = None

    def local_date(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def start_of(self, day: date) -> datetime:
        """The first moment of a local day, in UTC, also where clocks skip midnight."""
        return datetime.combine(day, time.min, self.zone).astimezone(UTC)

    def expires_on(self, last_activity_at: datetime) -> date:
        """The last day on which points idle since then can be used, promises aside."""
        return self.local_date(last_activity_at) + timedelta(days=self.expires_after_days)

    def keeps_until(self, cycle: Cycle) -> date:
        """The last day on which the card's points can be used: a promise is never broken."""
        expires_on = self.expires_on(cycle.last_activity_at)
        return max(expires_on, cycle.warned_for or expires_on)

    def keeps_at_least_until(self, cycle: Cycle, today: date) -> date:
        """As `keeps_until`, and for a card that has yet to be warned not before a notice sent today would end."""
        keeps_until = self.keeps_until(cycle)
        if not self.requires_notice or self.is_warned(cycle):
            return keeps_until
        return max(keeps_until, today + timedelta(days=self.warning_days))

    def must_warn(self, cycle: Cycle, today: date) -> bool:
        expires_on = self.expires_on(cycle.last_activity_at)
        if today < expires_on - timedelta(days=self.warning_days):
            return False
        if today > expires_on and not self.requires_notice:
            return False
        return not self.is_warned(cycle) or (cycle.warned_for is not None and cycle.warned_for < expires_on)

    def promise(self, cycle: Cycle, today: date) -> date:
        """The day to name in a warning sent today: a full notice period, and never before an older promise."""
        keeps_until = self.keeps_until(cycle)
        if not self.requires_notice:
            return keeps_until
        return max(keeps_until, today + timedelta(days=self.warning_days))

    def may_expire(self, cycle: Cycle, today: date) -> bool:
        if self.requires_notice and (not self.is_warned(cycle) or self.must_warn(cycle, today)):
            return False
        return today > self.keeps_until(cycle)

    def is_warned(self, cycle: Cycle) -> bool:
        return cycle.warned_at is not None and (
            self.notices_count_from is None or cycle.warned_at >= self.notices_count_from
        )

    def warn_before(self, today: date) -> datetime:
        """Cards idle since before this moment are in their warning period today."""
        return self.start_of(today - timedelta(days=self.expires_after_days - self.warning_days - 1))

    def expire_before(self, today: date) -> datetime:
        """Cards idle since before this moment are past their last day today."""
        return self.start_of(today - timedelta(days=self.expires_after_days))

    def timely_until(self, today: date) -> datetime:
        """Warnings from before this moment are at least `warning_days` old today."""
        return self.start_of(today - timedelta(days=self.warning_days - 1))
