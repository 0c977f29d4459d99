"""Cards stopped, exempted, replaced and merged by a back office, over HTTP."""

from typing import Any

import pytest
from django.utils import timezone

from loyalty.models import Card, ExemptionChange, IdempotencyKey
from loyalty.services import privacy
from tests.factories import NOON, balance_of, days, make_card
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
UNKNOWN = 987_654_321
WHY = {"reason": "Asked for by mail"}
BY_ADDRESS: dict[str, dict[str, Any]] = {
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
    return make_card(points=100, at=timezone.now() - days(20), first_name="Ana", email="ana@example.com")


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
    other = make_card(card.program.merchant, email="ana@example.com")

    refusal = refused(office.post(f"cards/{card.pk}/reactivate", WHY), 409, "already_enrolled")
    assert refusal["details"] == {"card_id": other.pk}


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
@pytest.mark.parametrize("change", BY_ADDRESS)
def test_a_foreign_card_is_answered_like_an_unknown_one(card, change, role):
    own = make_card()
    office = Office(own.program.merchant, role)
    body = dict(BY_ADDRESS[change])
    if "target_card_id" in body:
        body["target_card_id"] = own.pk

    foreign, unknown = (
        refused(office.post(f"cards/{pk}/{change}", body), 404, "card_not_found") for pk in (card.pk, UNKNOWN)
    )

    assert {**foreign, "request_id": ""} == {**unknown, "request_id": ""}
    assert foreign["details"] == {}
    assert (status_of(card), balance_of(card).version) == ("active", card.balance.version)


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
