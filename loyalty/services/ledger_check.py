"""Proof over the whole database that balances are what the ledger says."""

from dataclasses import dataclass, field

import structlog
from django.db import connection

log = structlog.get_logger()
NAMED_AT_MOST = 100


@dataclass(frozen=True)
class Mismatch:
    """A card whose balance or ledger is wrong, and how."""

    card_id: int
    problem: str


@dataclass
class LedgerReport:
    """`mismatches` names the first 100; `mismatched_cards` counts all of them."""

    cards: int = 0
    transactions: int = 0
    mismatched_cards: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)


# One pass over the ledger in the order of its (card, seq) index.
PROBLEMS = """
WITH steps AS (
    SELECT card_id, seq, points_delta, stamps_delta, points_balance_after, stamps_balance_after,
        lag(points_balance_after, 1, 0) OVER each_card + points_delta <> points_balance_after
            OR lag(stamps_balance_after, 1, 0) OVER each_card + stamps_delta <> stamps_balance_after AS breaks_off
    FROM loyalty_transaction
    WINDOW each_card AS (PARTITION BY card_id ORDER BY seq)
), sums AS (
    SELECT card_id, count(*) AS rows, max(seq) AS last_seq, sum(points_delta) AS points, sum(stamps_delta) AS stamps,
        min(seq) FILTER (WHERE breaks_off) AS broken_at
    FROM steps GROUP BY card_id
)
SELECT card_id, concat_ws('; ',
    CASE WHEN balance.card_id IS NULL THEN 'the card has ledger rows and no balance' END,
    CASE WHEN sums.card_id IS NULL THEN 'the card has a balance and no ledger rows' END,
    CASE WHEN points_balance <> points
        THEN format('the balance is %s points, the ledger adds up to %s', points_balance, points) END,
    CASE WHEN stamp_count <> stamps
        THEN format('the balance is %s stamps, the ledger adds up to %s', stamp_count, stamps) END,
    CASE WHEN sums.last_seq <> rows
        THEN format('the ledger has %s rows and ends at number %s', rows, sums.last_seq) END,
    CASE WHEN balance.last_seq <> sums.last_seq
        THEN format('the balance knows row %s as the last, the ledger %s', balance.last_seq, sums.last_seq) END,
    CASE WHEN points_balance < 0 OR stamp_count < 0 THEN 'the balance is negative' END,
    CASE WHEN broken_at IS NOT NULL THEN format('row %s does not continue the one before it', broken_at) END
) AS problem
FROM loyalty_cardbalance balance FULL JOIN sums USING (card_id)
WHERE balance.card_id IS NULL OR sums.card_id IS NULL OR points_balance <> points OR stamp_count <> stamps
   OR sums.last_seq <> rows OR balance.last_seq <> sums.last_seq OR points_balance < 0 OR stamp_count < 0
   OR broken_at IS NOT NULL
"""

# What a card's row was reversed by, together, may not exceed the row. A restore may: it says so when it is made.
OVER_REVERSED = """
SELECT reversed.card_id, format('row %s was reversed by more than it moved', reversed.seq)
FROM loyalty_transaction reversed
JOIN loyalty_transaction reversal ON reversal.reverses_id = reversed.id
WHERE reversed.type <> 'POINTS_EXPIRED'
GROUP BY reversed.id
HAVING abs(sum(reversal.points_delta)) > abs(reversed.points_delta)
    OR abs(sum(reversal.stamps_delta)) > abs(reversed.stamps_delta)
    OR count(*) FILTER (WHERE reversal.reverses_in_full) > 1
UNION ALL
SELECT reversal.card_id, format('row %s reverses a row of another card', reversal.seq)
FROM loyalty_transaction reversal
JOIN loyalty_transaction reversed ON reversed.id = reversal.reverses_id
WHERE reversal.card_id <> reversed.card_id
"""


def check_ledger() -> LedgerReport:
    """Compare every card's balance with its ledger rows, and every reversal with what it reverses. Reads only."""
    report = LedgerReport()
    wrong: set[int] = set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM loyalty_card), (SELECT count(*) FROM loyalty_transaction)")
        report.cards, report.transactions = cursor.fetchone()
        cursor.execute(f"{PROBLEMS} UNION ALL {OVER_REVERSED} ORDER BY 1")
        while rows := cursor.fetchmany(1000):
            for card_id, problem in rows:
                wrong.add(card_id)
                if len(report.mismatches) < NAMED_AT_MOST:
                    report.mismatches.append(Mismatch(card_id, problem))
    report.mismatched_cards = len(wrong)
    for mismatch in report.mismatches:
        log.error("loyalty.ledger_mismatched", card_id=mismatch.card_id, reason=mismatch.problem)
    log.info(
        "loyalty.ledger_checked",
        cards=report.cards,
        transactions=report.transactions,
        mismatched_cards=report.mismatched_cards,
    )
    return report
