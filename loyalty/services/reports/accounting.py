"""Points as a debt: what is owed, how it grew and shrank, and what nobody will ever claim."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import accumulate, pairwise
from typing import Any

from loyalty.models import Merchant, TransactionType
from loyalty.services.reports.counting import fetch, share
from loyalty.services.reports.periods import (
    ONE_DAY,
    days_between,
    months_between,
    require_not_after_today,
    start_of,
)

LONGEST_BREAKAGE_DAYS = 5 * 366
T = TransactionType


@dataclass(frozen=True, kw_only=True)
class Liability:
    """What customers held at the end of a local day; the value is in minor units, at today's value of a point."""

    as_of: date
    points: int
    cards_with_points: int
    stamps: int
    point_value_minor: int
    value_minor: int
    currency: str


# Balances as they are, less all that was written since. One statement sees both as of one moment.
LIABILITY = """
SELECT count(*) FILTER (WHERE points > 0), coalesce(sum(points), 0), coalesce(sum(stamps), 0),
    (SELECT point_value_minor FROM loyalty_program WHERE merchant_id = %(merchant)s)
FROM (
    SELECT balance.points_balance - coalesce(since.points, 0) AS points,
        balance.stamp_count - coalesce(since.stamps, 0) AS stamps
    FROM loyalty_cardbalance balance
    JOIN loyalty_program program ON program.id = balance.program_id
    LEFT JOIN (
        SELECT card_id, sum(points_delta) AS points, sum(stamps_delta) AS stamps
        FROM loyalty_transaction
        WHERE merchant_id = %(merchant)s AND created_at >= %(end)s
        GROUP BY card_id
    ) since USING (card_id)
    WHERE program.merchant_id = %(merchant)s
) cards
"""


def liability(*, merchant: Merchant, as_of: date, at: datetime) -> Liability:
    """Points and stamps that customers held at the end of a local day; for today, that they hold now.

    Raises:
        InvalidInput: the day is in the future, or far in the past.
    """
    require_not_after_today(merchant, as_of, at=at, field="as_of")
    [row] = fetch(LIABILITY, {"merchant": merchant.pk, "end": start_of(merchant, as_of + ONE_DAY)})
    cards, points, stamps, point_value_minor = (int(figure or 0) for figure in row)
    return Liability(
        as_of=as_of,
        points=points,
        cards_with_points=cards,
        stamps=stamps,
        point_value_minor=point_value_minor,
        value_minor=points * point_value_minor,
        currency=merchant.currency,
    )


@dataclass(frozen=True, kw_only=True)
class DayOfAccounting:
    """How the points of all cards moved on a local day. What takes points is negative: opening + all of it = closing.

    `difference` is what is missing for that, and is 0.
    """

    day: date
    opening: int
    earned: int
    welcome_bonus: int
    imported: int
    adjusted_up: int
    adjusted_down: int
    restored: int
    redeemed: int
    redemption_voided: int
    voided: int
    expired: int
    merged_in: int
    merged_out: int
    closing: int
    difference: int


@dataclass(frozen=True, kw_only=True)
class PointsAccounting:
    """Days one after the other, each of which opens as the one before it closed."""

    opening: int
    closing: int
    difference: int
    days: list[DayOfAccounting]


COLUMNS: dict[str, str] = {
    T.POINTS_EARNED: "earned",
    T.WELCOME_BONUS: "welcome_bonus",
    T.BALANCE_IMPORTED: "imported",
    T.POINTS_REDEEMED: "redeemed",
    T.REDEMPTION_VOIDED: "redemption_voided",
    T.POINTS_VOIDED: "voided",
    T.POINTS_EXPIRED: "expired",
    T.MERGE_IN: "merged_in",
    T.MERGE_OUT: "merged_out",
}
ADJUSTMENTS = ("adjusted_up", "adjusted_down", "restored")

# By piece of the period, and what is needed to tell the column.
MOVEMENTS = """
SELECT width_bucket(created_at, %(starts)s::timestamptz[]) AS piece, type, points_delta > 0 AS adds,
    type = 'ADMIN_ADJUSTMENT' AND (reverses_id IS NOT NULL OR details ? 'restores') AS restores,
    sum(points_delta)
FROM loyalty_transaction
WHERE merchant_id = %(merchant)s AND points_delta <> 0
    AND created_at >= %(begin)s AND created_at < %(until)s::timestamptz
GROUP BY piece, type, adds, restores
"""

# As piece 0, in the same statement, so that no sale comes in between.
BALANCES = """
SELECT 0, '', false, false, coalesce(sum(balance.points_balance), 0)
FROM loyalty_cardbalance balance
JOIN loyalty_program program ON program.id = balance.program_id
WHERE program.merchant_id = %(merchant)s
"""


