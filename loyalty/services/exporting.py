"""What a merchant takes along: cards, transactions, and balances as they were at the end of a day.

Rows are read in chunks by their id, so that a million of them need no more memory than a few thousand.
"""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from loyalty.models import Card, Merchant, Transaction
from loyalty.models.money import exponent, to_decimal
from loyalty.services.reports.counting import fetch
from loyalty.services.reports.periods import days_between, require_not_after_today, start_of

CHUNK = 2000
LONGEST_DAYS = 3660
Row = dict[str, Any]


def cards(*, merchant: Merchant) -> Iterator[Row]:
    """Each card with its customer and balance, in the columns of an import and a few more."""
    rows = Card.objects.of(merchant).select_related("customer", "balance")
    return _in_chunks(rows, lambda card: _card(card, merchant))


def _card(card: Card, merchant: Merchant) -> Row:
    customer, balance = card.customer, card.balance
    return {
        "external_id": customer.external_id or f"card-{card.card_number}",
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "email": customer.email,
        "phone": customer.phone,
        "birth_date": customer.birth_date,
        "locale": customer.locale,
        "points": balance.points_balance,
        "stamps": balance.stamp_count,
        "last_activity_on": balance.last_activity_at.astimezone(merchant.zone).date(),
        "card_id": card.pk,
        "card_number": card.card_number,
        "status": card.status,
    }


def transactions(*, merchant: Merchant, first: date, last: date) -> Iterator[Row]:
    """Ledger rows that were written on these local days, the oldest first; amounts as decimals.

    Raises:
        InvalidInput: the last day is before the first, or too many lie between them.
    """
    period = days_between(merchant, first, last, longest=LONGEST_DAYS)
    rows = Transaction.objects.filter(
        merchant=merchant, created_at__gte=period.starts[0], created_at__lt=period.end
    ).select_related("card")
    return _in_chunks(rows, lambda row: _transaction(row, merchant))


def _transaction(row: Transaction, merchant: Merchant) -> Row:
    amount = row.amount_minor
    places = exponent(merchant.currency)
    return {
        "id": row.pk,
        "card_id": row.card_id,
        "card_number": row.card.card_number,
        "seq": row.seq,
        "type": row.type,
        "points_delta": row.points_delta,
        "stamps_delta": row.stamps_delta,
        "points_balance_after": row.points_balance_after,
        "stamps_balance_after": row.stamps_balance_after,
        "amount": None if amount is None else f"{to_decimal(amount, merchant.currency):.{places}f}",
        "currency": merchant.currency,
        "store_id": row.store_id,
        "staff_member_id": row.staff_member_id,
        "actor": row.actor,
        "receipt_number": row.receipt_number,
        "reward_id": row.reward_id,
        "reverses_id": row.reverses_id,
        "reason": row.reason,
        "transaction_at": row.transaction_at,
        "created_at": row.created_at,
    }


# As the report of the liability reckons: balances as they are, less all that was written since.
BALANCES = """
SELECT card.id, card.card_number, card.status,
    balance.points_balance - coalesce(since.points, 0), balance.stamp_count - coalesce(since.stamps, 0)
FROM loyalty_card card
JOIN loyalty_program program ON program.id = card.program_id
JOIN loyalty_cardbalance balance ON balance.card_id = card.id
LEFT JOIN LATERAL (
    SELECT sum(points_delta) AS points, sum(stamps_delta) AS stamps
    FROM loyalty_transaction WHERE card_id = card.id AND created_at >= %(end)s
) since ON true
WHERE program.merchant_id = %(merchant)s AND card.id > %(after)s AND card.created_at < %(end)s
ORDER BY card.id LIMIT %(chunk)s
"""


def balances(*, merchant: Merchant, as_of: date, at: datetime) -> Iterator[Row]:
    """What each card held at the end of a local day.

    Raises:
        InvalidInput: the day is in the future, or far in the past.
    """
    require_not_after_today(merchant, as_of, at=at, field="as_of")
    return _balances(merchant, as_of, start_of(merchant, as_of + timedelta(days=1)))


def _balances(merchant: Merchant, as_of: date, end: datetime) -> Iterator[Row]:
    after = 0
    while rows := fetch(BALANCES, {"merchant": merchant.pk, "end": end, "after": after, "chunk": CHUNK}):
        after = rows[-1][0]
        for card_id, card_number, status, points, stamps in rows:
            yield {
                "as_of": as_of,
                "card_id": card_id,
                "card_number": card_number,
                "status": status,
                "points": int(points),
                "stamps": int(stamps),
            }


def _in_chunks(rows: "QuerySet[Any]", told: Callable[[Any], Row]) -> Iterator[Row]:
    after = 0
    while chunk := list(rows.filter(pk__gt=after).order_by("pk")[:CHUNK]):
        after = chunk[-1].pk
        yield from map(told, chunk)
