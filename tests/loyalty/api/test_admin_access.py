"""Own keys and memberships, over HTTP: nobody gets more than somebody else gave them."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from loyalty.models import IdempotencyKey, Membership, Merchant, UserApiKey
from loyalty.services import keys
from tests.factories import NOON, make_merchant
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db


@pytest.fixture
def merchant():
    return make_merchant()


@pytest.fixture
def office(merchant):
    return Office(merchant, role="manager")


def refused(answer, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def without_id(answer) -> dict[str, object]:
    return {**answer.json(), "request_id": ""}


def make_member(merchant: Merchant, username: str = "bea", role: str = "support") -> Membership:
    return Membership.objects.create(user=User.objects.create_user(username), merchant=merchant, role=role)


@pytest.mark.parametrize("role", ["manager", "support", ""])
def test_everybody_makes_and_revokes_keys_of_their_own(role, merchant):
    office = Office(merchant, role=role)

    issued = office.post("api-keys", {"label": "Accounting"}, key="own-key-1")

    assert issued.status_code == 201
    key = issued.json()
    assert key["key"].startswith(key["prefix"])
    with_new_key = Office.__new__(Office)
    with_new_key.client, with_new_key.headers = Client(), {"Authorization": f"Api-Key {key['key']}"}
    assert [row["label"] for row in with_new_key.get("api-keys").json()["results"]] == ["Accounting", "Office"]

    revoked = office.post(f"api-keys/{key['id']}/revoke")
    assert (revoked.status_code, revoked.json()["id"]) == (200, key["id"])
    refused(with_new_key.get("api-keys"), 401, "invalid_api_key")
    refused(office.post(f"api-keys/{key['id']}/revoke"), 409, "nothing_to_change")


def test_a_user_without_a_membership_has_keys_too(merchant):
    office = Office(merchant, role="support")
    Membership.objects.all().delete()

    assert office.post("api-keys", {"label": "Accounting"}).status_code == 201


def test_a_key_may_end_itself(office):
    own = UserApiKey.objects.get(user=office.user)

    assert office.post(f"api-keys/{own.pk}/revoke").status_code == 200
    refused(office.get("api-keys"), 401, "invalid_api_key")


def test_the_repeat_of_a_request_for_a_key_shows_no_key(office):
    issued = office.post("api-keys", {"label": "Accounting"}, key="own-key-1").json()

    refused(office.post("api-keys", {"label": "Accounting"}, key="own-key-1"), 409, "secret_shown_once")
    assert UserApiKey.objects.filter(label="Accounting").count() == 1
    assert issued["key"] not in str(list(IdempotencyKey.objects.values()))


def test_keys_are_listed_without_what_they_open(office):
    other = Office()
    [own] = UserApiKey.objects.filter(user=office.user)

    answer = office.get("api-keys")

    [row] = answer.json()["results"]
    assert (row["id"], row["label"], row["prefix"]) == (own.pk, "Office", own.prefix)
    assert set(row) == {"id", "label", "prefix", "created_at", "last_used_at", "expires_at", "revoked_at"}
    assert own.key_hash not in answer.content.decode()
    assert len(other.get("api-keys").json()["results"]) == 1


def test_keys_of_others_are_not_known_not_even_to_platform_admins(office):
    admin = Office()
    key = UserApiKey.objects.get(user=office.user)

    foreign, unknown = admin.post(f"api-keys/{key.pk}/revoke"), admin.post("api-keys/999999999/revoke")

    refused(foreign, 404, "key_not_found")
    assert without_id(foreign) == without_id(unknown)
    assert office.get("api-keys").status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "invalid_request", "/label"),
        ({"label": " "}, "invalid_request", "/label"),
        ({"label": 4}, "invalid_request", "/label"),
        ({"label": "Mine", "user": 1}, "invalid_request", "/user"),
        ({"label": "Mine", "expires_at": "tomorrow"}, "invalid_request", "/expires_at"),
        ({"label": "Mine", "expires_at": "2020-01-31T23:00:00Z"}, "invalid_input", "/expires_at"),
    ],
)
def test_a_key_that_cannot_be_is_not_issued(body, code, pointer, office):
    refused(office.post("api-keys", body), 400, code, pointer)
    assert UserApiKey.objects.count() == 1


@pytest.mark.parametrize("role", ["manager", ""])
def test_managers_and_platform_admins_give_memberships(role, merchant):
    office = Office(merchant, role=role)
    user = User.objects.create_user("bea")
    path = f"merchants/{merchant.pk}/memberships"

    first = office.post(path, {"username": "bea", "role": "manager"}, key="member-1")
    again = office.post(path, {"username": "bea", "role": "manager"}, key="member-1")

    given = Membership.objects.get(user=user)
    assert (first.status_code, again.content) == (201, first.content)
    assert first.json() == {"id": given.pk, "merchant_id": merchant.pk, "username": "bea", "role": "manager"}
    refused(office.post(path, {"username": "bea", "role": "support"}), 409, "already_member")


def test_who_cannot_be_a_member_is_as_unknown_as_nobody(office, merchant):
    User.objects.create_user("gone", is_active=False)
    User.objects.create_superuser("root")
    User.objects.create_user("bea", email="bea@example.com")
    path = f"merchants/{merchant.pk}/memberships"

    nobody = office.post(path, {"username": "nobody", "role": "support"})

    refused(nobody, 404, "user_not_found", "/username")
    for name in ("gone", "root", "be", "BEA", "bea@example.com", "%"):
        assert without_id(office.post(path, {"username": name, "role": "support"})) == without_id(nobody)
    assert Membership.objects.count() == 1


def test_memberships_are_listed_newest_first(office, merchant):
    own = Membership.objects.get()
    bea = make_member(merchant)
    make_member(make_merchant(), "kim")

    rows = office.get(f"merchants/{merchant.pk}/memberships").json()["results"]

    assert rows == [
        {"id": bea.pk, "merchant_id": merchant.pk, "username": "bea", "role": "support"},
        {"id": own.pk, "merchant_id": merchant.pk, "username": office.user.get_username(), "role": "manager"},
    ]


def test_a_long_list_costs_no_more_statements(merchant):
    office, costs = Office(), []
    for number in (1, 50):
        for n in range(Membership.objects.count(), number):
            make_member(merchant, f"member{n}")
            keys.issue_user_key(user=office.user, label=f"Key {n}", at=NOON)
        with CaptureQueriesContext(connection) as captured:
            assert len(office.get(f"merchants/{merchant.pk}/memberships").json()["results"]) == number
            assert len(office.get("api-keys").json()["results"]) == min(number + 1, 50)
        costs.append(len(captured))

    assert costs[0] == costs[1]


def test_a_membership_is_changed_and_taken_away_once(office, merchant):
    bea = make_member(merchant)

    changed = office.patch(f"memberships/{bea.pk}", {"role": "manager"})
    assert (changed.status_code, changed.json()["role"]) == (200, "manager")
    refused(office.patch(f"memberships/{bea.pk}", {"role": "manager"}), 409, "nothing_to_change")

    removed = office.delete(f"memberships/{bea.pk}", key="remove-bea-1")
    again = office.delete(f"memberships/{bea.pk}", key="remove-bea-1")
    assert (removed.status_code, removed.content, again.status_code) == (204, b"", 204)
    assert again.headers["Idempotency-Replayed"] == "true"
    refused(office.delete(f"memberships/{bea.pk}"), 404, "membership_not_found")
    assert User.objects.filter(username="bea").exists()


def test_who_loses_a_membership_sees_nothing_more(office, merchant):
    bea = Office(merchant, role="manager")
    assert bea.get(f"merchants/{merchant.pk}").status_code == 200

    office.delete(f"memberships/{Membership.objects.get(user=bea.user).pk}")

    refused(bea.get(f"merchants/{merchant.pk}"), 404, "merchant_not_found")


def test_who_becomes_support_changes_nothing_more(office, merchant):
    bea = Office(merchant, role="manager")

    office.patch(f"memberships/{Membership.objects.get(user=bea.user).pk}", {"role": "support"})

    refused(bea.patch(f"merchants/{merchant.pk}", {"name": "Mine"}), 403, "permission_denied")


def test_nobody_changes_or_removes_their_own_membership(office, merchant):
    admin = Office()
    own = [
        (office, Membership.objects.get(user=office.user)),
        (admin, Membership.objects.create(user=admin.user, merchant=merchant, role="support")),
    ]

    for asking, membership in own:
        refused(asking.patch(f"memberships/{membership.pk}", {"role": "manager"}), 403, "own_membership")
        refused(asking.delete(f"memberships/{membership.pk}"), 403, "own_membership")
    assert set(Membership.objects.values_list("role", flat=True)) == {"manager", "support"}


def test_support_cannot_rise(merchant):
    support = Office(merchant, role="support")
    own, other = Membership.objects.get(), make_member(merchant)
    path = f"merchants/{merchant.pk}/memberships"

    refused(support.get(path), 403, "permission_denied")
    refused(support.post(path, {"username": "kim", "role": "manager"}), 403, "permission_denied")
    for membership in (own, other):
        refused(support.patch(f"memberships/{membership.pk}", {"role": "manager"}), 403, "permission_denied")
        refused(support.delete(f"memberships/{membership.pk}"), 403, "permission_denied")
    assert list(Membership.objects.values_list("role", flat=True)) == ["support", "support"]


def test_a_manager_gives_no_rights_for_other_merchants(office):
    other = make_merchant()
    User.objects.create_user("kim")

    answer = office.post(f"merchants/{other.pk}/memberships", {"username": "kim", "role": "manager"})

    refused(answer, 404, "merchant_not_found")
    assert not Membership.objects.filter(merchant=other).exists()


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"username": "bea"}, "/role"),
        ({"role": "support"}, "/username"),
        ({"username": "bea", "role": "owner"}, "/role"),
        ({"username": "bea", "role": True}, "/role"),
        ({"username": "bea", "role": ["manager"]}, "/role"),
        ({"username": "bea", "role": {"manager": 1}}, "/role"),
        ({"username": "bea", "role": None}, "/role"),
        ({"username": 7, "role": "support"}, "/username"),
        ({"username": "x" * 151, "role": "support"}, "/username"),
        ({"username": "be\x00a", "role": "support"}, "/username"),
        ({"username": "be\ud800a", "role": "support"}, "/username"),
        ({"username": "bea", "role": "support", "is_superuser": True}, "/is_superuser"),
    ],
)
def test_a_membership_that_cannot_be_is_not_given(body, pointer, office, merchant):
    User.objects.create_user("bea")

    refused(office.post(f"merchants/{merchant.pk}/memberships", body), 400, "invalid_request", pointer)
    assert Membership.objects.count() == 1


@pytest.mark.parametrize("body", [{}, {"role": "owner"}, {"role": "manager", "merchant_id": 1}, {"user": 1}])
def test_a_change_that_cannot_be_is_refused(body, office, merchant):
    bea = make_member(merchant)

    refused(office.patch(f"memberships/{bea.pk}", body), 400, "invalid_request")
    bea.refresh_from_db()
    assert bea.role == "support"


ABOUT_MERCHANTS = [
    ("get", "merchants/{merchant}/memberships", None),
    ("post", "merchants/{merchant}/memberships", {"username": "kim", "role": "support"}),
    ("patch", "memberships/{membership}", {"role": "manager"}),
    ("delete", "memberships/{membership}", None),
]
OWN = [("get", "api-keys", None), ("post", "api-keys", {"label": "Mine"}), ("post", "api-keys/1/revoke", None)]


@pytest.mark.parametrize(("method", "path", "body"), ABOUT_MERCHANTS)
def test_what_is_others_is_not_known(method, path, body, merchant):
    bea = make_member(merchant)
    send = getattr(Office(make_merchant(), role="manager"), method)

    foreign = send(path.format(merchant=merchant.pk, membership=bea.pk), *([body] if body else []))
    unknown = send(path.format(merchant=999_999, membership=999_999), *([body] if body else []))

    assert foreign.status_code == 404
    assert without_id(foreign) == without_id(unknown)
    bea.refresh_from_db()
    assert bea.role == "support"


@pytest.mark.parametrize(("method", "path", "body"), [*ABOUT_MERCHANTS, *OWN])
def test_nobody_gets_in_without_a_key(method, path, body, merchant):
    place = Office.base + path.format(merchant=merchant.pk, membership=make_member(merchant).pk)

    refused(getattr(Client(), method)(place, body, content_type="application/json"), 401, "not_authenticated")