def points_accounting(*, merchant: Merchant, first: date, last: date, at: datetime) -> PointsAccounting:
    """How points came and went on each local day, by when it was written. At most 366 days, up to today.

    Raises:
        InvalidInput: the days are too many, in the wrong order, or in the future.
    """
    require_not_after_today(merchant, last, at=at, field="last")
    period = days_between(merchant, first, last)
    moved = _moved(f"{MOVEMENTS} UNION ALL {BALANCES}", period.parameters() | {"until": "infinity"})
    pieces = range(1, len(period.firsts) + 1)
    held_now, since = moved[0].total, moved[len(period.firsts) + 1].total
    opening = held_now - since - sum(moved[piece].total for piece in pieces)
    standings = accumulate((moved[piece].total for piece in pieces), initial=opening)
    days = [
        _day(day, opens, closes, moved[piece].columns)
        for piece, day, (opens, closes) in zip(pieces, period.firsts, pairwise(standings), strict=True)
    ]
    return PointsAccounting(
        opening=opening, closing=held_now - since, difference=sum(day.difference for day in days), days=days
    )


@dataclass
class _Moved:
    """Points that moved in a piece of a period: all of them, and those of each column."""

    total: int = 0
    columns: Counter[str] = field(default_factory=Counter)


def _moved(statement: str, parameters: Mapping[str, Any]) -> Mapping[int, _Moved]:
    moved: dict[int, _Moved] = defaultdict(_Moved)
    for piece, kind, adds, restores, points in fetch(statement, parameters):
        moved[piece].total += int(points)
        if column := _column(kind, adds=adds, restores=restores):
            moved[piece].columns[column] += int(points)
    return moved


def _column(kind: str, *, adds: bool, restores: bool) -> str | None:
    if kind != T.ADMIN_ADJUSTMENT:
        return COLUMNS.get(kind)
    if restores:
        return "restored"
    return "adjusted_up" if adds else "adjusted_down"


def _day(day: date, opening: int, closing: int, columns: Counter[str]) -> DayOfAccounting:
    named = {name: columns[name] for name in (*COLUMNS.values(), *ADJUSTMENTS)}
    difference = closing - opening - sum(named.values())
    return DayOfAccounting(day=day, opening=opening, closing=closing, difference=difference, **named)


@dataclass(frozen=True, kw_only=True)
class MonthOfBreakage:
    """Points given out, used and lost in a local month, or in the part of it that was asked for.

    Each is net of what was taken back, so a month in which a run was given back may have lost fewer than none.
    `rate` is expired / issued.
    """

    first: date
    last: date
    issued: int
    redeemed: int
    expired: int
    rate: str | None


@dataclass(frozen=True, kw_only=True)
class Breakage:
    total: MonthOfBreakage
    months: list[MonthOfBreakage]


ISSUED = ("earned", "welcome_bonus", "imported", "adjusted_up", "voided")
REDEEMED = ("redeemed", "redemption_voided")
EXPIRED = ("expired", "restored")


def breakage(*, merchant: Merchant, first: date, last: date) -> Breakage:
    """Which part of the points was lost to expiry, from one local day to another and month by month. At most 5 years.

    Raises:
        InvalidInput: the days are too many, or in the wrong order.
    """
    period = months_between(merchant, first, last, longest=LONGEST_BREAKAGE_DAYS)
    parameters = period.parameters()
    moved = _moved(MOVEMENTS, parameters | {"until": parameters["end"]})
    ends = [day - ONE_DAY for day in period.firsts[1:]] + [last]
    months = [
        _broken(
            begin,
            end,
            issued=_sum(moved[piece].columns, ISSUED),
            redeemed=-_sum(moved[piece].columns, REDEEMED),
            expired=-_sum(moved[piece].columns, EXPIRED),
        )
        for piece, (begin, end) in enumerate(zip(period.firsts, ends, strict=True), start=1)
    ]
    total = _broken(
        first,
        last,
        issued=sum(month.issued for month in months),
        redeemed=sum(month.redeemed for month in months),
        expired=sum(month.expired for month in months),
    )
    return Breakage(total=total, months=months)


def _sum(columns: Counter[str], names: tuple[str, ...]) -> int:
    return sum(columns[name] for name in names)


def _broken(first: date, last: date, *, issued: int, redeemed: int, expired: int) -> MonthOfBreakage:
    return MonthOfBreakage(
        first=first, last=last, issued=issued, redeemed=redeemed, expired=expired, rate=share(expired, issued)
    )
