"""Moves of many cards at once: one statement for a chunk writes all balances and ledger rows."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from django.db import connection

from loyalty.models import ExpirationRun, Program


class Expiry(NamedTuple):
    """A locked card whose points go, and what its ledger row says about why."""

    card_id: int
    expires_on: date
    expires_after_days: int
    program_version: int


class Expired(NamedTuple):
    """What was taken: `points` before the expiry, which left 0."""

    card_id: int
    points: int


EXPIRE = """
WITH due AS (
    SELECT * FROM unnest(%(cards)s::bigint[], %(days)s::date[], %(terms)s::int[], %(versions)s::int[])
        AS due (card_id, expires_on, expires_after_days, program_version)
), emptied AS (
    UPDATE loyalty_cardbalance balance
    SET points_balance = 0,
        lifetime_points_expired = balance.lifetime_points_expired + before.points_balance,
        last_seq = balance.last_seq + 1,
        version = balance.version + 1,
        changed_at = %(as_of)s
    FROM due
    JOIN loyalty_cardbalance before USING (card_id)
    JOIN loyalty_card card ON card.id = due.card_id
    JOIN loyalty_program program ON program.id = card.program_id
    WHERE balance.card_id = due.card_id
      AND card.status = 'active' AND NOT card.expiration_exempt
      AND program.version = due.program_version
    RETURNING balance.card_id, program.merchant_id, balance.last_seq, balance.stamp_count,
        before.points_balance AS points, balance.last_activity_at, balance.last_expiration_warning_at,
        balance.expiration_warned_for, due.expires_on, due.expires_after_days
), posted AS (
    INSERT INTO loyalty_transaction (
        card_id, merchant_id, seq, type, points_delta, stamps_delta, points_balance_after, stamps_balance_after,
        actor, receipt_number, reverses_in_full, expiration_run_id, cycle_started_at, idempotency_key, reason,
        details, transaction_at, created_at, client_address, client_agent
    )
    SELECT card_id, merchant_id, last_seq, 'POINTS_EXPIRED', -points, 0, 0, stamp_count,
        %(actor)s, '', false, %(run)s, last_activity_at, '', %(reason)s,
        jsonb_build_object(
            'expires_after_days', expires_after_days, 'last_activity_at', last_activity_at,
            'expires_on', expires_on, 'warned_at', last_expiration_warning_at, 'warned_for', expiration_warned_for,
            'run', %(run)s::bigint
        ),
        %(as_of)s, %(as_of)s, '', ''
    FROM emptied
), counted AS (
    UPDATE loyalty_expirationrun
    SET cards_expired = cards_expired + (SELECT count(*) FROM emptied),
        points_expired = points_expired + (SELECT coalesce(sum(points), 0) FROM emptied)
    WHERE id = %(run)s
)
SELECT card_id, points FROM emptied
"""


def post_expirations(expiries: Sequence[Expiry], *, run: ExpirationRun) -> list[Expired]:
    """Empty locked cards: one statement for the chunk writes balances, ledger rows and the run's counts.

    A card that was suspended or exempted, or whose program was changed, since the run began is left alone.

    Raises:
        IntegrityError: a balance is not what its ledger says; nothing of the chunk is written.
    """
    cards, days, terms, versions = zip(*expiries, strict=True)
    parameters: dict[str, Any] = {
        "cards": list(cards),
        "days": list(days),
        "terms": list(terms),
        "versions": list(versions),
        "as_of": run.as_of,
        "run": run.pk,
        "actor": run.initiated_by or run.trigger,
        "reason": run.reason,
    }
    with connection.cursor() as cursor:
        cursor.execute(EXPIRE, parameters)
        return [Expired(*row) for row in cursor.fetchall()]


class Imported(NamedTuple):
    """A card that is saved and has no balance yet: what it brings, when it was last used, which line says so."""

    card_id: int
    points: int
    stamps: int
    last_activity_at: datetime
    line: int


OPEN_IMPORTED = """
WITH imported AS (
    SELECT *, CASE WHEN points > 0 OR stamps > 0 THEN 2 ELSE 1 END AS moves
    FROM unnest(%(cards)s::bigint[], %(points)s::int[], %(stamps)s::int[], %(moments)s::timestamptz[], %(lines)s::int[])
        AS imported (card_id, points, stamps, last_activity_at, line)
), opened AS (
    INSERT INTO loyalty_cardbalance (
        card_id, program_id, points_balance, stamp_count, lifetime_points_earned, lifetime_points_redeemed,
        lifetime_points_expired, last_seq, last_activity_at, version, changed_at
    )
    SELECT card_id, %(program)s, points, stamps, 0, 0, 0, moves, last_activity_at, moves, %(at)s
    FROM imported
)
INSERT INTO loyalty_transaction (
    card_id, merchant_id, seq, type, points_delta, stamps_delta, points_balance_after, stamps_balance_after,
    actor, receipt_number, reverses_in_full, idempotency_key, reason, details, transaction_at, created_at,
    client_address, client_agent
)
SELECT card_id, %(merchant)s, move.seq, move.type, move.counts * points, move.counts * stamps,
    move.counts * points, move.counts * stamps, %(actor)s, '', false, '', '',
    jsonb_build_object('import', %(import)s::bigint, 'line', line), last_activity_at, %(at)s, '', ''
FROM imported
JOIN (VALUES (1, 'CARD_CREATED', 0), (2, 'BALANCE_IMPORTED', 1)) AS move (seq, type, counts) ON move.seq <= moves
"""


def open_imported(cards: Sequence[Imported], *, program: Program, import_id: int, actor: str, at: datetime) -> None:
    """Give new cards the balances that a file says they have: one statement for the chunk. All or nothing."""
    card_ids, points, stamps, moments, lines = zip(*cards, strict=True)
    parameters: dict[str, Any] = {
        "cards": list(card_ids),
        "points": list(points),
        "stamps": list(stamps),
        "moments": list(moments),
        "lines": list(lines),
        "program": program.pk,
        "merchant": program.merchant_id,
        "import": import_id,
        "actor": actor,
        "at": at,
    }
    with connection.cursor() as cursor:
        cursor.execute(OPEN_IMPORTED, parameters)
