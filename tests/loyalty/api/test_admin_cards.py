"""Cards found, told about, given out, stopped, exempted, replaced and merged by a back office, over HTTP."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Card, Customer, ExemptionChange, IdempotencyKey, Transaction
from loyalty.services import privacy
from tests.factories import NOON, balance_of, days, make_card, make_cards, make_merchant, make_store
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
UNKNOWN = 987_654_321
WHY = {"reason": "Asked for by mail"}
BY_ADDRESS = {
    "suspend": WHY,
    "close": WHY,
    "reactivate": WHY,
    "exempt": WHY,
    "end-exemption": WHY,
    "replace": WHY,
    "merge": {**WHY, "target_card_id": 1},
    "merge/preview": {"target_card_id": 1},
}
MANAGED = [name for name in BY_ADDRESS if name != "merge/preview"]


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


def status_of(card):
    return Card.objects.get(pk=card.pk).status


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


# --- stopped and started


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [("suspend", "suspended", "CARD_DEACTIVATED"), ("close", "closed", "CARD_DEACTIVATED")],
)
def test_a_card_is_stopped_and_started_again_once(card, office, change, status, kind):
    stopped, again = (office.post(f"cards/{card.pk}/{change}", WHY, key="stop-it-1") for _ in range(2))

    assert stopped.status_code == 201
    assert (again.content, again.headers["Idempotency-Replayed"]) == (stopped.content, "true")
    assert (stopped.json()["type"], stopped.json()["reason"]) == (kind, WHY["reason"])
    assert stopped.json()["actor"] == office.user.username
    assert status_of(card) == status
    refused(office.post(f"cards/{card.pk}/{change}", WHY), 409, "nothing_to_change")

    started = office.post(f"cards/{card.pk}/reactivate", WHY)
    assert (started.status_code, started.json()["type"]) == (201, "CARD_REACTIVATED")
    assert status_of(card) == "active"
    refused(office.post(f"cards/{card.pk}/reactivate", WHY), 409, "nothing_to_change")


def test_a_closed_card_stays_closed_when_its_customer_has_another(card, office):
    office.post(f"cards/{card.pk}/close", WHY)
    other = office.post("cards", enrolment(card.program.merchant, email="ana@example.com")).json()["card_id"]

    refusal = refused(office.post(f"cards/{card.pk}/reactivate", WHY), 409, "already_enrolled")
    assert refusal["details"] == {"card_id": other}


@pytest.mark.parametrize("change", ["suspend", "close", "reactivate", "replace", "merge"])
def test_what_was_decided_on_an_older_sight_of_the_card_is_not_done(card, office, change):
    target = make_card(card.program.merchant)
    body = {**BY_ADDRESS[change], "seen_version": card.balance.version - 1}
    if change == "merge":
        body["target_card_id"] = target.pk
    if change == "reactivate":
        office.post(f"cards/{card.pk}/suspend", WHY)
    before = (status_of(card), balance_of(card).version)

    refused(office.post(f"cards/{card.pk}/{change}", body), 409, "card_changed")
    assert (status_of(card), balance_of(card).version) == before

    body["seen_version"] = office.get(f"cards/{card.pk}").json()["version"]
    assert office.post(f"cards/{card.pk}/{change}", body).status_code in (200, 201)


@pytest.mark.parametrize("change", [name for name in BY_ADDRESS if name != "reactivate"])
def test_a_closed_card_is_not_changed(card, office, change):
    office.post(f"cards/{card.pk}/close", WHY)
    body = dict(BY_ADDRESS[change])
    if "target_card_id" in body:
        body["target_card_id"] = make_card(card.program.merchant).pk

    code = "nothing_to_change" if change == "close" else "card_not_active"
    refused(office.post(f"cards/{card.pk}/{change}", body), 409, code)


# --- exempt


def test_a_card_is_taken_out_of_expiry_and_put_back(card, office):
    exempt, again = (office.post(f"cards/{card.pk}/exempt", WHY, key="exempt-it") for _ in range(2))

    assert exempt.status_code == 200
    assert (again.content, again.headers["Idempotency-Replayed"]) == (exempt.content, "true")
    shown = exempt.json()
    assert (shown["expiration_exempt"], shown["expiration_exempt_reason"], shown["keeps_until"]) == (
        True,
        WHY["reason"],
        None,
    )
    assert ExemptionChange.objects.filter(card=card, actor=office.user.username).count() == 1
    refused(office.post(f"cards/{card.pk}/exempt", WHY), 409, "nothing_to_change")
    refused(office.post(f"cards/{card.pk}/exempt", {"reason": "Other"}, key="exempt-it"), 422, "idempotency_key_reused")

    ended = office.post(f"cards/{card.pk}/end-exemption", WHY).json()
    assert (ended["expiration_exempt"], ended["expiration_exempt_reason"]) == (False, "")
    assert ended["keeps_until"]
    refused(office.post(f"cards/{card.pk}/end-exemption", WHY), 409, "nothing_to_change")


# --- replaced


def test_a_replaced_card_has_another_number_once(card, office):
    replaced, again = (office.post(f"cards/{card.pk}/replace", WHY, key="replace-1") for _ in range(2))

    assert (again.status_code, again.content) == (replaced.status_code, replaced.content)
    now = Card.objects.get(pk=card.pk)
    assert replaced.json() == {"card_id": card.pk, "card_number": now.card_number, "qr_token": now.qr_token}
    assert now.card_number != card.card_number
    assert ids(office.get("cards", q=card.card_number)) == []
    assert ids(office.get("cards", q=now.card_number)) == [card.pk]


# --- merged


def test_two_cards_become_one_once(card, office):
    target = make_card(card.program.merchant, points=7)
    body = {**WHY, "target_card_id": target.pk}

    seen = office.post(f"cards/{card.pk}/merge/preview", {"target_card_id": target.pk})
    assert seen.status_code == 200
    assert seen.json() == {
        "source_card_id": card.pk,
        "target_card_id": target.pk,
        "points": 100,
        "stamps": 0,
        "points_balance": 107,
        "stamp_count": 0,
        "keeps_until": (card.balance.last_activity_at + days(180)).date().isoformat(),
    }
    assert balance_of(card).points_balance == 100

    merged, again = (office.post(f"cards/{card.pk}/merge", body, key="merge-them") for _ in range(2))
    assert merged.status_code == 201
    assert (again.content, again.headers["Idempotency-Replayed"]) == (merged.content, "true")
    assert (merged.json()["card_id"], merged.json()["type"]) == (target.pk, "MERGE_IN")
    assert (merged.json()["points_delta"], merged.json()["points_balance_after"]) == (100, 107)
    shown = office.get(f"cards/{card.pk}").json()
    assert (shown["status"], shown["merged_into_id"], shown["points_balance"]) == ("merged", target.pk, 0)
    refused(office.post(f"cards/{card.pk}/merge", body), 409, "card_not_active")


@pytest.mark.parametrize("path", ["merge", "merge/preview"])
def test_a_card_is_not_merged_with_what_is_no_card_of_the_merchant(card, office, path):
    def merge(target_id, asker=office):
        return asker.post(f"cards/{card.pk}/{path}", {**BY_ADDRESS[path], "target_card_id": target_id})

    foreign = make_card()
    answers = [refused(merge(target), 404, "card_not_found") for target in (foreign.pk, UNKNOWN)]
    assert {**answers[0], "request_id": ""} == {**answers[1], "request_id": ""}

    itself = refused(merge(card.pk), 400, "invalid_input")
    assert itself["errors"][0]["pointer"] == "/target_card_id"

    # Not even when both merchants are one's own.
    foreign.program.merchant.memberships.create(user=office.user, role="manager")
    refused(merge(foreign.pk), 404, "card_not_found")
    refused(merge(foreign.pk, Office()), 404, "card_not_found")
    assert balance_of(card).points_balance == 100


# --- who may, and what is known


@pytest.mark.parametrize("change", MANAGED)
def test_support_changes_no_card(card, change):
    office = Office(card.program.merchant, "support")
    body = dict(BY_ADDRESS[change])
    if "target_card_id" in body:
        body["target_card_id"] = make_card(card.program.merchant).pk

    refused(office.post(f"cards/{card.pk}/{change}", body), 403, "permission_denied")
    assert (status_of(card), balance_of(card).version) == ("active", card.balance.version)


def test_support_sees_what_a_merge_would_do(card):
    target = make_card(card.program.merchant)
    office = Office(card.program.merchant, "support")

    seen = office.post(f"cards/{card.pk}/merge/preview", {"target_card_id": target.pk})
    assert (seen.status_code, seen.json()["points"]) == (200, 100)


@pytest.mark.parametrize("role", ["manager", "support"])
@pytest.mark.parametrize("path", ["", "/explain", "/transactions", *(f"/{name}" for name in BY_ADDRESS)])
def test_a_foreign_card_is_answered_like_an_unknown_one(card, path, role):
    own = make_card()
    office = Office(own.program.merchant, role)
    body = {**BY_ADDRESS.get(path[1:], {})}
    if "target_card_id" in body:
        body["target_card_id"] = own.pk
    ask = office.post if body else lambda address, _: office.get(address)

    foreign, unknown = (refused(ask(f"cards/{pk}{path}", body), 404, "card_not_found") for pk in (card.pk, UNKNOWN))

    assert {**foreign, "request_id": ""} == {**unknown, "request_id": ""}
    assert foreign["details"] == {}


def test_a_list_of_a_foreign_merchant_is_answered_like_one_of_an_unknown_one(office):
    foreign, unknown = (
        refused(office.get("cards", merchant_id=pk), 404, "merchant_not_found") for pk in (make_merchant().pk, UNKNOWN)
    )
    assert {**foreign, "request_id": ""} == {**unknown, "request_id": ""}


@pytest.mark.parametrize("path", ["cards", "cards/1", "cards/1/explain", "cards/1/transactions"])
def test_nobody_reads_without_a_key(office, path):
    office.headers = {}
    refused(office.get(path), 401, "not_authenticated")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": ""},
        {"reason": "  "},
        {"reason": None},
        {"reason": 7},
        {"reason": "x" * 501},
        {"reason": "a\x00b"},
        {"reason": "\ud800"},
        {**WHY, "why": "x"},
        {**WHY, "seen_version": "9"},
        {**WHY, "seen_version": -1},
        {**WHY, "seen_version": 1.5},
        {**WHY, "seen_version": 10**30},
        [],
        "x",
    ],
)
@pytest.mark.parametrize("change", ["suspend", "replace", "exempt"])
def test_a_body_that_is_none_is_refused(card, office, change, body):
    answer = office.post(f"cards/{card.pk}/{change}", body)

    assert (answer.status_code, answer.json()["code"]) in [(400, "invalid_request"), (400, "malformed_json")]
    assert (status_of(card), balance_of(card).version) == ("active", card.balance.version)


@pytest.mark.parametrize("target", [None, 0, -1, "1", 1.0, 10**30, [1], True])
def test_a_target_that_is_no_id_is_refused(card, office, target):
    refused(office.post(f"cards/{card.pk}/merge", {**WHY, "target_card_id": target}), 400, "invalid_request")


def test_after_an_erasure_no_stored_answer_tells_who_it_was(card, office):
    merchant = card.program.merchant
    office.post(f"cards/{card.pk}/exempt", WHY, key="exempt-it")
    office.post(f"cards/{card.pk}/replace", WHY, key="replace-1")
    office.post(f"cards/{card.pk}/suspend", WHY, key="suspend-1")
    assert IdempotencyKey.objects.filter(user=office.user).count() == 3

    privacy.erase_customer(merchant=merchant, customer_id=card.customer_id, reason="letter", actor="ana", at=NOON)

    assert not IdempotencyKey.objects.filter(user=office.user).exists()
    shown = office.get(f"cards/{card.pk}").json()
    assert shown["customer"] == {"first_name": "", "last_name": "", "email": "", "phone": ""}
    refused(office.post(f"cards/{card.pk}/exempt", WHY, key="exempt-it"), 409, "card_not_active")
    refused(office.post(f"cards/{card.pk}/suspend", WHY, key="suspend-1"), 409, "idempotency_key_expired")
