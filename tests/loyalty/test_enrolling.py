from datetime import date

import pytest
from django.db import IntegrityError

from loyalty.errors import AlreadyEnrolled, ConflictingCustomer, EnrolmentClosed, InvalidInput
from loyalty.models import Card, CardBalance, Customer, Merchant, Program, Store, Transaction
from loyalty.models.card import luhn_digit, new_card_number
from loyalty.services import enrolment
from loyalty.services.enrolment import Person
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_merchant, make_store
from tests.loyalty.parallel import in_parallel

pytestmark = pytest.mark.django_db


@pytest.fixture
def merchant():
    return make_merchant()


def enrol(merchant: Merchant, **person) -> Card:
    return enrolment.enrol(merchant=merchant, person=Person(**person), at=NOON)


def test_a_customer_gets_a_card_that_begins_with_its_own_row(merchant):
    store = make_store(merchant)

    card = enrolment.enrol(merchant=merchant, person=Person(first_name=" Ana "), at=NOON, store=store, actor="kim")

    row = Transaction.objects.get(card=card)
    assert (row.type, row.seq, row.points_delta, row.store, row.actor) == ("CARD_CREATED", 1, 0, store, "kim")
    assert (row.transaction_at, row.created_at) == (NOON, NOON)
    assert balance_of(card).last_activity_at == NOON
    assert (card.customer.first_name, card.enrolled_at_store, card.status) == ("Ana", store, "active")


def test_a_welcome_bonus_is_a_row_of_its_own():
    card = enrol(make_merchant(welcome_bonus_points=50))

    rows = Transaction.objects.filter(card=card).order_by("seq")
    assert [(row.type, row.points_delta, row.points_balance_after) for row in rows] == [
        ("CARD_CREATED", 0, 0),
        ("WELCOME_BONUS", 50, 50),
    ]
    balance = balance_of(card)
    assert (balance.points_balance, balance.lifetime_points_earned, balance.last_seq) == (50, 50, 2)


def test_the_customer_is_welcomed_once():
    merchant = make_merchant(welcome_bonus_points=50)

    card = enrol(merchant, first_name="Ana", email="ana@example.com", locale="de")

    message = Message.objects.get()
    assert (message.kind, message.recipient, message.locale) == ("loyalty_enrollment", "ana@example.com", "de")
    assert (message.reference, message.scope) == (str(card.pk), str(merchant.pk))
    assert message.context["welcome_bonus_points"] == message.context["points_balance"] == 50


def test_a_customer_without_an_address_is_enrolled_too(merchant):
    enrol(merchant, phone="+352621123456")

    assert Message.objects.get().status == Message.Status.UNDELIVERABLE


def test_all_that_is_known_of_a_person_is_kept(merchant):
    person = {
        "first_name": "Ana",
        "last_name": "Silva",
        "email": "Ana@Example.com",
        "phone": "+352 621 123 456",
        "birth_date": date(1990, 2, 28),
        "locale": "fr",
        "external_id": " A-17 ",
        "terms_accepted_at": NOON,
        "marketing_consent_at": NOON,
    }

    customer = enrol(merchant, **person).customer

    kept = {name: getattr(customer, name) for name in person}
    assert kept == {**person, "phone": "+352621123456", "external_id": "A-17"}


def test_a_national_phone_number_is_read_in_the_merchants_country(merchant):
    merchant.country = "LU"

    assert enrol(merchant, phone="621 123 456").customer.phone == "+352621123456"


@pytest.mark.parametrize(
    ("person", "field"),
    [
        ({"email": "ana"}, "email"),
        ({"email": "ana@"}, "email"),
        ({"phone": "call me"}, "phone"),
        ({"phone": "621123456"}, "phone"),
        ({"phone": "+3526"}, "phone"),
        ({"phone": "+49 1234"}, "phone"),
    ],
)
def test_an_address_of_no_usable_form_is_refused(merchant, person, field):
    with pytest.raises(InvalidInput) as refused:
        enrol(merchant, **person)

    assert refused.value.details == {"field": field}
    assert not Customer.objects.exists()


