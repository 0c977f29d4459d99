"""Who comes, who stays, and who may not come back. A visit is a purchase, a redemption or a stamp."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from loyalty.models import Merchant, TransactionType
from loyalty.services.reports.counting import fetch, require_between, share
from loyalty.services.reports.periods import last_days, last_months, local_day

T = TransactionType
VISITS = [T.POINTS_EARNED, T.POINTS_REDEEMED, T.STAMP_EARNED, T.STAMP_REDEEMED]
ACTIVE_DAYS = (30, 90, 365)
MOST_CARDS_AT_RISK = 200
IDLE_DAYS_OF_NEW_CARDS = 60
# Older visits say little about how often somebody comes, and would cost reading the whole ledger.
HABIT_DAYS = 730


@dataclass(frozen=True, kw_only=True)
class ActiveCustomers:
    """Customers who have a card in use, and those of them who came within the last local days, today included."""

    enrolled: int
    within_30_days: int
    within_90_days: int
    within_365_days: int


# A merged card's visits are those of the card that took its place.
ACTIVE = """
SELECT (
        SELECT count(*) FROM loyalty_card card JOIN loyalty_program program ON program.id = card.program_id
        WHERE program.merchant_id = %(merchant)s AND card.status IN ('active', 'suspended')
    ),
    count(DISTINCT holder.id) FILTER (WHERE visits.latest_at >= %(since_30)s),
    count(DISTINCT holder.id) FILTER (WHERE visits.latest_at >= %(since_90)s),
    count(DISTINCT holder.id) FILTER (WHERE visits.latest_at >= %(begin)s)
FROM (
    SELECT card_id, max(transaction_at) AS latest_at
    FROM loyalty_transaction
    WHERE merchant_id = %(merchant)s AND created_at >= %(written_from)s AND type = ANY(%(visits)s)
    GROUP BY card_id
) visits
JOIN loyalty_card card ON card.id = visits.card_id
JOIN loyalty_card holder ON holder.id = coalesce(card.merged_into_id, card.id)
WHERE holder.status IN ('active', 'suspended')
"""


def active_customers(*, merchant: Merchant, at: datetime) -> ActiveCustomers:
    """How many customers came within the last 30, 90 and 365 local days, of how many."""
    period = last_days(merchant, at, ACTIVE_DAYS[-1])
    parameters = {
        **period.parameters(),
        "since_30": period.starts[-ACTIVE_DAYS[0]],
        "since_90": period.starts[-ACTIVE_DAYS[1]],
        "visits": VISITS,
    }
    [(enrolled, within_30, within_90, within_365)] = fetch(ACTIVE, parameters)
    return ActiveCustomers(
        enrolled=enrolled, within_30_days=within_30, within_90_days=within_90, within_365_days=within_365
    )


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Cards that were enrolled in a local month, and how many of them were used in that month and each later one.

    `active[0]` is the month of enrolment itself, in which enrolling is no visit. `shares` are of `cards`.
    """

    month: date
    cards: int
    active: list[int]
    shares: list[str | None]


# Cards without a month of visits: all that were enrolled.
COHORTS = """
WITH cohort AS (
    SELECT card.id AS card_id, width_bucket(card.created_at, %(starts)s::timestamptz[]) AS month
    FROM loyalty_card card
    JOIN loyalty_program program ON program.id = card.program_id
    WHERE program.merchant_id = %(merchant)s AND card.created_at >= %(begin)s AND card.created_at < %(end)s
), visits AS (
    SELECT DISTINCT card_id, width_bucket(transaction_at, %(starts)s::timestamptz[]) AS month
    FROM loyalty_transaction
    WHERE merchant_id = %(merchant)s AND created_at >= %(written_from)s
        AND transaction_at >= %(begin)s AND transaction_at < %(end)s AND type = ANY(%(visits)s)
)
SELECT month, NULL, count(*) FROM cohort GROUP BY month
UNION ALL
SELECT cohort.month, visits.month, count(*)
FROM cohort JOIN visits ON visits.card_id = cohort.card_id
GROUP BY cohort.month, visits.month
"""


