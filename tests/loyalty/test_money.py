from decimal import Decimal

import pytest

from loyalty.errors import InvalidAmount
from loyalty.models import Merchant
from loyalty.models.money import MAX_AMOUNT_MINOR, exponent, spelled, to_decimal, to_minor


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("USD", 2)])
def test_the_exponent_comes_from_the_currency(currency, digits):
    assert exponent(currency) == digits


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.99", "EUR", 1299),
        ("12.9", "EUR", 1290),
        ("12", "EUR", 1200),
        ("0", "EUR", 0),
        ("0.00", "EUR", 0),
        ("12.990", "EUR", 1299),
        ("007", "EUR", 700),
        ("1299", "JPY", 1299),
        ("12.0", "JPY", 12),
        ("4.351", "KWD", 4351),
        ("10000000000", "EUR", MAX_AMOUNT_MINOR),
    ],
)
def test_a_decimal_string_becomes_minor_units(amount, currency, minor):
    assert to_minor(amount, currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("", "EUR"),
        ("-1", "EUR"),
        ("+1", "EUR"),
        ("1,50", "EUR"),
        ("1e3", "EUR"),
        (".5", "EUR"),
        ("5.", "EUR"),
        (" 5", "EUR"),
        ("5\n", "EUR"),
        ("٣", "EUR"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        ("0x10", "EUR"),
        ("1.999", "EUR"),
        ("0.5", "JPY"),
        ("1.2345", "KWD"),
        ("10000000000.01", "EUR"),
        ("9" * 14, "EUR"),
        ("1." + "0" * 500 + "1", "EUR"),
    ],
)
def test_what_is_no_amount_of_the_currency_is_refused(amount, currency):
    with pytest.raises(InvalidAmount):
        to_minor(amount, currency)


def test_a_refusal_does_not_repeat_endless_input():
    with pytest.raises(InvalidAmount) as refused:
        to_minor("x" * 10_000, "EUR")

    assert len(refused.value.sentence) < 200


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [(1299, "EUR", "12.99"), (1299, "JPY", "1299"), (1299, "KWD", "1.299"), (0, "EUR", "0.00")],
)
def test_minor_units_become_the_amount(minor, currency, amount):
    assert str(to_decimal(minor, currency)) == amount
    assert to_decimal(minor, currency) == Decimal(amount)


@pytest.mark.parametrize(
    ("currency", "locale", "text"),
    [
        ("EUR", "en", "€1,234.50"),
        ("EUR", "de", "1.234,50\xa0€"),
        ("JPY", "en", "¥123,450"),
        ("KWD", "en", "KWD123.450"),
    ],
)
def test_amounts_are_spelled_as_people_write_them(currency, locale, text):
    assert spelled(123_450, currency, locale).replace("KWD\xa0", "KWD") == text


def test_a_merchant_knows_its_zone():
    assert Merchant(timezone="Europe/Luxembourg").zone.key == "Europe/Luxembourg"
