"""What was sold to customers with a card: by month and store, and today at one till."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from loyalty.models import Merchant, Store, TransactionType
from loyalty.services.reports.counting import fetch, share
from loyalty.services.reports.periods import last_days, last_months

T = TransactionType
SALES = [T.POINTS_EARNED, T.POINTS_VOIDED, T.POINTS_REDEEMED, T.REDEMPTION_VOIDED]

# What a void or refund gave back. A void that does not say took what refunds had left.
TAKEN_BACK = """
CASE WHEN row.type = 'POINTS_VOIDED' THEN coalesce(
    row.amount_minor,
    CASE WHEN row.reverses_in_full THEN sale.amount_minor - (
        SELECT coalesce(sum(part.amount_minor), 0) FROM loyalty_transaction part WHERE part.reverses_id = sale.id
    ) END,
    0
) END"""


@dataclass(frozen=True, kw_only=True)
class Takings:
    """Sales of a month, in a store or in all of them. Amounts are in minor units, after discounts paid with points.

    `sales` are those that were not voided, `amount_minor` is what was sold less what was taken back, and
    `average_basket_minor` the one by the other. `redeemed_share` is the redeemed points' value, at today's value of a
    point, as a part of that value and the amount together. A month that took back more than it sold has neither.
    """

    store_id: int | None
    store_name: str
    sales: int
    amount_minor: int
    taken_back_minor: int
    average_basket_minor: int | None
    points_redeemed: int
    redeemed_value_minor: int
    redeemed_share: str | None


@dataclass(frozen=True, kw_only=True)
class MonthOfRevenue:
    """A local month, by its first day: all stores together, and each store in which something happened."""

    month: date
    total: Takings
    stores: list[Takings]


@dataclass(frozen=True, kw_only=True)
class Revenue:
    currency: str
    months: list[MonthOfRevenue]


REVENUE = f"""
WITH moved AS (
    SELECT width_bucket(row.transaction_at, %(starts)s::timestamptz[]) AS month,
        coalesce(row.store_id, sale.store_id) AS store_id, row.type, row.reverses_in_full, row.amount_minor,
        row.points_delta, {TAKEN_BACK} AS taken_back_minor
    FROM loyalty_transaction row
    LEFT JOIN loyalty_transaction sale ON sale.id = row.reverses_id
    WHERE row.merchant_id = %(merchant)s AND row.created_at >= %(written_from)s
        AND row.transaction_at >= %(begin)s AND row.transaction_at < %(end)s AND row.type = ANY(%(types)s)
)
SELECT month, store_id, coalesce(store.name, ''),
    count(*) FILTER (WHERE type = 'POINTS_EARNED')
        - count(*) FILTER (WHERE type = 'POINTS_VOIDED' AND reverses_in_full),
    coalesce(sum(amount_minor) FILTER (WHERE type = 'POINTS_EARNED'), 0),
    coalesce(sum(taken_back_minor), 0),
    coalesce(-sum(points_delta) FILTER (WHERE type IN ('POINTS_REDEEMED', 'REDEMPTION_VOIDED')), 0),
    (SELECT point_value_minor FROM loyalty_program WHERE merchant_id = %(merchant)s)
