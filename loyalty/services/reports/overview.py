"""What a back office wants to know at a glance: points outstanding, points about to go, and a month of movements."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from django.db import connection
from django.db.models import Sum
from django.db.models.functions import TruncDate

from loyalty.models import Transaction, TransactionType
from loyalty.services.reports.expiries import CARDS_WITH_POINTS, last_day

HORIZONS = (14, 30, 90)


class Standing(NamedTuple):
    """A program as it stands: its points, what they are worth, and how many go within 14, 30 and 90 days."""

    program_id: int
    name: str
    merchant: str
    currency: str
    cards: int
    points: int
    value_minor: int
    expiring: tuple[int, int, int]


@dataclass(frozen=True)
class Outstanding:
    """All programs together, and those with the most points one by one."""

    programs: int
    cards: int
    points: int
    expiring: tuple[int, int, int]
    value_minor: dict[str, int]
    largest: list[Standing]


class DayOfPoints(NamedTuple):
    """Points that moved on one day in UTC, each counted upwards."""

    day: date
    earned: int
    redeemed: int
    expired: int


STANDINGS = """
SELECT program.id, program.name, merchant.name, merchant.currency, sums.cards, sums.points,
    sums.points * program.point_value_minor, sums.within_14, sums.within_30, sums.within_90
FROM loyalty_program program
JOIN loyalty_merchant merchant ON merchant.id = program.merchant_id
JOIN (
    SELECT program_id, count(*) AS cards, sum(points_balance) AS points,
        coalesce(sum(points_balance) FILTER (WHERE last_day < %(today)s::date + 14), 0) AS within_14,
        coalesce(sum(points_balance) FILTER (WHERE last_day < %(today)s::date + 30), 0) AS within_30,
        coalesce(sum(points_balance) FILTER (WHERE last_day < %(today)s::date + 90), 0) AS within_90
    FROM (
        SELECT balance.program_id, balance.points_balance, {last_day} AS last_day
        {cards_with_points}
          AND (%(merchants)s::bigint[] IS NULL OR terms.merchant_id = ANY(%(merchants)s))
        OFFSET 0  -- computes each last day once, not once per horizon
    ) cards
    GROUP BY program_id
) sums ON sums.program_id = program.id
ORDER BY sums.points DESC, program.id
""".format(  # noqa: S608  our own SQL
    last_day=last_day(
        expires_on="(balance.last_activity_at AT TIME ZONE 'UTC')::date + terms.points_expiration_days::int",
        notices_count_from="(terms.expiration_paused_until + 1)::timestamp AT TIME ZONE 'UTC'",
    ),
    cards_with_points=CARDS_WITH_POINTS,
)


def outstanding(*, at: datetime, merchants: Collection[int] | None = None, largest: int = 20) -> Outstanding:
    """Points that customers hold, what they are worth, and what goes soon. `merchants` None means all of them.

    What goes within N days is an estimate to the day: it counts in UTC, and as if nobody bought anything meanwhile.
    """
    parameters = {"today": at.astimezone(UTC).date(), "merchants": None if merchants is None else list(merchants)}
    with connection.cursor() as cursor:
        cursor.execute(STANDINGS, parameters)
        standings = [
            Standing(pk, name, merchant, currency, cards, points, int(value), (int(soon), int(later), int(latest)))
            for pk, name, merchant, currency, cards, points, value, soon, later, latest in cursor.fetchall()
        ]
    return Outstanding(
        programs=len(standings),
        cards=sum(standing.cards for standing in standings),
        points=sum(standing.points for standing in standings),
        expiring=_added(standing.expiring for standing in standings),
        value_minor=_by_currency(standings),
        largest=standings[:largest],
    )


def _added(expiring: Iterable[tuple[int, int, int]]) -> tuple[int, int, int]:
    soon = later = latest = 0
    for within_14, within_30, within_90 in expiring:
        soon, later, latest = soon + within_14, later + within_30, latest + within_90
    return soon, later, latest


def _by_currency(standings: Iterable[Standing]) -> dict[str, int]:
    values: dict[str, int] = {}
    for standing in standings:
        if standing.value_minor:
            values[standing.currency] = values.get(standing.currency, 0) + standing.value_minor
    return values


COUNTED = {
    TransactionType.POINTS_EARNED: "earned",
    TransactionType.WELCOME_BONUS: "earned",
    TransactionType.POINTS_REDEEMED: "redeemed",
    TransactionType.POINTS_EXPIRED: "expired",
}


def points_per_day(*, at: datetime, days: int = 30, merchants: Collection[int] | None = None) -> list[DayOfPoints]:
    """Points earned, redeemed and expired on each of the last days, today included, before anything was voided.

    An earn includes welcome bonuses. A sale counts on the day on which it happened in the shop.
    """
    today = at.astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    begin = datetime.combine(first, time.min, UTC)
    rows = Transaction.objects.filter(created_at__gte=begin, transaction_at__gte=begin, type__in=COUNTED)
    if merchants is not None:
        rows = rows.filter(merchant__in=merchants)
    sums: dict[tuple[date, str], int] = {}
    daily = rows.annotate(day=TruncDate("transaction_at", tzinfo=UTC)).values_list("day", "type")
    for day, kind, points in daily.annotate(points=Sum("points_delta")).order_by():
        column = COUNTED[TransactionType(kind)]
        sums[day, column] = sums.get((day, column), 0) + abs(points)
    listed = [first + timedelta(days=number) for number in range(days)]
    return [DayOfPoints(day, *(sums.get((day, column), 0) for column in DayOfPoints._fields[1:])) for day in listed]
