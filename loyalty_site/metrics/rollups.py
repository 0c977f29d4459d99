"""What would be too dear for a scrape: two tasks count it, and the record of their last run is what is shown."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Sum

from loyalty.models import Card, Merchant, Transaction, TransactionType
from loyalty.services import reports
from loyalty.services.reports.counting import fetch
from loyalty.services.reports.customers import AT_RISK, HABIT_DAYS, IDLE_DAYS_OF_NEW_CARDS, VISITS
from loyalty.services.reports.periods import last_days
from loyalty_site.metrics.declaring import Reading, State
from loyalty_site.models import JobRun
from loyalty_site.schedules import ROLLUP, STOCK
from wallet.models import Pass

T = TransactionType
ROWS_AT_MOST = 200_000
FEW_CARDS, NEW_DAYS = 5, 7
MOVED_DAYS = 90
MONTH = 3
NAMED_AT_MOST = 50

CARDS = State("loyalty_cards_active", "Cards in use of active programs, last night.")
AT_RISK_CARDS = State("loyalty_cards_at_risk", "Of them those that stay away for longer than usual, last night.")
QUIET = State(
    "loyalty_merchants_with_few_new_cards",
    "Merchants of active programs that are older than a week and had fewer than 5 new cards in it, last night.",
)
REDEEMED = State("loyalty_redemption_ratio", "Points redeemed for each point earned, in the 90 days before last night.")
COMPLETED = State("loyalty_stamp_completion_ratio", "Stamps redeemed for each stamp earned, in the same 90 days.")
RETAINED = State(
    "loyalty_retention_month3_ratio",
    "Of the cards enrolled four months ago those that were used in the third month after.",
)
STATES = (CARDS, AT_RISK_CARDS, QUIET, REDEEMED, COMPLETED, RETAINED)


@dataclass(frozen=True)
class Rows:
    """How many rows of each type the ledger got, up to an id."""

    last_id: int
    rows: dict[str, int]


NEWER = """
SELECT type, count(*), max(id)
FROM (SELECT id, type FROM loyalty_transaction WHERE id > %(after)s ORDER BY id LIMIT %(at_most)s) newer
GROUP BY type
"""


def rows_by_type(*, after: int, at_most: int | None = ROWS_AT_MOST) -> Rows:
    """Count the ledger's rows after an id, by its primary key, and no more than so many."""
    found = fetch(NEWER, {"after": after, "at_most": at_most})
    return Rows(max((last for *_, last in found), default=after), {kind: rows for kind, rows, _ in found})


def last_result(task: str) -> dict[str, Any] | None:
    """What the last successful run of a task reported."""
    run = JobRun.objects.last_success(task)
    return run.result if run else None


def take_stock() -> dict[str, Any]:
    """Count the ledger on from where it was counted last, and look at every pass that phones have.

    A row whose transaction takes longer than the time between two counts is not counted: this is no accounting.
    """
    before = last_result(STOCK) or {"ledger_id": 0, "ledger_rows": {}}
    added = rows_by_type(after=before["ledger_id"], at_most=None)
    behind = Pass.objects.stale().order_by().values("platform").annotate(passes=Count("pk"))
    return {
        "ledger_id": added.last_id,
        "ledger_rows": dict(Counter(before["ledger_rows"]) + Counter(added.rows)),
        "passes_behind": {row["platform"]: row["passes"] for row in behind},
    }


def roll_up(*, at: datetime) -> dict[str, Any]:
    """The figures of the business, over all merchants whose program is active. The few that are named are by slug."""
    merchants = list(Merchant.objects.filter(is_active=True, program__is_active=True).order_by("pk"))
    quiet = _quiet(merchants, at)
    return {
        "merchants": len(merchants),
        "cards": Card.objects.filter(program__merchant__in=merchants, status=Card.Status.ACTIVE).count(),
        "cards_at_risk": sum(_at_risk(merchant, at) for merchant in merchants),
        "moved": _moved(at),
        **_retained(merchants, at),
        "quiet_merchants": len(quiet),
        "quiet_merchant_slugs": quiet[:NAMED_AT_MOST],
    }


def _at_risk(merchant: Merchant, at: datetime) -> int:
    period = last_days(merchant, at, HABIT_DAYS)
    parameters = {
        **period.parameters(),
        "visits": VISITS,
        "today": len(period.firsts),
        "patience": IDLE_DAYS_OF_NEW_CARDS,
        "limit": None,
    }
    [(cards,)] = fetch(f"SELECT count(*) FROM ({AT_RISK}) at_risk", parameters)  # noqa: S608  our own SQL
    return int(cards)


def _quiet(merchants: list[Merchant], at: datetime) -> list[str]:
    since = at - timedelta(days=NEW_DAYS)
    made = Card.objects.filter(created_at__gt=since).values_list("program__merchant").annotate(cards=Count("pk"))
    counted = dict(made.order_by())
    return [m.slug for m in merchants if m.created_at <= since and counted.get(m.pk, 0) < FEW_CARDS]


def _moved(at: datetime) -> dict[str, dict[str, int]]:
    """Points and stamps by type of row. What is taken is positive too."""
    kinds = (T.POINTS_EARNED, T.POINTS_REDEEMED, T.STAMP_EARNED, T.STAMP_REDEEMED)
    rows = Transaction.objects.filter(created_at__gt=at - timedelta(days=MOVED_DAYS), type__in=kinds)
    sums = rows.values("type").annotate(points=Sum("points_delta"), stamps=Sum("stamps_delta")).order_by()
    return {row["type"]: {"points": abs(row["points"]), "stamps": abs(row["stamps"])} for row in sums}


def _retained(merchants: list[Merchant], at: datetime) -> dict[str, int]:
    """Cards that are old enough for a whole third month after that of their enrolment, and those used in it."""
    oldest = [reports.cohorts(merchant=merchant, at=at, months_back=MONTH + 1)[0] for merchant in merchants]
    return {
        "cohort_cards": sum(cohort.cards for cohort in oldest),
        "cohort_cards_used": sum(cohort.active[MONTH] for cohort in oldest),
    }


def business(at: datetime) -> Iterator[Reading]:
    """One statement: the record of last night's run."""
    figures = last_result(ROLLUP)
    if figures is None:
        return
    yield CARDS.read(figures["cards"])
    yield AT_RISK_CARDS.read(figures["cards_at_risk"])
    yield QUIET.read(figures["quiet_merchants"])
    moved = figures["moved"]
    parts = (
        (REDEEMED, _sum(moved, T.POINTS_REDEEMED, "points"), _sum(moved, T.POINTS_EARNED, "points")),
        (COMPLETED, _sum(moved, T.STAMP_REDEEMED, "stamps"), _sum(moved, T.STAMP_EARNED, "stamps")),
        (RETAINED, figures["cohort_cards_used"], figures["cohort_cards"]),
    )
    for state, part, whole in parts:
        if whole:
            yield state.read(part / whole)


def _sum(moved: dict[str, dict[str, int]], kind: str, unit: str) -> int:
    return moved.get(kind, {}).get(unit, 0)
