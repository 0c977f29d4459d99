"""What staff did at the till, and what somebody should have a look at."""

from dataclasses import dataclass
from datetime import date

from loyalty.models import Merchant, TransactionType
from loyalty.services.reports.counting import fetch
from loyalty.services.reports.periods import days_between

T = TransactionType
MOST_EARNS_A_DAY = 10
LARGEST_SHARE_PERCENT = 20
FEWEST_EARNS_FOR_A_SHARE = 10
KINDS: dict[str, str] = {T.POINTS_EARNED: "purchases", T.STAMP_EARNED: "stamps"}


@dataclass(frozen=True, kw_only=True)
class StaffMemberActivity:
    """What one staff member did. Points and stamps are those given; `voids` include refunds."""

    staff_member_id: int
    name: str
    earns: int
    points: int
    redemptions: int
    voids: int
    stamps: int
    adjustments: int


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One card that took a lot from one staff member. `day` is None when it did so over all the days together."""

    staff_member_id: int
    card_id: int
    day: date | None
    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class StaffActivity:
    members: list[StaffMemberActivity]
    flags: list[Flag]


ACTIVITY = """
SELECT staff.id, staff.display_name,
    count(*) FILTER (WHERE type = 'POINTS_EARNED'),
    coalesce(sum(points_delta) FILTER (WHERE type = 'POINTS_EARNED'), 0)::bigint,
    count(*) FILTER (WHERE type IN ('POINTS_REDEEMED', 'STAMP_REDEEMED')),
    count(*) FILTER (WHERE type IN ('POINTS_VOIDED', 'STAMP_VOIDED', 'REDEMPTION_VOIDED')),
    coalesce(sum(stamps_delta) FILTER (WHERE type = 'STAMP_EARNED'), 0)::bigint,
    count(*) FILTER (WHERE type = 'ADMIN_ADJUSTMENT')
FROM loyalty_transaction row
JOIN loyalty_staffmember staff ON staff.id = row.staff_member_id
WHERE row.merchant_id = %(merchant)s AND row.staff_member_id IS NOT NULL
    AND row.created_at >= %(written_from)s AND row.created_at < %(written_before)s
    AND row.transaction_at >= %(begin)s AND row.transaction_at < %(end)s
GROUP BY staff.id
ORDER BY staff.display_name, staff.id
"""

# Purchases and stamps apart: in a program of both, a visit is one of each.
FLAGS = """
WITH given AS (
    SELECT staff_member_id, card_id, type, width_bucket(transaction_at, %(starts)s::timestamptz[]) AS day,
        count(*) AS earns
    FROM loyalty_transaction
    WHERE merchant_id = %(merchant)s AND staff_member_id IS NOT NULL AND type = ANY(%(types)s)
        AND created_at >= %(written_from)s AND created_at < %(written_before)s
        AND transaction_at >= %(begin)s AND transaction_at < %(end)s
    GROUP BY 1, 2, 3, 4
), shares AS (
    SELECT staff_member_id, card_id, type, sum(earns) AS earns,
        sum(sum(earns)) OVER (PARTITION BY staff_member_id, type) AS of_all
    FROM given
    GROUP BY staff_member_id, card_id, type
)
SELECT staff_member_id, card_id, type, day, earns, NULL FROM given WHERE earns > %(most_a_day)s
UNION ALL
SELECT staff_member_id, card_id, type, NULL, earns, of_all FROM shares
WHERE of_all >= %(fewest)s AND earns * 100 > of_all * %(percent)s
ORDER BY 1, 2, 3, 4
"""


def staff_activity(*, merchant: Merchant, first: date, last: date) -> StaffActivity:
    """What each staff member did from one local day to another, at most 366, and which cards took a lot from one.

    A card is flagged when one staff member gave it more than 10 earns on a local day, or more than 20 % of all earns
    that they gave, of at least 10. What was done offline counts on the day on which it was done.

    Raises:
        InvalidInput: the days are too many, or in the wrong order.
    """
    period = days_between(merchant, first, last)
    members = [
        StaffMemberActivity(
            staff_member_id=pk,
            name=name,
            earns=earns,
            points=points,
            redemptions=redemptions,
            voids=voids,
            stamps=stamps,
            adjustments=adjustments,
        )
        for pk, name, earns, points, redemptions, voids, stamps, adjustments in fetch(ACTIVITY, period.parameters())
    ]
    limits = {
        "types": list(KINDS),
        "most_a_day": MOST_EARNS_A_DAY,
        "fewest": FEWEST_EARNS_FOR_A_SHARE,
        "percent": LARGEST_SHARE_PERCENT,
    }
    flags = [
        Flag(
            staff_member_id=staff_id,
            card_id=card_id,
            day=period.firsts[day - 1] if day else None,
            count=int(count),
            reason=f"{count:,} {KINDS[kind]} on one day" if day else f"{count:,} of {of_all:,} {KINDS[kind]}",
        )
        for staff_id, card_id, kind, day, count, of_all in fetch(FLAGS, {**period.parameters(), **limits})
    ]
    return StaffActivity(members=members, flags=flags)


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """What a void or refund could not take back, because the customer had used it. Points or stamps."""

    transaction_id: int
    reversed_transaction_id: int | None
    card_id: int
    store_id: int | None
    staff_member_id: int | None
    on: date
    points: int
    stamps: int


# An erasure leaves the word "erased" as details; then nobody knows any more.
SHORTFALLS = """
SELECT id, reverses_id, card_id, store_id, staff_member_id, width_bucket(created_at, %(starts)s::timestamptz[]),
    type = 'STAMP_VOIDED', (details->>'shortfall')::int
FROM loyalty_transaction
WHERE merchant_id = %(merchant)s AND created_at >= %(begin)s AND created_at < %(end)s
    AND type IN ('POINTS_VOIDED', 'STAMP_VOIDED') AND jsonb_typeof(details->'shortfall') = 'number'
ORDER BY id
"""


def refund_shortfalls(*, merchant: Merchant, first: date, last: date) -> list[Shortfall]:
    """Voids and refunds from one local day to another, at most 366, that got back less than was given.

    Raises:
        InvalidInput: the days are too many, or in the wrong order.
    """
    period = days_between(merchant, first, last)
    return [
        Shortfall(
            transaction_id=pk,
            reversed_transaction_id=reversed_id,
            card_id=card_id,
            store_id=store_id,
            staff_member_id=staff_id,
            on=period.firsts[day - 1],
            points=0 if of_stamps else missing,
            stamps=missing if of_stamps else 0,
        )
        for pk, reversed_id, card_id, store_id, staff_id, day, of_stamps, missing in fetch(
            SHORTFALLS, period.parameters()
        )
    ]
