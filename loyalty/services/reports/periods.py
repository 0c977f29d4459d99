"""A merchant's days and months as moments, which is what ledger rows have.

Worked out here and not by the database, which would need the same time zones as Python to agree with the rest.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from loyalty.errors import InvalidInput
from loyalty.models import Merchant
from loyalty.services.earning import CLOCK_DRIFT_OF_TILLS, OLDEST_OFFLINE_SALE
from loyalty.services.reports.counting import require_between

LONGEST_DAYS = 366
MOST_MONTHS_BACK = 24
EARLIEST, LATEST = date(1970, 1, 1), date(2199, 12, 31)
ONE_DAY = timedelta(days=1)


def local_day(merchant: Merchant, moment: datetime) -> date:
    return moment.astimezone(merchant.zone).date()


def start_of(merchant: Merchant, day: date) -> datetime:
    """The first moment of a local day, in UTC."""
    return datetime.combine(day, time.min, merchant.zone).astimezone(UTC)


@dataclass(frozen=True)
class Period:
    """Days or months one after the other: the first day of each, the moment it begins, and when the last one ends."""

    merchant: Merchant
    firsts: list[date]
    starts: list[datetime]
    end: datetime

    def parameters(self) -> dict[str, Any]:
        """For SQL: `width_bucket(moment, starts)` numbers the pieces from 1; what comes later is in one more.

        A row about the period was written between `written_from` and `written_before`: tills may be a little fast, and
        what they did offline arrives late.
        """
        return {
            "merchant": self.merchant.pk,
            "starts": [*self.starts, self.end],
            "begin": self.starts[0],
            "end": self.end,
            "written_from": self.starts[0] - CLOCK_DRIFT_OF_TILLS,
            "written_before": self.end + OLDEST_OFFLINE_SALE,
        }


def days_between(merchant: Merchant, first: date, last: date, *, longest: int = LONGEST_DAYS) -> Period:
    """The local days from the first to the last, both included.

    Raises:
        InvalidInput: the last is before the first, they are too far apart, or far from our time.
    """
    _require_known(first, field="first")
    _require_known(last, field="last")
    if last < first:
        raise InvalidInput("The last day is before the first.", field="last")
    count = (last - first).days + 1
    if count > longest:
        raise InvalidInput(f"Choose at most {longest:,} days; these are {count:,}.", field="last")
    return _period(merchant, [first + timedelta(days=number) for number in range(count)], last + ONE_DAY)


def months_between(merchant: Merchant, first: date, last: date, *, longest: int) -> Period:
    """The same days in months. The first and the last month are cut where the days begin and end.

    Raises:
        InvalidInput: as `days_between`.
    """
    days = days_between(merchant, first, last, longest=longest).firsts
    return _period(merchant, [day for day in days if day == first or day.day == 1], last + ONE_DAY)


def last_days(merchant: Merchant, at: datetime, count: int) -> Period:
    """So many local days up to today, today included."""
    today = local_day(merchant, at)
    return days_between(merchant, today - timedelta(days=count - 1), today, longest=count)


def last_months(merchant: Merchant, at: datetime, months_back: int) -> Period:
    """So many whole local months, and the one that runs.

    Raises:
        InvalidInput: the number of months is not from 1 to 24.
    """
    require_between(1, months_back, MOST_MONTHS_BACK, field="months_back")
    this_month = local_day(merchant, at).replace(day=1)
    return _period(
        merchant,
        [_months_later(this_month, -back) for back in range(months_back, -1, -1)],
        _months_later(this_month, 1),
    )


def require_not_after_today(merchant: Merchant, day: date, *, at: datetime, field: str) -> None:
    """Refuse to tell what will be.

    Raises:
        InvalidInput: the day is after the merchant's today, or far before our time.
    """
    _require_known(day, field=field)
    if day > local_day(merchant, at):
        raise InvalidInput("That day is in the future; its figures are not known yet.", field=field)


def _require_known(day: date, *, field: str) -> None:
    if not EARLIEST <= day <= LATEST:
        raise InvalidInput(f"Choose days between {EARLIEST} and {LATEST}.", field=field)


def _period(merchant: Merchant, firsts: list[date], following: date) -> Period:
    return Period(merchant, firsts, [start_of(merchant, day) for day in firsts], start_of(merchant, following))


def _months_later(month: date, count: int) -> date:
    years, index = divmod(month.month - 1 + count, 12)
    return date(month.year + years, index + 1, 1)