FROM moved
LEFT JOIN loyalty_store store ON store.id = store_id
GROUP BY month, store_id, store.name
ORDER BY month, store.name, store_id
"""  # noqa: S608  our own SQL


def revenue(*, merchant: Merchant, at: datetime, months_back: int = 6) -> Revenue:
    """What was sold with a card in each of the last local months and in this one, by store.

    A sale counts in the month in which it happened, a void or refund in the month in which it was made and in the
    store that made it; one by the back office in the store of the sale.

    Raises:
        InvalidInput: the number of months is not from 1 to 24.
    """
    period = last_months(merchant, at, months_back)
    found: dict[int, list[Takings]] = defaultdict(list)
    for month, store_id, name, sales, sold, taken_back, points, value in fetch(
        REVENUE, {**period.parameters(), "types": SALES}
    ):
        takings = _takings(
            store_id=store_id,
            store_name=name,
            sales=sales,
            amount_minor=int(sold) - int(taken_back),
            taken_back_minor=int(taken_back),
            points_redeemed=int(points),
            redeemed_value_minor=int(points) * value,
        )
        found[month].append(takings)
    months = [
        MonthOfRevenue(month=first, total=_together(found[number]), stores=found[number])
        for number, first in enumerate(period.firsts, start=1)
    ]
    return Revenue(currency=merchant.currency, months=months)


def _together(stores: list[Takings]) -> Takings:
    return _takings(
        store_id=None,
        store_name="",
        sales=sum(store.sales for store in stores),
        amount_minor=sum(store.amount_minor for store in stores),
        taken_back_minor=sum(store.taken_back_minor for store in stores),
        points_redeemed=sum(store.points_redeemed for store in stores),
        redeemed_value_minor=sum(store.redeemed_value_minor for store in stores),
    )


def _takings(*, sales: int, amount_minor: int, redeemed_value_minor: int, **figures: Any) -> Takings:
    has_sold = sales > 0 and amount_minor >= 0
    has_redeemed = redeemed_value_minor >= 0 and amount_minor >= 0
    return Takings(
        sales=sales,
        amount_minor=amount_minor,
        redeemed_value_minor=redeemed_value_minor,
        average_basket_minor=_rounded(amount_minor, sales) if has_sold else None,
        redeemed_share=share(redeemed_value_minor, amount_minor + redeemed_value_minor) if has_redeemed else None,
        **figures,
    )


def _rounded(amount: int, count: int) -> int:
    return int((Decimal(amount) / count).quantize(Decimal(1), ROUND_HALF_UP))


@dataclass(frozen=True, kw_only=True)
class DayAtStore:
    """A store's local day so far. Amounts are in minor units; `amount_minor` is before what was taken back.

    `redemptions` are of points and of stamps; `voids` are of purchases, in part or whole, of stamps and of
    redemptions.
    """

    day: date
    currency: str
    earns: int
    points_earned: int
    amount_minor: int
    redemptions: int
    points_redeemed: int
    stamps: int
    enrolments: int
    voids: int
    taken_back_minor: int


TODAY = f"""
SELECT count(*) FILTER (WHERE row.type = 'POINTS_EARNED'),
    coalesce(sum(row.points_delta) FILTER (WHERE row.type = 'POINTS_EARNED'), 0),
    coalesce(sum(row.amount_minor) FILTER (WHERE row.type = 'POINTS_EARNED'), 0),
    count(*) FILTER (WHERE row.type IN ('POINTS_REDEEMED', 'STAMP_REDEEMED')),
    coalesce(-sum(row.points_delta) FILTER (WHERE row.type = 'POINTS_REDEEMED'), 0),
    coalesce(sum(row.stamps_delta) FILTER (WHERE row.type = 'STAMP_EARNED'), 0),
    count(*) FILTER (WHERE row.type = 'CARD_CREATED'),
    count(*) FILTER (WHERE row.type IN ('POINTS_VOIDED', 'STAMP_VOIDED', 'REDEMPTION_VOIDED')),
    coalesce(sum({TAKEN_BACK}), 0)
FROM loyalty_transaction row
LEFT JOIN loyalty_transaction sale ON sale.id = row.reverses_id
WHERE row.merchant_id = %(merchant)s AND row.store_id = %(store)s AND row.created_at >= %(written_from)s
    AND row.transaction_at >= %(begin)s AND row.transaction_at < %(end)s
"""  # noqa: S608  our own SQL


def summary_of_day(*, store: Store, at: datetime) -> DayAtStore:
    """What happened at a store on the local day of this moment. An offline sale counts on the day of the sale."""
    period = last_days(store.merchant, at, 1)
    [row] = fetch(TODAY, {**period.parameters(), "store": store.pk})
    earns, points, amount, redemptions, redeemed, stamps, enrolments, voids, taken_back = (
        int(figure) for figure in row
    )
    return DayAtStore(
        day=period.firsts[0],
        currency=store.merchant.currency,
        earns=earns,
        points_earned=points,
        amount_minor=amount,
        redemptions=redemptions,
        points_redeemed=redeemed,
        stamps=stamps,
        enrolments=enrolments,
        voids=voids,
        taken_back_minor=taken_back,
    )
