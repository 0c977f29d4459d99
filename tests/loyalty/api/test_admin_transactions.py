"""The ledger read by a back office, and what was wrong taken back, over HTTP."""

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Transaction
from loyalty.services import earning
from tests.factories import balance_of, days, give, make_card, make_merchant, make_reward, make_store
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
UNKNOWN = 987_654_321
WHY = {"reason": "Wrong customer"}


@pytest.fixture
def store():
    return make_store(make_merchant(points_per_unit=Decimal(10)))


@pytest.fixture
def card(store):
    return make_card(store.merchant)


@pytest.fixture
def office(store):
    return Office(store.merchant, "manager")


@pytest.fixture
def sale(store, card):
    return sell(store, card)


def sell(store, card, amount_minor=1000, at=None, receipt=""):
    return earning.earn(
        store=store,
        card_id=card.pk,
        amount_minor=amount_minor,
        at=at or timezone.now(),
        receipt_number=receipt,
        actor="Kim",
    )


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    return {**answer.json(), "request_id": ""}


def ids(answer):
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


# --- read


def test_support_sees_a_transaction_and_what_it_means(store, card, sale):
    shown = Office(store.merchant, "support").get(f"transactions/{sale.pk}").json()

    assert (shown["id"], shown["card_id"], shown["type"]) == (sale.pk, card.pk, "POINTS_EARNED")
    assert (shown["points_delta"], shown["amount"], shown["currency"], shown["store_id"]) == (
        100,
        "10.00",
        "EUR",
        store.pk,
    )
    assert shown["sentence"] == "A purchase of €10.00 at Main Street earned 100 points."


def test_transactions_are_listed_newest_first(card, sale, office):
    created = Transaction.objects.get(card=card, type="CARD_CREATED")

    assert ids(office.get("transactions")) == [sale.pk, created.pk]
    assert ids(office.get("transactions", merchant_id=card.program.merchant_id)) == [sale.pk, created.pk]
    page = office.get("transactions", limit=1).json()
    assert [row["id"] for row in page["results"]] == [sale.pk]
    assert ids(office.client.get(page["next"], headers=office.headers)) == [created.pk]


def test_a_list_of_transactions_is_of_ones_own_merchants(card, sale, office):
    foreign = Transaction.objects.get(card=make_card())
    second = make_card()
    second.program.merchant.memberships.create(user=office.user, role="support")

    of_both = ids(office.get("transactions"))
    assert (foreign.pk in of_both, len(of_both)) == (False, 3)
    assert ids(office.get("transactions", merchant_id=second.program.merchant_id)) == of_both[:1]
    assert foreign.pk in ids(Office().get("transactions"))
    assert ids(Office(make_merchant(), "manager").get("transactions")) == []


def test_transactions_are_filtered_on_a_card(store, card, sale, office):
    sell(store, make_card(store.merchant))

    assert ids(office.get("transactions", card_id=card.pk, type="POINTS_EARNED")) == [sale.pk]
    assert ids(office.get("transactions", card_id=card.pk, store_id=store.pk)) == [sale.pk]
    assert ids(office.get("transactions", card_id=card.pk, store_id=make_store(store.merchant).pk)) == []
    later = (sale.created_at + days(1)).isoformat()
    assert ids(office.get("transactions", card_id=card.pk, created_from=later)) == []


def test_transactions_are_filtered_in_a_time(store, card, office):
    now = timezone.now()
    old, new = sell(store, card, at=now - days(3)), sell(store, card, at=now)
    window = {"created_from": (now - days(6)).isoformat(), "created_before": now.isoformat()}

    assert ids(office.get("transactions", **window)) == [old.pk]
    assert ids(office.get("transactions", **window, type="POINTS_EARNED", store_id=store.pk)) == [old.pk]
    assert ids(office.get("transactions", **window, type="POINTS_VOIDED")) == []
    window["created_before"] = (now + days(1)).isoformat()
    assert ids(office.get("transactions", **window, type="POINTS_EARNED")) == [new.pk, old.pk]


