"""Cards locked until the transaction ends, with all that the rules need to decide."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from django.db import connection

from loyalty.errors import CardNotFound
from loyalty.models import Card, CardBalance, Customer, IdempotencyKey, Merchant, Program
from loyalty.models.instances import column_names, read, read_if_any
from loyalty.services.once import Request, judge


def lock(card_id: int, *, merchant: Merchant, request: Request | None = None) -> Card:
    """Lock a card and its balance until the transaction ends and return both as they are now.

    The card comes with `balance`, `customer`, `program` and the program's merchant loaded. With a `request`, the
    same statement looks whether it was answered before.

    Raises:
        CardNotFound: the merchant has no such card.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once.judge`.
    """
    owner = None if request is None else "merchant_id" if request.user_id is None else "user_id"
    values: list[Any] = [card_id, merchant.pk]
    if request:
        values = [request.user_id or merchant.pk, request.key, merchant.pk, request.ledger_key, *values]
    with connection.cursor() as cursor:
        cursor.execute(_lock_statement(owner), values)
        row = cursor.fetchone()
    if row is None:
        raise CardNotFound("This card is not known here.", card_id=card_id)
    columns = iter(row)
    card = _card_with_all(columns)
    if request:
        transaction_id, found = next(columns), read_if_any(IdempotencyKey, columns)
        if found:
            found.answer = json.loads(found.answer)  # as the database gave it
        judge(request, found, transaction_id)
    return card


LOCKED_WITH = (CardBalance, Card, Customer, Program, Merchant)
ANSWERED_BEFORE = """
    LEFT JOIN loyalty_idempotencykey ON loyalty_idempotencykey.{owner} = %s AND loyalty_idempotencykey.key = %s
    {of_tills}
    LEFT JOIN loyalty_transaction earlier ON earlier.merchant_id = %s AND earlier.idempotency_key = %s
        AND earlier.idempotency_key <> ''
"""


@cache
def _lock_statement(owner: str | None) -> str:
    """One statement that locks a card and reads all that the rules need, and what is kept under a key of the owner.

    Written out because compiling it from a queryset costs a till more than the database does. It locks the card's
    row too: after a wait, only locked rows are returned as they are then.
    """
    columns, answered = column_names(*LOCKED_WITH), ""
    if owner:
        columns += ", earlier.id, " + column_names(IdempotencyKey)
        of_tills = "AND loyalty_idempotencykey.user_id IS NULL" if owner == "merchant_id" else ""
        answered = ANSWERED_BEFORE.format(owner=owner, of_tills=of_tills)
    return f"""
        SELECT {columns}
        FROM loyalty_cardbalance
        JOIN loyalty_card ON loyalty_card.id = loyalty_cardbalance.card_id
        JOIN loyalty_customer ON loyalty_customer.id = loyalty_card.customer_id
        JOIN loyalty_program ON loyalty_program.id = loyalty_card.program_id
        JOIN loyalty_merchant ON loyalty_merchant.id = loyalty_program.merchant_id
        {answered}
        WHERE loyalty_cardbalance.card_id = %s AND loyalty_merchant.id = %s
        FOR NO KEY UPDATE OF loyalty_cardbalance, loyalty_card
    """  # noqa: S608  names of our own models


def _card_with_all(values: Iterator[Any]) -> Card:
    """The card of a row of the lock statement, with its balance, customer, program and merchant."""
    balance, card = read(CardBalance, values), read(Card, values)
    card.customer, card.program = read(Customer, values), read(Program, values)
    card.program.merchant = read(Merchant, values)
    card.balance, balance.card = balance, card
    return card
