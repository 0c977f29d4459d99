"""Staff members in the hands of back offices, over HTTP."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import IdempotencyKey, Merchant, StaffMember
from tests.factories import make_merchant, make_store
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def till():
    return Till()


@pytest.fixture
def office(till):
    return Office(till.merchant, role="manager")


def refused(answer, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def without_id(answer) -> dict[str, object]:
    return {**answer.json(), "request_id": ""}


def make_member(merchant: Merchant, **fields) -> StaffMember:
    """Somebody who has no PIN yet, which would cost a tenth of a second."""
    return StaffMember.objects.create(merchant=merchant, **{"display_name": "Kim", **fields})


def signs_in(till: Till, member_id: int, pin: str) -> bool:
    answer = till.post("staff/sessions", {"staff_member_id": member_id, "pin": pin}, key=None)
    till.headers["X-Staff-Session"] = answer.json().get("token", "")
    return bool(answer.status_code == 201)


def test_a_manager_adds_staff_who_sign_in_with_the_pin_that_is_shown(office, till):
    path = f"merchants/{till.merchant.pk}/staff"

    added = office.post(path, {"display_name": " Kim ", "role": "cashier", "store_ids": [till.store.pk]})

    member = added.json()
    pin = member.pop("pin")
    assert added.status_code == 201
    assert member == {
        "id": StaffMember.objects.get().pk,
        "merchant_id": till.merchant.pk,
        "display_name": "Kim",
        "role": "cashier",
        "store_ids": [till.store.pk],
        "is_active": True,
        "failed_attempts": 0,
        "locked_until": None,
    }
    assert len(pin) == 6
    assert signs_in(till, member["id"], pin)


def test_the_repeat_of_a_request_for_a_pin_shows_no_pin(office, till):
    path, body = f"merchants/{till.merchant.pk}/staff", {"display_name": "Kim", "role": "cashier"}

    first = office.post(path, body, key="add-kim-1")
    refused(office.post(path, body, key="add-kim-1"), 409, "secret_shown_once")
    member = StaffMember.objects.get()
    reset = office.post(f"staff/{member.pk}/reset-pin", key="reset-kim-1")
    refused(office.post(f"staff/{member.pk}/reset-pin", key="reset-kim-1"), 409, "secret_shown_once")

    kept = list(IdempotencyKey.objects.values_list("answer", flat=True))
    assert kept == [{"secret": True}, {"secret": True}]
    assert signs_in(till, member.pk, reset.json()["pin"])
    assert first.json()["pin"] != reset.json()["pin"]


def test_without_a_store_staff_work_everywhere(office, till):
    path = f"merchants/{till.merchant.pk}/staff"

    nowhere: list[dict[str, list[int]]] = [{}, {"store_ids": []}]
    for more in nowhere:
        added = office.post(path, {"display_name": "Kim", "role": "cashier", **more}).json()
        assert added["store_ids"] == []
        assert StaffMember.objects.working_at(till.store).filter(pk=added["id"]).exists()


@pytest.mark.parametrize("whose", ["another merchant's", "nobody's", "also mine, but of another merchant"])
def test_staff_work_only_in_stores_of_their_merchant(whose, office, till):
    other = make_store()
    if whose.startswith("also"):
        office = Office()
    store_id = 999_999 if whose == "nobody's" else other.pk
    member = make_member(till.merchant)

    for store_ids in ([store_id], [till.store.pk, store_id]):
        body = {"display_name": "Kim", "role": "cashier", "store_ids": store_ids}
        refused(office.post(f"merchants/{till.merchant.pk}/staff", body), 404, "store_not_found")
        refused(office.patch(f"staff/{member.pk}", {"store_ids": store_ids}), 404, "store_not_found")
    assert StaffMember.objects.get() == member
    assert not member.stores.exists()


def test_a_manager_changes_what_is_sent(office, till):
    second = make_store(till.merchant)
    member = make_member(till.merchant)
    path = f"staff/{member.pk}"

    assert office.patch(path, {"store_ids": [second.pk, till.store.pk, second.pk]}).json()["store_ids"] == sorted(
        [till.store.pk, second.pk]
    )
    changed = office.patch(path, {"role": "supervisor", "display_name": "Kim L."})

    assert changed.status_code == 200
    assert (changed.json()["role"], changed.json()["display_name"]) == ("supervisor", "Kim L.")
    assert len(changed.json()["store_ids"]) == 2
    for body in ({}, {"role": "supervisor"}, {"store_ids": [till.store.pk, second.pk]}, {"is_active": True}):
        refused(office.patch(path, body), 409, "nothing_to_change")
    assert office.patch(path, {"store_ids": []}).json()["store_ids"] == []


def test_who_is_switched_off_is_signed_out(office, till):
    member = till.sign_in()
    assert till.get("program").status_code == 200

    assert office.patch(f"staff/{member.pk}", {"is_active": False}).json()["is_active"] is False

    refused(till.get("program"), 401, "invalid_staff_session")


def test_a_new_pin_ends_the_old_one_and_every_shift(office, till):
    member = till.sign_in()

    reset = office.post(f"staff/{member.pk}/reset-pin")

    assert (reset.status_code, reset.json()["display_name"]) == (200, "Kim")
    refused(till.delete("staff/sessions/current"), 401, "invalid_staff_session")
    del till.headers["X-Staff-Session"]
    assert signs_in(till, member.pk, reset.json()["pin"])


def test_a_lock_is_seen_and_ended(office, till):
    member = make_member(till.merchant, failed_attempts=5, locked_until=timezone.now() + timedelta(minutes=20))

    seen = office.get(f"staff/{member.pk}").json()
    unlocked = office.post(f"staff/{member.pk}/unlock", key="unlock-kim-1")
    again = office.post(f"staff/{member.pk}/unlock", key="unlock-kim-1")

    assert (seen["failed_attempts"], seen["locked_until"] is None) == (5, False)
    assert (unlocked.json()["failed_attempts"], unlocked.json()["locked_until"]) == (0, None)
    assert (again.status_code, again.content) == (200, unlocked.content)
    refused(office.post(f"staff/{member.pk}/unlock"), 409, "nothing_to_change")


def test_staff_are_listed_newest_first_and_filtered(office, till):
    kim = make_member(till.merchant)
    lou = make_member(till.merchant, display_name="Lou", role="manager", is_active=False)
    lou.stores.add(till.store)
    make_member(make_merchant())
    path = f"merchants/{till.merchant.pk}/staff"

    def ids(**query: str) -> list[int]:
        return [row["id"] for row in office.get(path, **query).json()["results"]]

    assert ids() == [lou.pk, kim.pk]
    assert office.get(path).json()["results"][0]["store_ids"] == [till.store.pk]
    assert ids(is_active="true") == ids(role="cashier") == [kim.pk]
    assert ids(is_active="false", role="manager") == [lou.pk]
    for query in ({"role": "owner"}, {"is_active": "perhaps"}, {"display_name": "Kim"}):
        refused(office.get(path, **query), 400, "invalid_request", f"/{next(iter(query))}")


def test_a_long_list_costs_no_more_statements(office, till):
    costs = []
    for number in (1, 50):
        for _ in range(number - StaffMember.objects.count()):
            make_member(till.merchant).stores.add(till.store)
        with CaptureQueriesContext(connection) as captured:
            assert len(office.get(f"merchants/{till.merchant.pk}/staff").json()["results"]) == number
        costs.append(len(captured))

    assert costs[0] == costs[1]


def test_no_answer_holds_a_hash(office, till):
    member = till.sign_in()
    member.refresh_from_db()

    answers = office.get(f"staff/{member.pk}"), office.get(f"merchants/{till.merchant.pk}/staff")

    assert member.pin_hash
    for answer in answers:
        assert member.pin_hash not in answer.content.decode()
        assert "pin" not in answer.content.decode()


BAD = [
    ({"display_name": ""}, "invalid_request"),
    ({"display_name": 5}, "invalid_request"),
    ({"display_name": "x" * 81}, "invalid_request"),
    ({"display_name": "nul\x00"}, "invalid_request"),
    ({"display_name": "bell \x07"}, "invalid_input"),
    ({"role": "owner"}, "invalid_request"),
    ({"role": ["cashier"]}, "invalid_request"),
    ({"store_ids": None}, "invalid_request"),
    ({"store_ids": "1"}, "invalid_request"),
    ({"store_ids": 1}, "invalid_request"),
    ({"store_ids": {"1": 1}}, "invalid_request"),
    ({"pin": "204816"}, "invalid_request"),
    ({"pin_hash": "x"}, "invalid_request"),
    ({"failed_attempts": 0}, "invalid_request"),
    ({"merchant_id": 1}, "invalid_request"),
]


@pytest.mark.parametrize(("body", "code"), BAD)
def test_a_value_that_cannot_be_used_is_refused(body, code, office, till):
    member = make_member(till.merchant)
    pointer = f"/{next(iter(body))}"

    refused(office.patch(f"staff/{member.pk}", body), 400, code, pointer)
    added = office.post(f"merchants/{till.merchant.pk}/staff", {"display_name": "Lou", "role": "cashier", **body})
    refused(added, 400, code, pointer)
    assert list(StaffMember.objects.values_list("display_name", "role")) == [("Kim", "cashier")]


@pytest.mark.parametrize("store_id", ["1", 1.0, True, None, 0, -1, 10**18, 10**40, [1]])
def test_an_id_that_is_none_is_refused(store_id, office, till):
    member = make_member(till.merchant)

    refused(office.patch(f"staff/{member.pk}", {"store_ids": [store_id]}), 400, "invalid_request", "/store_ids/0")


def test_a_list_without_end_is_refused_before_it_is_looked_at(office, till):
    member = make_member(till.merchant)
    begun = time.monotonic()

    refused(office.patch(f"staff/{member.pk}", {"store_ids": ["x"] * 100_000}), 400, "invalid_request", "/store_ids")

    assert time.monotonic() - begun < 2


CHANGES = [
    ("post", "merchants/{merchant}/staff", {"display_name": "Mine", "role": "manager"}),
    ("patch", "staff/{member}", {"role": "manager"}),
    ("post", "staff/{member}/reset-pin", None),
    ("post", "staff/{member}/unlock", None),
]
READS = [("get", "merchants/{merchant}/staff", None), ("get", "staff/{member}", None)]


def locked_out(merchant: Merchant) -> StaffMember:
    return make_member(merchant, failed_attempts=5)


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_support_changes_nothing(method, path, body, till):
    member = locked_out(till.merchant)

    answer = getattr(Office(till.merchant, role="support"), method)(
        path.format(merchant=till.merchant.pk, member=member.pk), body
    )

    refused(answer, 403, "permission_denied")
    assert list(StaffMember.objects.values_list("role", "pin_hash", "failed_attempts")) == [("cashier", "", 5)]


@pytest.mark.parametrize(("method", "path", "body"), READS)
@pytest.mark.parametrize("role", ["support", "manager", ""])
def test_members_and_platform_admins_read(role, method, path, body, till):
    member = make_member(till.merchant)

    answer = Office(till.merchant, role=role).get(path.format(merchant=till.merchant.pk, member=member.pk))

    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), [*CHANGES, *READS])
def test_what_is_others_is_not_known(method, path, body, till):
    member = locked_out(till.merchant)
    send = getattr(Office(make_merchant(), role="manager"), method)

    foreign = send(path.format(merchant=till.merchant.pk, member=member.pk), *([body] if body else []))
    unknown = send(path.format(merchant=999_999, member=999_999), *([body] if body else []))

    assert foreign.status_code == 404
    assert without_id(foreign) == without_id(unknown)
    assert list(StaffMember.objects.values_list("role", "pin_hash", "failed_attempts")) == [("cashier", "", 5)]


@pytest.mark.parametrize(("method", "path", "body"), [*CHANGES, *READS])
def test_nobody_gets_in_without_a_key(method, path, body, till):
    place = Office.base + path.format(merchant=till.merchant.pk, member=make_member(till.merchant).pk)

    refused(getattr(Client(), method)(place, body, content_type="application/json"), 401, "not_authenticated")
