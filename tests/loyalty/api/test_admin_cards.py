"""Cards found, told about and given out by a back office, over HTTP."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Card, Customer, Transaction
from tests.factories import days, make_card, make_cards, make_merchant, make_store
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
UNKNOWN = 987_654_321
WHY = {"reason": "Asked for by mail"}


@pytest.fixture
def card():
    return make_card(
        make_merchant(),
        points=100,
        at=timezone.now() - days(20),
        first_name="Ana",
        last_name="Muller",
        email="ana@example.com",
        phone="+352 621 123 456",
        external_id="C-17",
    )


@pytest.fixture
def office(card):
    return Office(card.program.merchant, "manager")


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    return answer.json()


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


# --- found


def test_a_back_office_sees_all_of_a_card(card, office):
    shown = office.get(f"cards/{card.pk}").json()

    assert shown == {
        "id": card.pk,
        "card_number": card.card_number,
        "status": "active",
        "merchant_id": card.program.merchant_id,
        "program_id": card.program_id,
        "customer_id": card.customer_id,
        "customer": {
            "first_name": "Ana",
            "last_name": "Muller",
            "email": "ana@example.com",
            "phone": "+352621123456",
        },
        "points_balance": 100,
        "stamp_count": 0,
        "lifetime_points_earned": 0,
        "lifetime_points_redeemed": 0,
        "lifetime_points_expired": 0,
        "last_activity_at": card.balance.last_activity_at.isoformat().replace("+00:00", "Z"),
        "last_expiration_warning_at": None,
        "expiration_warned_for": None,
        "keeps_until": (card.balance.last_activity_at + days(180)).date().isoformat(),
        "expiration_exempt": False,
        "expiration_exempt_reason": "",
        "merged_into_id": None,
        "enrolled_at_store_id": None,
        "version": card.balance.version,
        "created_at": card.created_at.isoformat().replace("+00:00", "Z"),
    }
    assert office.get("cards").json()["results"] == [shown]


@pytest.mark.parametrize(
    "q",
    ["number", "spaced number", "token", "ANA@example.com", "+352 621 123 456", "C-17"],
)
def test_a_card_is_found_by_exactly_what_it_is_called(card, office, q):
    make_card(card.program.merchant)
    number = card.card_number
    q = {"number": number, "spaced number": f" {number[:4]} {number[4:]} ", "token": card.qr_token}.get(q, q)

    assert ids(office.get("cards", q=q)) == [card.pk]
    assert ids(office.get("cards", q=q, merchant_id=card.program.merchant_id)) == [card.pk]
    assert ids(Office(make_merchant(), "manager").get("cards", q=q)) == []


@pytest.mark.parametrize("q", ["ana", "ana@example.co", "%", "C-1", "00000", "😀", "'; --", "9" * 200])
def test_a_part_finds_nothing(office, q):
    assert ids(office.get("cards", q=q)) == []


def test_a_list_is_of_ones_own_merchants_and_can_be_of_one(card):
    other, foreign = make_card(), make_card()
    merchants = {name: made.program.merchant for name, made in {"own": card, "other": other}.items()}
    office = Office(merchants["own"], "support")
    merchants["other"].memberships.create(user=office.user, role="manager")

    assert ids(office.get("cards")) == [other.pk, card.pk]
    assert ids(office.get("cards", merchant_id=merchants["own"].pk)) == [card.pk]
    assert ids(Office().get("cards")) == [foreign.pk, other.pk, card.pk]
    assert ids(Office().get("cards", merchant_id=merchants["other"].pk)) == [other.pk]


def test_a_list_is_filtered_by_status_and_exemption(card, office):
    stopped, exempt = make_card(card.program.merchant), make_card(card.program.merchant)
    office.post(f"cards/{stopped.pk}/suspend", WHY)
    office.post(f"cards/{exempt.pk}/exempt", WHY)

    assert ids(office.get("cards", status="suspended")) == [stopped.pk]
    assert ids(office.get("cards", expiration_exempt="true")) == [exempt.pk]
    assert ids(office.get("cards", expiration_exempt="false", status="active")) == [card.pk]


@pytest.mark.parametrize(
    "query",
    [
        {"status": "lost"},
        {"q": ""},
        {"q": "x" * 255},
        {"q": "a\x00b"},
        {"merchant_id": "ten"},
        {"merchant_id": 0},
        {"merchant_id": 10**30},
        {"limit": 201},
        {"cursor": "x"},
        {"expiration_exempt": "perhaps"},
        {"name": "Ana"},
    ],
)
def test_a_query_that_is_none_is_refused(office, query):
    refused(office.get("cards", **query), 400, "invalid_request")


def test_pages_show_every_card_once(card, office):
    made = [card.pk, *(made.pk for made in make_cards(card.program.merchant, 6))]
    page = office.get("cards", limit=3).json()
    seen = [row["id"] for row in page["results"]]
    while page["next"]:
        page = office.client.get(page["next"], headers=office.headers).json()
        seen += [row["id"] for row in page["results"]]

    assert seen == sorted(made, reverse=True)


@pytest.mark.parametrize("path", ["cards", "customers"])
def test_a_long_list_costs_as_many_statements_as_a_short_one(card, office, path):
    def statements():
        with CaptureQueriesContext(connection) as captured:
            assert office.get(path).status_code == 200
        return [query["sql"] for query in captured]

    office.get(path)  # the key is noted as used, once in a while
    of_one = statements()
    make_cards(card.program.merchant, 29)

    assert len(statements()) == len(of_one)
    assert len(office.get(path).json()["results"]) == 30


# --- told about


def test_support_reads_the_story_of_a_card(card):
    told = Office(card.program.merchant, "support").get(f"cards/{card.pk}/explain").json()

    assert told["sentences"][0] == "The card holds 100 points."
    assert told["keeps_until"] == (card.balance.last_activity_at + days(180)).date().isoformat()
    assert [move["points_delta"] for move in told["movements"]] == [100, 0]


def test_the_history_of_a_card_is_told_newest_first(card, office):
    history = office.get(f"cards/{card.pk}/transactions", limit=1).json()
    assert [(row["type"], row["points_delta"]) for row in history["results"]] == [("BALANCE_IMPORTED", 100)]
    assert history["results"][0]["sentence"]

    older = office.client.get(history["next"], headers=office.headers).json()
    assert [row["type"] for row in older["results"]] == ["CARD_CREATED"]


# --- given out


def enrolment(merchant, **words):
    return {"merchant_id": merchant.pk, "email": "kim@example.com", "accepts_terms": True, **words}


def test_a_back_office_gives_out_a_card_once():
    merchant = make_merchant(welcome_bonus_points=5)
    store, office = make_store(merchant), Office(merchant, "manager")
    body = enrolment(merchant, store_id=store.pk, external_id="C-99", accepts_marketing=True)

    first, again = (office.post("cards", body, key="enrol-kim") for _ in range(2))

    assert first.status_code == 201
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    card = Card.objects.select_related("customer").get(pk=first.json()["card_id"])
    assert first.json() == {
        "card_id": card.pk,
        "card_number": card.card_number,
        "qr_token": card.qr_token,
        "points_balance": 5,
    }
    assert (card.enrolled_at_store_id, card.customer.external_id) == (store.pk, "C-99")
    assert card.customer.marketing_consent_at == card.customer.terms_accepted_at
    assert Transaction.objects.filter(card=card, actor=office.user.username).count() == 2
    refused(
        office.post("cards", {**body, "email": "other@example.com"}, key="enrol-kim"), 422, "idempotency_key_reused"
    )


def test_whom_a_back_office_gives_no_card(card, office):
    merchant, foreign = card.program.merchant, make_store()

    enrolled = refused(office.post("cards", enrolment(merchant, email="ANA@example.com")), 409, "already_enrolled")
    assert enrolled["details"] == {"card_id": card.pk}
    make_card(merchant, phone="+352621999999")
    mixed = {"email": "ana@example.com", "phone": "+352621999999"}
    refused(office.post("cards", enrolment(merchant, **mixed)), 409, "conflicting_customer")
    refused(office.post("cards", enrolment(merchant, accepts_terms=False)), 422, "terms_not_accepted")
    refused(office.post("cards", enrolment(merchant, phone="12")), 400, "invalid_input")
    of_foreign = refused(office.post("cards", enrolment(merchant, store_id=foreign.pk)), 404, "store_not_found")
    of_unknown = refused(office.post("cards", enrolment(merchant, store_id=UNKNOWN)), 404, "store_not_found")
    assert {**of_foreign, "request_id": ""} == {**of_unknown, "request_id": ""}
    refused(office.post("cards", enrolment(foreign.merchant)), 404, "merchant_not_found")
    refused(Office(merchant, "support").post("cards", enrolment(merchant)), 403, "permission_denied")
    merchant.program.is_active = False
    merchant.program.save()
    refused(office.post("cards", enrolment(merchant)), 409, "enrolment_closed")
    assert Customer.objects.filter(email="kim@example.com").count() == 0


def test_a_store_of_another_of_ones_merchants_gives_out_no_card(card, office):
    other = make_store()
    other.merchant.memberships.create(user=office.user, role="manager")

    refused(office.post("cards", enrolment(card.program.merchant, store_id=other.pk)), 404, "store_not_found")


# --- who may, and what is known


def test_a_list_of_a_foreign_merchant_is_answered_like_one_of_an_unknown_one(office):
    foreign, unknown = (
        refused(office.get("cards", merchant_id=pk), 404, "merchant_not_found") for pk in (make_merchant().pk, UNKNOWN)
    )
    assert {**foreign, "request_id": ""} == {**unknown, "request_id": ""}


@pytest.mark.parametrize("path", ["cards", "cards/1", "cards/1/explain", "cards/1/transactions"])
def test_nobody_reads_without_a_key(office, path):
    office.headers = {}
    refused(office.get(path), 401, "not_authenticated")


@pytest.mark.parametrize("role", ["manager", "support"])
@pytest.mark.parametrize("path", ["", "/explain", "/transactions"])
def test_a_foreign_card_is_answered_like_an_unknown_one(card, path, role):
    office = Office(make_merchant(), role)

    foreign, unknown = (refused(office.get(f"cards/{pk}{path}"), 404, "card_not_found") for pk in (card.pk, UNKNOWN))

    assert {**foreign, "request_id": ""} == {**unknown, "request_id": ""}
    assert foreign["details"] == {}
