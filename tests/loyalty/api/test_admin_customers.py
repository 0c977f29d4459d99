"""Customers found, put right, given their data and erased by a back office, over HTTP."""

import pytest

from loyalty.api.operations import OPERATIONS
from loyalty.models import Customer, IdempotencyKey, Transaction
from loyalty.services import privacy
from tests.factories import NOON, balance_of, make_card, make_merchant
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
UNKNOWN = 987_654_321
WHY = {"reason": "Letter of 3 March"}


@pytest.fixture
def card():
    return make_card(
        points=100,
        first_name="Ana",
        last_name="Muller",
        email="ana@example.com",
        phone="+352621123456",
        external_id="C-17",
        locale="fr",
    )


@pytest.fixture
def customer(card):
    return card.customer


@pytest.fixture
def office(card):
    return Office(card.program.merchant, "manager")


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    return {**answer.json(), "request_id": ""}


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


# --- found


def test_a_back_office_sees_who_a_customer_is(customer, card, office):
    office.post(f"cards/{card.pk}/close", WHY)
    second = make_card(card.program.merchant, email="ana@example.com")

    shown = office.get(f"customers/{customer.pk}").json()

    assert shown == {
        "id": customer.pk,
        "merchant_id": customer.merchant_id,
        "first_name": "Ana",
        "last_name": "Muller",
        "email": "ana@example.com",
        "phone": "+352621123456",
        "birth_date": None,
        "locale": "fr",
        "external_id": "C-17",
        "terms_accepted_at": None,
        "marketing_consent_at": None,
        "created_at": "2026-03-02T12:00:00Z",
        "erased_at": None,
        "card_ids": [card.pk, second.pk],
    }
    assert office.get("customers").json()["results"] == [shown]


@pytest.mark.parametrize("q", ["ANA@example.com", "+352 621 123 456", "C-17"])
def test_a_customer_is_found_by_exactly_what_is_known(customer, office, q):
    make_card(customer.merchant)

    assert ids(office.get("customers", q=q)) == [customer.pk]
    assert ids(office.get("customers", q=q, merchant_id=customer.merchant_id)) == [customer.pk]
    assert ids(office.get("customers", q=q[:-1])) == []
    assert ids(Office(make_merchant(), "support").get("customers", q=q)) == []


def test_a_list_of_customers_is_of_ones_own_merchants(customer, office):
    foreign = make_card().customer

    assert ids(office.get("customers")) == [customer.pk]
    assert ids(Office().get("customers")) == [foreign.pk, customer.pk]
    assert ids(Office().get("customers", merchant_id=customer.merchant_id)) == [customer.pk]
    answers = [
        refused(office.get("customers", merchant_id=pk), 404, "merchant_not_found")
        for pk in (foreign.merchant_id, UNKNOWN)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "query", [{"q": ""}, {"q": "x" * 255}, {"q": "a\x00b"}, {"merchant_id": 0}, {"email": "a@b.c"}]
)
def test_a_query_that_is_none_is_refused(office, query):
    refused(office.get("customers", **query), 400, "invalid_request")


# --- put right


def test_a_back_office_puts_a_customer_right_once(customer, office):
    body = {"first_name": "Anna", "phone": "+352 621 999 999", "birth_date": "1990-05-17", "accepts_marketing": True}

    changed, again = (office.patch(f"customers/{customer.pk}", body, key="put-right") for _ in range(2))

    assert changed.status_code == 200
    assert (again.content, again.headers["Idempotency-Replayed"]) == (changed.content, "true")
    shown = changed.json()
    assert (shown["first_name"], shown["last_name"], shown["phone"]) == ("Anna", "Muller", "+352621999999")
    assert (shown["birth_date"], bool(shown["marketing_consent_at"])) == ("1990-05-17", True)
    assert office.get(f"customers/{customer.pk}").json() == shown

    emptied = office.patch(f"customers/{customer.pk}", {"birth_date": None, "email": "", "accepts_marketing": False})
    assert [emptied.json()[name] for name in ("birth_date", "email", "marketing_consent_at")] == [None, "", None]


def test_what_is_somebody_elses_is_not_given_to_a_second_one(customer, office):
    other = make_card(customer.merchant).customer

    refusal = refused(office.patch(f"customers/{other.pk}", {"email": "ANA@example.com"}), 409, "contact_taken")

    assert refusal["details"] == {"customer_id": customer.pk}
    assert refusal["errors"][0]["pointer"] == "/email"
    assert "ana@" not in refusal["detail"].lower()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 409, "nothing_to_change"),
        ({"first_name": "Ana"}, 409, "nothing_to_change"),
        ({"email": "ana"}, 400, "invalid_input"),
        ({"phone": "12"}, 400, "invalid_input"),
        ({"email": None}, 400, "invalid_request"),
        ({"email": "a\x00b@example.com"}, 400, "invalid_request"),
        ({"first_name": "x" * 81}, 400, "invalid_request"),
        ({"first_name": "\ud800"}, 400, "invalid_request"),
        ({"first_name": ["Ana"]}, 400, "invalid_request"),
        ({"locale": "tlh"}, 400, "invalid_request"),
        ({"birth_date": "1789-07-14"}, 400, "invalid_request"),
        ({"birth_date": "9999-12-31"}, 400, "invalid_request"),
        ({"birth_date": 19900517}, 400, "invalid_request"),
        ({"accepts_marketing": "yes"}, 400, "invalid_request"),
        ({"accepts_marketing": None}, 400, "invalid_request"),
        ({"merchant_id": 1}, 400, "invalid_request"),
        ({"erased_at": None}, 400, "invalid_request"),
    ],
    ids=str,
)
def test_what_cannot_be_put_right_is_refused(customer, office, body, status, code):
    before = Customer.objects.values().get(pk=customer.pk)

    refused(office.patch(f"customers/{customer.pk}", body), status, code)

    assert Customer.objects.values().get(pk=customer.pk) == before


