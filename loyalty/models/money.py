"""Amounts: decimal strings outside, integers in minor units inside."""

import re
from decimal import Decimal

from babel.core import get_global
from babel.numbers import format_currency, get_currency_precision

from loyalty.errors import InvalidAmount

MAX_AMOUNT_MINOR = 10**12
CURRENCIES: frozenset[str] = frozenset(get_global("all_currencies"))


def exponent(currency: str) -> int:
    """Digits after the decimal point: EUR 2, JPY 0, KWD 3."""
    return get_currency_precision(currency)


def to_minor(amount: str, currency: str, *, field: str = "amount") -> int:
    """Turn a decimal string such as "12.99" into minor units. `field` is what the amount is called where it was sent.

    Raises:
        InvalidAmount: not plain digits with a point, negative, too large, or finer than the currency.
    """
    parts = re.fullmatch(r"[0-9]{1,13}(?:\.([0-9]+))?", amount, re.ASCII)
    if not parts:
        raise InvalidAmount(f"The amount {amount[:40]!r} is not a number such as 12.99, zero or larger.", field=field)
    # Counted and not calculated: decimals round after 28 digits.
    if len((parts[1] or "").rstrip("0")) > exponent(currency):
        raise InvalidAmount(f"The amount {amount[:40]} is finer than {currency} can be paid.", field=field)
    minor = Decimal(amount).scaleb(exponent(currency))
    if minor > MAX_AMOUNT_MINOR:
        raise InvalidAmount(f"The amount {amount[:40]} is larger than any sale.", field=field)
    return int(minor)


def to_decimal(amount_minor: int, currency: str) -> Decimal:
    """Turn minor units into the amount in the currency's unit: 1299 EUR cents into 12.99."""
    return Decimal(amount_minor).scaleb(-exponent(currency))


def spelled(amount_minor: int, currency: str, locale: str = "en") -> str:
    """The amount as the locale writes it, for people."""
    return str(format_currency(to_decimal(amount_minor, currency), currency, locale=locale))
