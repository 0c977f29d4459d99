"""Cards locked until the transaction ends, with all that the rules need to decide."""

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import connection, models

from loyalty.errors import CardNotFound
from loyalty.models import Card, CardBalance, Customer, Merchant, Program

M = TypeVar("M", bound=models.Model)


def lock(card_id: int, *, merchant: Merchant) -> Card:
    """Lock a card and its balance until the transaction ends and return both as they are now.

    The card comes with `balance`, `customer`, `program` and the program's merchant loaded.

    Raises:
        CardNotFound: the merchant has no such card.
    """
    with connection.cursor() as cursor:
        cursor.execute(_lock_statement(), [card_id, merchant.pk])
        row = cursor.fetchone()
    if row is None:
        raise CardNotFound("This card is not known here.", card_id=card_id)
    return _card_with_all(row)


LOCKED_WITH = (CardBalance, Card, Customer, Program, Merchant)


@cache
def _lock_statement() -> str:
    """One statement that locks a card and reads all that the rules need.

    Written out because compiling it from a queryset costs a till more than the database does. It locks the card's
    row too: after a wait, only locked rows are returned as they are then.
    """
    columns = ", ".join(
        f"{model._meta.db_table}.{field.column}" for model in LOCKED_WITH for field in model._meta.concrete_fields
    )
    return f"""
        SELECT {columns}
        FROM loyalty_cardbalance
        JOIN loyalty_card ON loyalty_card.id = loyalty_cardbalance.card_id
        JOIN loyalty_customer ON loyalty_customer.id = loyalty_card.customer_id
        JOIN loyalty_program ON loyalty_program.id = loyalty_card.program_id
        JOIN loyalty_merchant ON loyalty_merchant.id = loyalty_program.merchant_id
        WHERE loyalty_cardbalance.card_id = %s AND loyalty_merchant.id = %s
        FOR NO KEY UPDATE OF loyalty_cardbalance, loyalty_card
    """  # noqa: S608  names of our own models


def _card_with_all(row: Sequence[Any]) -> Card:
    """The card of a row of the lock statement, with its balance, customer, program and merchant."""
    values = iter(row)
    balance, card = _read(CardBalance, values), _read(Card, values)
    card.customer, card.program = _read(Customer, values), _read(Program, values)
    card.program.merchant = _read(Merchant, values)
    card.balance, balance.card = balance, card
    return card


def _read(model: type[M], values: Iterator[Any]) -> M:
    names = [field.attname for field in model._meta.concrete_fields]
    return model.from_db(connection.alias, names, list(itertools.islice(values, len(names))))