@pytest.mark.parametrize(
    "again",
    [
        {"email": "ANA@example.com "},
        {"phone": "+352621123456"},
        {"external_id": "A-17"},
        {"email": "ana@example.com", "phone": "+352621999999"},
    ],
    ids=["e-mail in capitals", "phone", "external id", "e-mail with a new phone"],
)
def test_a_customer_who_enrols_again_hears_of_the_card_that_is_there(merchant, again):
    card = enrol(merchant, email="ana@example.com", phone="+352621123456", external_id="A-17")

    with pytest.raises(AlreadyEnrolled) as refused:
        enrol(merchant, **again)

    assert refused.value.details == {"card_id": card.pk}
    assert Card.objects.count() == 1


def test_a_suspended_card_is_still_the_customers_card(merchant):
    card = enrol(merchant, email="ana@example.com")
    Card.objects.update(status="suspended")

    with pytest.raises(AlreadyEnrolled) as refused:
        enrol(merchant, email="ana@example.com")

    assert refused.value.details == {"card_id": card.pk}


def test_a_customer_whose_card_was_closed_gets_a_new_one(merchant):
    old = enrol(merchant, email="ana@example.com")
    Card.objects.update(status="closed")

    new = enrol(merchant, email="ana@example.com")

    assert new.customer == old.customer
    assert Customer.objects.count() == 1


def test_the_same_address_is_another_customer_at_another_merchant(merchant):
    enrol(merchant, email="ana@example.com")

    card = enrol(make_merchant(), email="ana@example.com")

    assert card.customer.merchant != merchant


def test_customers_without_any_address_are_never_the_same(merchant):
    assert enrol(merchant, first_name="Ana").customer != enrol(merchant, first_name="Ana").customer


def test_an_address_and_a_number_of_two_customers_are_refused(merchant):
    enrol(merchant, email="ana@example.com")
    enrol(merchant, phone="+352621123456")

    with pytest.raises(ConflictingCustomer):
        enrol(merchant, email="ana@example.com", phone="+352621123456")


@pytest.mark.parametrize("model", [Merchant, Program])
def test_nobody_enrols_where_the_program_is_switched_off(merchant, model):
    model.objects.update(is_active=False)

    with pytest.raises(EnrolmentClosed):
        enrol(merchant, email="ana@example.com")


def test_nobody_enrols_where_there_is_no_program():
    with pytest.raises(EnrolmentClosed):
        enrol(Merchant.objects.create(name="New", slug="new", currency="EUR"))


@pytest.mark.django_db(transaction=True)
def test_a_broken_rule_that_is_no_repeated_enrolment_is_not_hidden(merchant):
    gone = Store(pk=987_654_321, merchant=merchant)

    with pytest.raises(IntegrityError, match="enrolled_at_store"):
        enrolment.enrol(merchant=merchant, person=Person(email="ana@example.com"), at=NOON, store=gone)

    assert not Customer.objects.exists()


def test_card_numbers_have_a_check_digit_that_notices_typing_errors():
    for number in [new_card_number() for _ in range(50)]:
        assert len(number) == 12
        assert luhn_digit(number[:-1]) == number[-1]
        other_digit = str((int(number[3]) + 1) % 10)
        assert luhn_digit(number[:3] + other_digit + number[4:-1]) != number[-1]


@pytest.mark.django_db(transaction=True)
def test_of_many_who_enrol_the_same_customer_at_once_one_succeeds(merchant):
    made, refused = [], []

    def enrol_at_once(number: int) -> None:
        try:
            made.append(enrol(merchant, email="Ana@example.com" if number % 2 else "ana@example.com").pk)
        except AlreadyEnrolled as error:
            refused.append(error.details["card_id"])

    for _ in range(3):
        made.clear()
        refused.clear()
        in_parallel(enrol_at_once, 6)

        assert len(made) == 1
        assert refused == made * 5
        assert (Card.objects.in_use().count(), CardBalance.objects.count()) == (1, Customer.objects.count())
        forget_the_customer()


def forget_the_customer() -> None:
    Card.objects.update(status="closed")
    Customer.objects.update(email="")


def test_a_card_enrolled_long_ago_keeps_its_own_moment(merchant):
    card = enrolment.enrol(merchant=merchant, person=Person(), at=NOON - days(100))

    assert card.created_at == balance_of(card).changed_at == NOON - days(100)