def cohorts(*, merchant: Merchant, at: datetime, months_back: int = 6) -> list[Cohort]:
    """Of the cards enrolled in each of the last local months and in this one: how many came, month by month.

    Raises:
        InvalidInput: the number of months is not from 1 to 24.
    """
    period = last_months(merchant, at, months_back)
    counted: dict[tuple[int, int | None], int] = defaultdict(int)
    for month, visited, cards in fetch(COHORTS, {**period.parameters(), "visits": VISITS}):
        counted[month, visited] = cards
    months = range(1, len(period.firsts) + 1)
    return [
        _cohort(first, counted[month, None], [counted[month, later] for later in months if later >= month])
        for month, first in zip(months, period.firsts, strict=True)
    ]


def _cohort(month: date, cards: int, active: list[int]) -> Cohort:
    return Cohort(month=month, cards=cards, active=active, shares=[share(count, cards) for count in active])


@dataclass(frozen=True, kw_only=True)
class CardAtRisk:
    """A card whose holder has stayed away for longer than usual. Who that is, only the card's own page tells.

    `average_interval_days`, such as "7.5", is None for a card that was used on fewer than three days.
    """

    card_id: int
    card_number_ends: str
    last_activity_on: date
    average_interval_days: str | None
    idle_days: int
    points_balance: int


# Days are numbered from the first one that is read. Two purchases on one day are one visit.
AT_RISK = """
WITH habits AS (
    SELECT card_id, count(*) AS days, min(day) AS first_day, max(day) AS last_day
    FROM (
        SELECT DISTINCT card_id, width_bucket(transaction_at, %(starts)s::timestamptz[]) AS day
        FROM loyalty_transaction
        WHERE merchant_id = %(merchant)s AND created_at >= %(written_from)s
            AND transaction_at >= %(begin)s AND transaction_at < %(end)s AND type = ANY(%(visits)s)
    ) visits
    GROUP BY card_id
), idle AS (
    SELECT card.id, card.card_number, balance.points_balance, balance.last_activity_at,
        habits.days, habits.first_day, habits.last_day,
        %(today)s::int - coalesce(habits.last_day, width_bucket(balance.last_activity_at, %(starts)s::timestamptz[]))
            AS idle_days
    FROM loyalty_card card
    JOIN loyalty_program program ON program.id = card.program_id
    JOIN loyalty_cardbalance balance ON balance.card_id = card.id
    LEFT JOIN habits ON habits.card_id = card.id
    WHERE program.merchant_id = %(merchant)s AND card.status = 'active'
)
SELECT id, right(card_number, 4), points_balance, last_activity_at, days, first_day, last_day
FROM idle
WHERE CASE WHEN days >= 3 THEN idle_days * (days - 1) > 2 * (last_day - first_day) ELSE idle_days > %(patience)s END
ORDER BY points_balance DESC, idle_days DESC, id
LIMIT %(limit)s
"""


def cards_at_risk(*, merchant: Merchant, at: datetime, limit: int = 50) -> list[CardAtRisk]:
    """Active cards that were not used for more than twice their own average interval, those with most points first.

    The interval is between days with a visit, in the last two years. A card with fewer than two intervals is at risk
    after 60 days; one without a visit counts from its latest activity, such as its enrolment.

    Raises:
        InvalidInput: the limit is not from 1 to 200.
    """
    require_between(1, limit, MOST_CARDS_AT_RISK, field="limit")
    period = last_days(merchant, at, HABIT_DAYS)
    parameters = {
        **period.parameters(),
        "visits": VISITS,
        "today": len(period.firsts),
        "patience": IDLE_DAYS_OF_NEW_CARDS,
        "limit": limit,
    }
    today = period.firsts[-1]
    found = []
    for card_id, ends, points, active_at, days, first_day, last_day in fetch(AT_RISK, parameters):
        last_on = period.firsts[last_day - 1] if last_day else local_day(merchant, active_at)
        found.append(
            CardAtRisk(
                card_id=card_id,
                card_number_ends=ends,
                last_activity_on=last_on,
                average_interval_days=_average(days, first_day, last_day),
                idle_days=(today - last_on) // timedelta(days=1),
                points_balance=points,
            )
        )
    return found


def _average(days: int | None, first_day: int, last_day: int) -> str | None:
    if days is None or days < 3:
        return None
    return str((Decimal(last_day - first_day) / (days - 1)).quantize(Decimal("0.1"), ROUND_HALF_UP))
