"""Which cards are to be warned or expired: finding them, locking them, noting the promise.

Finding uses one moment per program as its limit, so that it costs what is due and not what exists. Whether a card
really is due is decided by `ExpirationPolicy` alone, on what was read under the lock.
"""

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple

from django.db import connection

from loyalty.models import Cycle, ExpirationPolicy, ExpirationRun, Program


@dataclass(frozen=True)
class Term:
    """A program on one local day, with the policy that this run applies."""

    program: Program
    policy: ExpirationPolicy
    today: date

    @cached_property
    def promising(self) -> ExpirationPolicy:
        """The program's own policy: a run without notice shortens the notice of nobody who stays."""
        return self.program.policy


class Candidate(NamedTuple):
    """A card that may be due, with what a message to its customer needs."""

    card_id: int
    program_id: int
    points: int
    cycle: Cycle
    is_exempt: bool
    card_number: str
    first_name: str
    email: str
    locale: str


class PromisedWarning(NamedTuple):
    """A card that is warned, and the last day on which its points can be used."""

    candidate: Candidate
    term: Term
    promised: date


TERMS = """
WITH terms AS (
    SELECT * FROM unnest(
        %(programs)s::bigint[], %(today)s::date[], %(warn_before)s::timestamptz[], %(expire_before)s::timestamptz[],
        %(timely_until)s::timestamptz[], %(notices_from)s::timestamptz[], %(notice)s::boolean[]
    ) AS terms (program_id, today, warn_before, expire_before, timely_until, notices_from, notice)
)
"""

# Idle for long enough and not warned in this cycle. With the plain rule nobody is warned past the limit.
NOT_WARNED = """
SELECT balance.card_id, balance.program_id
FROM terms JOIN loyalty_cardbalance balance ON balance.program_id = terms.program_id
WHERE balance.points_balance > 0 AND balance.last_expiration_warning_at IS NULL
  AND balance.last_activity_at < terms.warn_before
  AND (terms.notice OR balance.last_activity_at >= terms.expire_before)
"""

# Warned before a pause that is over: that warning no longer counts.
WARNED_BEFORE_A_PAUSE = """
SELECT balance.card_id, balance.program_id
FROM terms JOIN loyalty_cardbalance balance ON balance.program_id = terms.program_id
WHERE terms.notices_from IS NOT NULL
  AND balance.points_balance > 0 AND balance.last_expiration_warning_at IS NOT NULL
  AND balance.last_expiration_warning_at < terms.notices_from
  AND balance.last_activity_at < terms.warn_before
  AND (terms.notice OR balance.last_activity_at >= terms.expire_before)
"""

# Warned, and the promised day is over. A limit that was lengthened may still keep the card; deciding tells.
PROMISE_OVER = """
SELECT balance.card_id, balance.program_id
FROM terms JOIN loyalty_cardbalance balance ON balance.program_id = terms.program_id
WHERE balance.points_balance > 0 AND balance.last_expiration_warning_at IS NOT NULL
  AND balance.expiration_warned_for < terms.today AND balance.last_activity_at < terms.warn_before
  AND (terms.notices_from IS NULL OR NOT terms.notice OR balance.last_expiration_warning_at >= terms.notices_from)
"""

# With the plain rule: older than the limit, warned or not, unless a promise still holds.
PLAINLY_OVER = """
SELECT balance.card_id, balance.program_id
FROM terms JOIN loyalty_cardbalance balance ON balance.program_id = terms.program_id
WHERE NOT terms.notice AND balance.points_balance > 0 AND balance.last_expiration_warning_at IS NULL
  AND balance.last_activity_at < terms.expire_before
  AND (balance.expiration_warned_for IS NULL OR balance.expiration_warned_for < terms.today)
"""

# Cards that would go without a notice that is old enough.
UNNOTICED = """
SELECT due.program_id, count(*)
FROM ({due}) due
JOIN terms ON terms.program_id = due.program_id
JOIN loyalty_cardbalance balance ON balance.card_id = due.card_id
JOIN loyalty_card card ON card.id = due.card_id
WHERE card.status = 'active' AND NOT card.expiration_exempt
  AND balance.last_activity_at < terms.expire_before
  AND (balance.last_expiration_warning_at IS NULL
    OR balance.last_expiration_warning_at < terms.notices_from
    OR balance.last_expiration_warning_at >= terms.timely_until)
GROUP BY due.program_id
"""

LOAD = """
SELECT balance.card_id, balance.program_id, balance.points_balance, balance.last_activity_at,
    balance.last_expiration_warning_at, balance.expiration_warned_for,
    card.expiration_exempt OR card.status <> 'active', card.card_number,
    customer.first_name, customer.email, customer.locale
FROM loyalty_cardbalance balance
JOIN loyalty_card card ON card.id = balance.card_id
JOIN loyalty_customer customer ON customer.id = card.customer_id
WHERE balance.card_id = ANY(%s)
ORDER BY balance.card_id
"""

