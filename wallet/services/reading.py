"""A pass that somebody asks for, with all that it shows, by a statement that is written out.

Phones ask for passes by the thousand, and compiling this from a queryset costs five times what the database does.
"""

from functools import cache

from django.db import connection

from loyalty.models import Card, CardBalance, Customer, Merchant, Program
from loyalty.models.instances import column_names, read
from wallet.models import Pass, Platform


def apple_pass(*, pass_type: str, serial: str) -> Pass | None:
    """The pass with this serial number as `with_card` reads it, as of one moment."""
    with connection.cursor() as cursor:
        cursor.execute(_statement(), [Platform.APPLE, pass_type, serial])
        row = cursor.fetchone()
    if row is None:
        return None
    values = iter(row)
    found, card, balance = read(Pass, values), read(Card, values), read(CardBalance, values)
    card.customer, card.program = read(Customer, values), read(Program, values)
    card.program.merchant = read(Merchant, values)
    card.balance, balance.card = balance, card
    found.card = card
    vars(found)["look"], vars(found)["logo"] = next(values), next(values)
    return found


@cache
def _statement() -> str:
    return f"""
        SELECT {column_names(Pass, Card, CardBalance, Customer, Program, Merchant)},
            loyalty_program.version + coalesce(wallet_artwork.version, 0), coalesce(wallet_artwork.digest, '')
        FROM wallet_pass
        JOIN loyalty_card ON loyalty_card.id = wallet_pass.card_id
        JOIN loyalty_cardbalance ON loyalty_cardbalance.card_id = loyalty_card.id
        JOIN loyalty_customer ON loyalty_customer.id = loyalty_card.customer_id
        JOIN loyalty_program ON loyalty_program.id = loyalty_card.program_id
        JOIN loyalty_merchant ON loyalty_merchant.id = loyalty_program.merchant_id
        LEFT JOIN wallet_artwork ON wallet_artwork.program_id = loyalty_program.id
        WHERE wallet_pass.platform = %s AND wallet_pass.issued_under = %s AND wallet_pass.identifier = %s
    """  # noqa: S608  names of our own models
