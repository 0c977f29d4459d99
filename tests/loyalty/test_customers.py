"""What is known about a customer is put right."""

from datetime import date
from typing import cast

import pytest

from loyalty.errors import AlreadyErased, ContactTaken, CustomerNotFound, InvalidInput, NothingToChange
from loyalty.models import CardBalance, Customer
from loyalty.services.customers import CustomerChanges, update_customer
from loyalty.services.privacy import erase_customer
from tests.factories import NOON, days, make_card, make_merchant
from tests.loyalty.parallel import in_parallel

pytestmark = pytest.mark.django_db
EVERYTHING = {
    "first_name": "Ana",
    "last_name": "Muller",
    "email": "ana@example.com",
    "phone": "+352621123456",
    "birth_date": date(1990, 5, 17),
    "locale": "fr",
    "external_id": "C-17",
}


def change(customer, at=NOON, **changes):
    asked = cast(CustomerChanges, changes)
    return update_customer(merchant=customer.merchant, customer_id=customer.pk, changes=asked, actor="ana", at=at)


def columns(customer):
    return Customer.objects.values().get(pk=customer.pk)


def test_what_is_given_changes_and_the_rest_stays():
    customer = make_card(first_name="Anna", last_name="Muller", email="anna@example.com").customer
    before = columns(customer)

    change(customer, first_name="Ana")

    assert columns(customer) == {**before, "first_name": "Ana"}


def test_everything_can_be_given_and_taken_away():
    customer = make_card(email="old@example.com").customer

    change(customer, **EVERYTHING)
    assert {name: columns(customer)[name] for name in EVERYTHING} == EVERYTHING

    nothing = {name: None if name == "birth_date" else "" for name in EVERYTHING}
    change(customer, **nothing)
    assert {name: columns(customer)[name] for name in EVERYTHING} == nothing


def test_contacts_are_kept_in_one_form():
    merchant = make_merchant()
    merchant.country = "LU"
    merchant.save()
    customer = make_card(merchant).customer

    change(customer, email="  Ana@Example.com ", phone="621 123 456", first_name=" Ana ")

    found = columns(customer)
    assert (found["email"], found["phone"], found["first_name"]) == ("Ana@Example.com", "+352621123456", "Ana")


@pytest.mark.parametrize("value", [{"email": "ana@"}, {"phone": "12"}, {"locale": "x" * 17}])
def test_what_has_no_usable_form_is_refused(value):
    customer = make_card().customer
    before = columns(customer)

    with pytest.raises(InvalidInput) as refused:
        change(customer, **value)

    assert refused.value.details["field"] == next(iter(value))
    assert columns(customer) == before


@pytest.mark.parametrize(
    ("taken", "asked"),
    [
        ({"email": "ana@example.com"}, {"email": "ANA@example.com"}),
        ({"phone": "+352621123456"}, {"phone": "+352 621 123 456"}),
        ({"external_id": "C-17"}, {"external_id": "C-17"}),
    ],
)
def test_two_customers_of_a_merchant_are_not_known_by_the_same_value(taken, asked):
    merchant = make_merchant()
    other, customer = make_card(merchant, **taken).customer, make_card(merchant).customer

    with pytest.raises(ContactTaken) as refused:
        change(customer, **asked)

    assert refused.value.details == {"field": next(iter(asked)), "customer_id": other.pk}


def test_a_customer_of_another_merchant_may_have_the_same_address():
    make_card(email="ana@example.com")
    customer = make_card().customer

    assert change(customer, email="ana@example.com").email == "ana@example.com"


def test_the_case_of_ones_own_address_can_change():
    customer = make_card(email="ana@example.com").customer

    assert change(customer, email="Ana@example.com").email == "Ana@example.com"


def test_a_consent_keeps_its_moment_until_it_is_taken_back():
    customer = make_card().customer

    change(customer, accepts_marketing=True)
    change(customer, accepts_marketing=True, first_name="Ana", at=NOON + days(1))
    assert columns(customer)["marketing_consent_at"] == NOON

    change(customer, accepts_marketing=False)
    assert columns(customer)["marketing_consent_at"] is None


@pytest.mark.parametrize("changes", [{}, {"first_name": "Ana"}, {"accepts_marketing": False}])
def test_nothing_to_change_is_said(changes):
    customer = make_card(first_name="Ana").customer

    with pytest.raises(NothingToChange):
        change(customer, **changes)


def test_nothing_is_added_to_somebody_who_was_erased():
    customer = make_card().customer
    erase_customer(merchant=customer.merchant, customer_id=customer.pk, reason="letter", actor="ana", at=NOON)

    with pytest.raises(AlreadyErased):
        change(customer, first_name="Ana")


def test_another_merchants_customer_is_not_known():
    customer = make_card().customer

    with pytest.raises(CustomerNotFound):
        update_customer(
            merchant=make_merchant(), customer_id=customer.pk, changes={"first_name": "X"}, actor="ana", at=NOON
        )


@pytest.mark.django_db(transaction=True)
def test_of_some_who_take_the_same_address_at_once_one_gets_it():
    merchant = make_merchant()
    customers = [make_card(merchant).customer for _ in range(4)]
    answers = []

    def take(n: int) -> None:
        try:
            answers.append(change(customers[n], email="same@example.com").email)
        except ContactTaken as refusal:
            answers.append(refusal.code)

    in_parallel(take, len(customers))

    assert sorted(answers) == ["contact_taken"] * 3 + ["same@example.com"]


def version_of(card):
    return CardBalance.objects.get(card=card).version


def test_phones_hear_of_what_they_show_and_of_nothing_else():
    card = make_card(first_name="Anna", email="anna@example.com")
    before = version_of(card)

    change(card.customer, email="ana@example.com")
    assert version_of(card) == before

    change(card.customer, first_name="Ana")
    assert version_of(card) == before + 1
