from decimal import Decimal

import pytest

from loyalty.errors import CardNotFound, InvalidInput, MerchantExists, MerchantNotFound
from loyalty.models import Merchant
from loyalty.services import merchants
from tests.factories import make_card, make_merchant

pytestmark = pytest.mark.django_db


def test_a_merchant_is_found_by_slug_and_by_id():
    merchant = make_merchant()

    assert merchants.find_merchant(merchant.slug) == merchant
    assert merchants.find_merchant(str(merchant.pk)) == merchant


def test_a_slug_of_digits_goes_before_the_id():
    by_id = make_merchant()
    by_slug = Merchant.objects.create(name="Digits", slug=str(by_id.pk), currency="EUR")

    assert merchants.find_merchant(str(by_id.pk)) == by_slug


@pytest.mark.parametrize("name", ["", "nobody", "999999999", "9" * 30, "-1", "１", "1.0", "'; DROP TABLE"])
def test_an_unknown_merchant_is_refused(name):
    with pytest.raises(MerchantNotFound):
        merchants.find_merchant(name)


def test_a_card_is_found_by_number_with_spaces_and_by_id():
    card = make_card()
    number = f"{card.card_number[:4]} {card.card_number[4:8]} {card.card_number[8:]}"

    assert merchants.find_card(number) == merchants.find_card(card.card_number) == card
    assert merchants.find_card(str(card.pk)) == card


@pytest.mark.parametrize("name", ["", "nobody", "000000000000", "9" * 30, "１"])
def test_an_unknown_card_is_refused(name):
    with pytest.raises(CardNotFound):
        merchants.find_card(name)


def open_merchant(slug: str):
    return merchants.open_merchant(
        slug=slug,
        name="Bakery",
        currency="EUR",
        timezone="Europe/Luxembourg",
        store_name="Main Street",
        points_per_unit=Decimal("1.5"),
        points_expiration_days=365,
        expiration_warning_days=30,
    )


def test_a_merchant_opens_with_a_store_and_a_program():
    store = open_merchant("bakery")

    merchant = Merchant.objects.get(slug="bakery")
    assert (store.merchant, store.name, store.code) == (merchant, "Main Street", "main")
    assert (merchant.currency, merchant.timezone) == ("EUR", "Europe/Luxembourg")
    program = merchant.program
    assert (program.name, program.points_per_unit) == ("Bakery Card", Decimal("1.5"))
    assert (program.points_expiration_days, program.expiration_warning_days) == (365, 30)


def test_a_slug_opens_once():
    open_merchant("bakery")

    with pytest.raises(MerchantExists, match="Choose another slug"):
        open_merchant("bakery")


@pytest.mark.parametrize("slug", ["", "a b", "x" * 61, "bäckerei", "a/b"])
def test_a_slug_that_no_address_could_hold_is_refused(slug):
    with pytest.raises(InvalidInput):
        open_merchant(slug)