def test_a_name_may_be_in_any_script(customer, office):
    assert office.patch(f"customers/{customer.pk}", {"first_name": "Ána 😀 安娜"}).json()["first_name"] == "Ána 😀 安娜"


# --- given their data


def test_a_manager_gives_out_all_that_is_held(customer, card, office):
    given = office.get(f"customers/{customer.pk}/export").json()

    held = privacy.export_customer(merchant=customer.merchant, customer_id=customer.pk, at=NOON)
    assert {**given, "exported_at": ""} == {**held, "exported_at": ""}
    assert (given["customer"]["email"], given["cards"][0]["balance"]["points_balance"]) == ("ana@example.com", 100)


def test_the_description_of_an_export_names_all_of_it(customer, office):
    given = office.get(f"customers/{customer.pk}/export").json()

    described = OPERATIONS["admin_customers_export"].answer
    assert described
    assert set(described().fields) == set(given)


# --- erased


def test_a_manager_erases_a_customer_once(customer, card, office):
    office.patch(f"customers/{customer.pk}", {"first_name": "Anna"}, key="put-right")
    till_row = Transaction.objects.filter(card=card).count()

    erased, again = (office.post(f"customers/{customer.pk}/erase", WHY, key="erase-her") for _ in range(2))

    assert erased.status_code == 200
    assert (again.content, again.headers["Idempotency-Replayed"]) == (erased.content, "true")
    assert erased.json() == {
        "customer_id": customer.pk,
        "card_ids": [card.pk],
        "points": 100,
        "stamps": 0,
        "messages": 1,
        "answered_requests": 1,
        "import_lines": 0,
        "merged_customer_ids": [],
    }
    assert balance_of(card).points_balance == 0
    assert Transaction.objects.filter(card=card).count() == till_row + 2
    shown = office.get(f"customers/{customer.pk}").json()
    assert (shown["first_name"], shown["email"], shown["card_ids"]) == ("", "", [card.pk])
    assert shown["erased_at"]
    refused(office.post(f"customers/{customer.pk}/erase", WHY), 409, "already_erased")
    refused(office.patch(f"customers/{customer.pk}", {"first_name": "Anna"}), 409, "already_erased")


def test_a_repeat_after_an_erasure_tells_nothing(customer, office):
    for key, body in (("put-right", {"first_name": "Anna"}), ("and-more", {"last_name": "Müller"})):
        assert "ana@example.com" in office.patch(f"customers/{customer.pk}", body, key=key).content.decode()

    office.post(f"customers/{customer.pk}/erase", WHY, key="erase-her")

    assert [key.key for key in IdempotencyKey.objects.all()] == ["erase-her"]
    refused(office.patch(f"customers/{customer.pk}", {"first_name": "Anna"}, key="put-right"), 409, "already_erased")


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": 1}, {"reason": "x" * 501}, {**WHY, "force": True}])
def test_an_erasure_without_a_usable_reason_is_refused(customer, office, body):
    refused(office.post(f"customers/{customer.pk}/erase", body), 400, "invalid_request")
    assert Customer.objects.get(pk=customer.pk).erased_at is None


# --- who may, and what is known

ASKED = {
    "get": lambda office, pk: office.get(f"customers/{pk}"),
    "update": lambda office, pk: office.patch(f"customers/{pk}", {"first_name": "X"}),
    "export": lambda office, pk: office.get(f"customers/{pk}/export"),
    "erase": lambda office, pk: office.post(f"customers/{pk}/erase", WHY),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("role", ["manager", "support"])
def test_a_foreign_customer_is_answered_like_an_unknown_one(customer, ask, role):
    office = Office(make_merchant(), role)

    foreign, unknown = (refused(ask(office, pk), 404, "customer_not_found") for pk in (customer.pk, UNKNOWN))

    assert foreign == unknown
    assert foreign["details"] == {}
    assert Customer.objects.get(pk=customer.pk).first_name == "Ana"


@pytest.mark.parametrize("name", ["update", "export", "erase"])
def test_support_only_looks_at_customers(customer, name):
    support = Office(customer.merchant, "support")

    assert ASKED["get"](support, customer.pk).status_code == 200
    refused(ASKED[name](support, customer.pk), 403, "permission_denied")
    assert ASKED[name](Office(), customer.pk).status_code == 200


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_nobody_does_anything_without_a_key(customer, office, ask):
    office.headers = {}
    refused(ask(office, customer.pk), 401, "not_authenticated")
