"""Stores and the keys of their tills in the hands of back offices, over HTTP."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from loyalty.models import IdempotencyKey, Store, StoreApiKey
from loyalty.services import keys
from tests.factories import NOON, make_merchant, make_store
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def store():
    return make_store(code="main")


@pytest.fixture
def office(store):
    return Office(store.merchant, role="manager")


def refused(answer, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def without_id(answer) -> dict[str, object]:
    return {**answer.json(), "request_id": ""}


def make_key(store: Store, label: str = "Till 1") -> StoreApiKey:
    return keys.issue_store_key(store=store, label=label, actor="ana", at=NOON).record


def test_a_manager_opens_a_store_once(office, store):
    path = f"merchants/{store.merchant_id}/stores"

    first = office.post(path, {"name": "Corner", "code": "corner"}, key="corner-1")
    again = office.post(path, {"name": "Corner", "code": "corner"}, key="corner-1")

    assert (first.status_code, again.content) == (201, first.content)
    answer = first.json()
    assert answer.pop("created_at")
    opened = Store.objects.get(code="corner")
    assert answer == {
        "id": opened.pk,
        "merchant_id": store.merchant_id,
        "name": "Corner",
        "code": "corner",
        "is_active": True,
        "throttle_factor": 1,
    }


def test_a_code_that_is_taken_is_refused(office, store):
    path = f"merchants/{store.merchant_id}/stores"

    refused(office.post(path, {"name": "Corner", "code": "main"}), 409, "store_exists", "/code")
    second = make_store(store.merchant, code="second")
    refused(office.patch(f"stores/{second.pk}", {"code": "main"}), 409, "store_exists", "/code")


def test_a_manager_changes_what_is_sent(office, store):
    changed = office.patch(f"stores/{store.pk}", {"throttle_factor": 0, "is_active": False})

    assert changed.status_code == 200
    assert (changed.json()["throttle_factor"], changed.json()["is_active"]) == (0, False)
    assert (changed.json()["name"], changed.json()["code"]) == ("Main Street", "main")
    for body in ({}, {"is_active": False}):
        refused(office.patch(f"stores/{store.pk}", body), 409, "nothing_to_change")


def test_the_tills_of_a_store_that_is_switched_off_are_refused(office, store):
    till = Till(store)
    assert till.get("program").status_code == 200

    office.patch(f"stores/{store.pk}", {"is_active": False})

    refused(till.get("program"), 403, "store_not_active")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": ""}, "invalid_request"),
        ({"name": None}, "invalid_request"),
        ({"name": "x" * 121}, "invalid_request"),
        ({"name": "nul\x00"}, "invalid_request"),
        ({"code": 7}, "invalid_request"),
        ({"code": "x" * 41}, "invalid_request"),
        ({"throttle_factor": "1"}, "invalid_request"),
        ({"throttle_factor": 1.0}, "invalid_request"),
        ({"throttle_factor": True}, "invalid_request"),
        ({"throttle_factor": -1}, "invalid_request"),
        ({"throttle_factor": 10**30}, "invalid_request"),
        ({"merchant_id": 1}, "invalid_request"),
        ({"code": "a b"}, "invalid_input"),
        ({"code": "größe"}, "invalid_input"),
        ({"name": "bell \x07"}, "invalid_input"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(body, code, office, store):
    pointer = f"/{next(iter(body))}"

    refused(office.patch(f"stores/{store.pk}", body), 400, code, pointer)
    created = office.post(f"merchants/{store.merchant_id}/stores", {"name": "Corner", "code": "corner", **body})
    refused(created, 400, code, pointer)
    assert list(Store.objects.values_list("name", "code", "throttle_factor")) == [("Main Street", "main", 1)]


@pytest.mark.parametrize("value", ["true", 1, None, "no"])
def test_a_switch_is_true_or_false(value, office, store):
    refused(office.patch(f"stores/{store.pk}", {"is_active": value}), 400, "invalid_request", "/is_active")


def test_stores_are_listed_newest_first_and_filtered(office, store):
    closed = make_store(store.merchant, is_active=False)
    make_store()
    path = f"merchants/{store.merchant_id}/stores"

    assert [row["id"] for row in office.get(path).json()["results"]] == [closed.pk, store.pk]
    assert [row["id"] for row in office.get(path, is_active="true").json()["results"]] == [store.pk]
    assert [row["id"] for row in office.get(path, is_active="false").json()["results"]] == [closed.pk]
    refused(office.get(path, is_active="perhaps"), 400, "invalid_request", "/is_active")


def test_a_long_list_costs_no_more_statements(office, store):
    lists = (f"merchants/{store.merchant_id}/stores", f"stores/{store.pk}/keys")
    costs = []
    make_key(store)
    for number in (1, 50):
        for _ in range(number - 1):
            make_store(store.merchant)
            make_key(store)
        with CaptureQueriesContext(connection) as captured:
            for path in lists:
                assert len(office.get(path).json()["results"]) == number
        costs.append(len(captured))

    assert costs[0] == costs[1]


def test_a_key_is_shown_once_and_opens_the_till(office, store):
    body = {"label": "Till 1", "expires_at": "2199-01-31T23:00:00+01:00"}

    issued = office.post(f"stores/{store.pk}/keys", body, key="till-key-1")

    answer = issued.json()
    assert issued.status_code == 201
    assert (answer["label"], answer["store_id"], answer["last_used_at"]) == ("Till 1", store.pk, None)
    assert answer["key"].startswith(answer["prefix"])
    assert StoreApiKey.objects.get().expires_at == datetime(2199, 1, 31, 22, tzinfo=UTC)
    till = Till(store)
    till.headers = {"Authorization": f"Api-Key {answer['key']}"}
    assert till.get("program").status_code == 200


def test_the_repeat_of_a_request_for_a_key_shows_no_key(office, store):
    issued = office.post(f"stores/{store.pk}/keys", {"label": "Till 1"}, key="till-key-1").json()
    again = office.post(f"stores/{store.pk}/keys", {"label": "Till 1"}, key="till-key-1")

    refused(again, 409, "secret_shown_once")
    assert StoreApiKey.objects.count() == 1
    assert issued["key"] not in str(list(IdempotencyKey.objects.values()))


def test_keys_are_listed_without_what_they_open(office, store):
    first, second = make_key(store), make_key(store, "Till 2")
    make_key(make_store(store.merchant))

    answer = office.get(f"stores/{store.pk}/keys")

    rows = answer.json()["results"]
    assert [(row["id"], row["label"], row["prefix"]) for row in rows] == [
        (second.pk, "Till 2", second.prefix),
        (first.pk, "Till 1", first.prefix),
    ]
    assert {name for row in rows for name in row} == {
        *("id", "store_id", "label", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at")
    }
    assert first.key_hash not in answer.content.decode()


def test_a_revoked_key_opens_nothing(office, store):
    till = Till(store)
    key = StoreApiKey.objects.get()

    revoked = office.post(f"stores/{store.pk}/keys/{key.pk}/revoke", key="revoke-key-1")
    again = office.post(f"stores/{store.pk}/keys/{key.pk}/revoke", key="revoke-key-1")

    assert (revoked.status_code, again.content) == (200, revoked.content)
    assert revoked.json()["revoked_at"] is not None
    refused(till.get("program"), 401, "invalid_api_key")
    refused(office.post(f"stores/{store.pk}/keys/{key.pk}/revoke"), 409, "nothing_to_change")


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "invalid_request", "/label"),
        ({"label": ""}, "invalid_request", "/label"),
        ({"label": "x" * 81}, "invalid_request", "/label"),
        ({"label": "Till", "expires_at": "2199-01-31T23:00:00"}, "invalid_request", "/expires_at"),
        ({"label": "Till", "expires_at": "9999-12-31T23:59:59-12:00"}, "invalid_request", "/expires_at"),
        ({"label": "Till", "expires_at": 4}, "invalid_request", "/expires_at"),
        ({"label": "Till", "key": "mine"}, "invalid_request", "/key"),
        ({"label": "Till", "expires_at": "2020-01-31T23:00:00Z"}, "invalid_input", "/expires_at"),
        ({"label": "bell \x07"}, "invalid_input", "/label"),
    ],
)
def test_a_key_that_cannot_be_is_not_issued(body, code, pointer, office, store):
    refused(office.post(f"stores/{store.pk}/keys", body), 400, code, pointer)
    assert not StoreApiKey.objects.exists()


def test_a_key_of_another_store_is_not_revoked_by_mistake(office, store):
    key = make_key(make_store(store.merchant))

    refused(office.post(f"stores/{store.pk}/keys/{key.pk}/revoke"), 404, "key_not_found")
    key.refresh_from_db()
    assert key.revoked_at is None


CHANGES = [
    ("post", "merchants/{merchant}/stores", {"name": "Mine", "code": "mine"}),
    ("patch", "stores/{store}", {"name": "Mine"}),
    ("post", "stores/{store}/keys", {"label": "Mine"}),
    ("post", "stores/{store}/keys/{key}/revoke", None),
]
READS = [
    ("get", "merchants/{merchant}/stores", None),
    ("get", "stores/{store}", None),
    ("get", "stores/{store}/keys", None),
]


def address(path: str, store: Store, key: StoreApiKey) -> str:
    return path.format(merchant=store.merchant_id, store=store.pk, key=key.pk)


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_support_changes_nothing(method, path, body, store):
    key = make_key(store)

    answer = getattr(Office(store.merchant, role="support"), method)(address(path, store, key), body)

    refused(answer, 403, "permission_denied")
    assert list(Store.objects.values_list("name", flat=True)) == ["Main Street"]
    assert list(StoreApiKey.objects.values_list("revoked_at", flat=True)) == [None]


@pytest.mark.parametrize(("method", "path", "body"), READS)
@pytest.mark.parametrize("role", ["support", "manager", ""])
def test_members_and_platform_admins_read(role, method, path, body, store):
    office = Office(store.merchant, role=role)

    assert office.get(address(path, store, make_key(store))).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), [*CHANGES, *READS])
def test_what_is_others_is_not_known(method, path, body, store):
    key = make_key(store)
    before = list(Store.objects.values()), list(StoreApiKey.objects.values())
    send = getattr(Office(make_merchant(), role="manager"), method)

    foreign = send(address(path, store, key), *([body] if body else []))
    unknown = send(path.format(merchant=999_999, store=999_999, key=999_999), *([body] if body else []))

    assert foreign.status_code == 404
    assert foreign.json()["code"].endswith("_not_found")
    assert without_id(foreign) == without_id(unknown)
    assert (list(Store.objects.values()), list(StoreApiKey.objects.values())) == before


@pytest.mark.parametrize(("method", "path", "body"), [*CHANGES, *READS])
def test_nobody_gets_in_without_a_key(method, path, body, store):
    place = Office.base + address(path, store, make_key(store))

    refused(getattr(Client(), method)(place, body, content_type="application/json"), 401, "not_authenticated")