# Read again what may have changed beside the lock: the card's own row and its program.
PROMISE = """
WITH promised AS (
    UPDATE loyalty_cardbalance balance
    SET last_expiration_warning_at = %(as_of)s, expiration_warned_for = due.promised,
        version = balance.version + 1, changed_at = %(as_of)s
    FROM unnest(%(cards)s::bigint[], %(days)s::date[], %(versions)s::int[]) AS due (card_id, promised, program_version)
    JOIN loyalty_card card ON card.id = due.card_id
    JOIN loyalty_program program ON program.id = card.program_id
    WHERE balance.card_id = due.card_id
      AND card.status = 'active' AND NOT card.expiration_exempt AND program.version = due.program_version
    RETURNING balance.card_id
), counted AS (
    UPDATE loyalty_expirationrun SET warnings = warnings + (SELECT count(*) FROM promised) WHERE id = %(run)s
)
SELECT card_id FROM promised
"""


def to_warn(terms: Sequence[Term]) -> "array[int]":
    """Ids of cards that are probably to be warned, ascending: 8 bytes each, however many."""
    needed = [NOT_WARNED]
    if any(term.policy.notices_count_from for term in terms):
        needed.append(WARNED_BEFORE_A_PAUSE)
    return _find(" UNION ALL ".join(needed), terms)


def to_expire(terms: Sequence[Term]) -> "array[int]":
    """Ids of cards that are probably to expire, ascending: 8 bytes each, however many."""
    return _find(_over(terms), terms)


def _over(terms: Sequence[Term]) -> str:
    """The query for cards whose time is over. What no program needs is left out: it would search to find nothing."""
    if all(term.policy.requires_notice for term in terms):
        return PROMISE_OVER
    return f"{PROMISE_OVER} UNION ALL {PLAINLY_OVER}"


def _find(query: str, terms: Sequence[Term]) -> "array[int]":
    ids = array("q")
    if not terms:
        return ids
    with connection.cursor() as cursor:
        # Packed by the database: a fetched list of a million rows would not fit into a worker's memory.
        cursor.execute(
            f"{TERMS} SELECT string_agg(int8send(card_id), '' ORDER BY card_id) FROM ({query}) due",  # noqa: S608
            _limits(terms),
        )
        ids.frombytes(cursor.fetchone()[0] or b"")
    if sys.byteorder == "little":
        ids.byteswap()
    return ids


def count_unnoticed(terms: Sequence[Term]) -> dict[int, int]:
    """How many cards of each program would go without a timely notice; programs without any are left out."""
    if not terms:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(TERMS + UNNOTICED.format(due=_over(terms)), _limits(terms))
        return dict(cursor.fetchall())


def count_with_points(program_ids: Sequence[int]) -> dict[int, int]:
    """How many cards of each program hold points."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT program_id, count(*) FROM loyalty_cardbalance "
            "WHERE points_balance > 0 AND program_id = ANY(%s) GROUP BY program_id",
            [list(program_ids)],
        )
        return dict(cursor.fetchall())


def _limits(terms: Sequence[Term]) -> dict[str, list[Any]]:
    return {
        "programs": [term.program.pk for term in terms],
        "today": [term.today for term in terms],
        "warn_before": [term.policy.warn_before(term.today) for term in terms],
        "expire_before": [term.policy.expire_before(term.today) for term in terms],
        "timely_until": [term.policy.timely_until(term.today) for term in terms],
        "notices_from": [term.policy.notices_count_from for term in terms],
        "notice": [term.policy.requires_notice for term in terms],
    }


def lock(card_ids: Sequence[int]) -> list[Candidate]:
    """Lock these cards' balances and read them. A card that somebody else has locked is left out."""
    return _load(f"{LOAD} FOR NO KEY UPDATE OF balance SKIP LOCKED", card_ids)


def read(card_ids: Sequence[int]) -> list[Candidate]:
    """Read these cards without a lock, for a preview."""
    return _load(LOAD, card_ids)


def _load(statement: str, card_ids: Sequence[int]) -> list[Candidate]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [list(card_ids)])
        return [
            Candidate(card_id, program_id, points, Cycle(active_at, warned_at, warned_for), *facts)
            for card_id, program_id, points, active_at, warned_at, warned_for, *facts in cursor.fetchall()
        ]


def must_warn(candidate: Candidate, term: Term) -> bool:
    return candidate.points > 0 and not candidate.is_exempt and term.policy.must_warn(candidate.cycle, term.today)


def may_expire(candidate: Candidate, term: Term) -> bool:
    return candidate.points > 0 and not candidate.is_exempt and term.policy.may_expire(candidate.cycle, term.today)


def promise(warnings: Sequence[PromisedWarning], *, run: ExpirationRun) -> list[PromisedWarning]:
    """Note on locked cards what they are promised, in one statement. Returns those that were noted.

    A card that was suspended or exempted, or whose program was changed, since the run began is left alone.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            PROMISE,
            {
                "cards": [warning.candidate.card_id for warning in warnings],
                "days": [warning.promised for warning in warnings],
                "versions": [warning.term.program.version for warning in warnings],
                "as_of": run.as_of,
                "run": run.pk,
            },
        )
        noted = {card_id for (card_id,) in cursor.fetchall()}
    return [warning for warning in warnings if warning.candidate.card_id in noted]


def in_chunks(card_ids: "array[int]", size: int) -> Iterator["array[int]"]:
    for start in range(0, len(card_ids), size):
        yield card_ids[start : start + size]