@pytest.mark.parametrize(
    "query",
    [
        {"type": "POINTS_EARNED"},
        {"store_id": None},
        {"created_from": "2026-03-01T00:00:00Z"},
        {"created_before": "2026-03-01T00:00:00Z"},
        {"created_from": "2026-01-01T00:00:00Z", "created_before": "2026-01-08T00:00:01Z", "type": "POINTS_EARNED"},
    ],
)
def test_what_would_read_a_whole_ledger_is_refused(store, office, query):
    if "store_id" in query:
        query = {"store_id": store.pk}
    assert "7 days" in refused(office.get("transactions", **query), 400, "invalid_input")["detail"]


@pytest.mark.parametrize("name", ["merchant_id", "card_id", "store_id"])
def test_a_foreign_id_in_the_query_is_answered_like_an_unknown_one(office, name):
    foreign = make_store()
    foreign_ids = {
        "merchant_id": foreign.merchant_id,
        "card_id": make_card(foreign.merchant).pk,
        "store_id": foreign.pk,
    }
    code = name.replace("_id", "_not_found")

    answers = [refused(office.get("transactions", **{name: pk}), 404, code) for pk in (foreign_ids[name], UNKNOWN)]

    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "query",
    [
        {"type": "SOLD"},
        {"card_id": "x"},
        {"card_id": 10**30},
        {"store_id": 0},
        {"created_from": "yesterday"},
        {"created_from": "2026-03-01"},
        {"created_from": "2026-03-01T00:00:00"},
        {"created_from": "0001-01-01T00:00:00Z"},
        {"created_before": "9999-12-31T23:59:59-12:00"},
        {"reason": "x"},
    ],
)
def test_a_query_that_is_none_is_refused(office, query):
    refused(office.get("transactions", **query), 400, "invalid_request")


@pytest.mark.parametrize("path", ["transactions", "cards/{}/transactions"])
def test_a_long_list_costs_as_many_statements_as_a_short_one(store, card, sale, office, path):
    address = path.format(card.pk)

    def statements():
        with CaptureQueriesContext(connection) as captured:
            assert office.get(address).status_code == 200
        return len(captured)

    office.get(address)  # the key is noted as used, once in a while
    short = statements()
    reward = make_reward(store.merchant)
    for number in range(28):
        give(card, number, at=timezone.now())
    earned = sell(store, card)
    office.post(f"transactions/{earned.pk}/void", WHY)

    assert statements() == short
    assert len(ids(office.get(address))) >= 30
    assert reward.pk


# --- taken back


def test_a_back_office_voids_a_sale_once_however_long_ago_it_was(store, card, office):
    sale = sell(store, card, at=timezone.now() - days(200), receipt="R1")

    voided, again = (office.post(f"transactions/{sale.pk}/void", WHY, key="void-it-1") for _ in range(2))

    assert voided.status_code == 201
    assert (again.content, again.headers["Idempotency-Replayed"]) == (voided.content, "true")
    shown = voided.json()
    assert (shown["type"], shown["points_delta"], shown["reverses_id"]) == ("POINTS_VOIDED", -100, sale.pk)
    assert (shown["actor"], shown["store_id"], shown["reason"]) == (office.user.username, None, WHY["reason"])
    assert balance_of(card).points_balance == 0
    second = refused(office.post(f"transactions/{sale.pk}/void", WHY), 409, "already_voided")
    assert second["details"] == {"transaction_id": shown["id"]}
    refused(
        office.post(f"transactions/{sale.pk}/void", {"reason": "Other"}, key="void-it-1"), 422, "idempotency_key_reused"
    )


def test_a_back_office_refunds_a_part_once(card, sale, office):
    body = {"amount": "4.00", **WHY}

    refunded, again = (office.post(f"transactions/{sale.pk}/refund", body, key="refund-1") for _ in range(2))

    assert refunded.status_code == 201
    assert (again.content, again.headers["Idempotency-Replayed"]) == (refunded.content, "true")
    assert (refunded.json()["points_delta"], refunded.json()["amount"]) == (-40, "4.00")
    assert balance_of(card).points_balance == 60
    left = refused(
        office.post(f"transactions/{sale.pk}/refund", {**body, "amount": "6.01"}), 422, "refund_exceeds_purchase"
    )
    assert left["details"] == {"refundable": "6.00", "refundable_minor": 600}


def test_what_is_not_taken_back(store, card, sale, office):
    created = Transaction.objects.get(card=card, type="CARD_CREATED")
    program = store.merchant.program

    refused(office.post(f"transactions/{created.pk}/void", WHY), 409, "not_voidable")
    refused(office.post(f"transactions/{created.pk}/refund", {"amount": "1.00", **WHY}), 409, "not_voidable")
    program.refund_policy = "block"
    program.save()
    office.post(f"cards/{card.pk}/adjust", {"points": -50, **WHY})
    refused(office.post(f"transactions/{sale.pk}/void", WHY), 409, "points_already_spent")
    office.post(f"cards/{card.pk}/close", WHY)
    refused(office.post(f"transactions/{sale.pk}/void", WHY), 409, "card_not_active")


def test_a_void_tells_what_the_card_no_longer_had(card, sale, office):
    office.post(f"cards/{card.pk}/adjust", {"points": -70, **WHY})

    shown = office.post(f"transactions/{sale.pk}/void", WHY).json()

    assert (shown["points_delta"], shown["shortfall_points"]) == (-30, 70)


@pytest.mark.parametrize("amount", ["", "0.001", "-1.00", "1,00", "1e2", "9" * 40, "abc", "NaN"])
def test_an_amount_that_is_none_is_refused(sale, office, amount):
    refusal = refused(office.post(f"transactions/{sale.pk}/refund", {"amount": amount, **WHY}), 400, "invalid_amount")
    assert refusal["errors"][0]["pointer"] == "/amount"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("void", {}),
        ("void", {"reason": ""}),
        ("void", {**WHY, "amount": "1.00"}),
        ("refund", WHY),
        ("refund", {"amount": "1.00"}),
        ("refund", {"amount": 1, **WHY}),
        ("refund", {"amount": None, **WHY}),
    ],
)
def test_a_body_that_is_none_is_refused(sale, office, path, body):
    refused(office.post(f"transactions/{sale.pk}/{path}", body), 400, "invalid_request")


def test_zero_is_nothing_to_refund(sale, office):
    refused(office.post(f"transactions/{sale.pk}/refund", {"amount": "0.00", **WHY}), 400, "invalid_amount")


# --- who may, and what is known

ASKED = {
    "get": lambda office, pk: office.get(f"transactions/{pk}"),
    "void": lambda office, pk: office.post(f"transactions/{pk}/void", WHY),
    "refund": lambda office, pk: office.post(f"transactions/{pk}/refund", {"amount": "1.00", **WHY}),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("role", ["manager", "support"])
def test_a_foreign_transaction_is_answered_like_an_unknown_one(card, sale, ask, role):
    office = Office(make_merchant(), role)

    foreign, unknown = (refused(ask(office, pk), 404, "transaction_not_found") for pk in (sale.pk, UNKNOWN))

    assert foreign == unknown
    assert balance_of(card).points_balance == 100


@pytest.mark.parametrize("name", ["void", "refund"])
def test_support_takes_nothing_back(store, card, sale, name):
    refused(ASKED[name](Office(store.merchant, "support"), sale.pk), 403, "permission_denied")
    assert balance_of(card).points_balance == 100
    assert ASKED[name](Office(), sale.pk).status_code == 201


@pytest.mark.parametrize("ask", [*ASKED.values(), lambda office, _: office.get("transactions")], ids=[*ASKED, "list"])
def test_nobody_does_anything_without_a_key(sale, office, ask):
    office.headers = {}
    refused(ask(office, sale.pk), 401, "not_authenticated")
