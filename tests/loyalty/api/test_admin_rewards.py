"""Rewards in the hands of back offices, over HTTP."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from loyalty.models import Reward
from tests.factories import make_merchant, make_reward
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
COFFEE = {"name": "Coffee", "points_cost": 50, "stock": 12, "active_from": "2026-05-01", "active_to": None}


@pytest.fixture
def program():
    return make_merchant().program


@pytest.fixture
def office(program):
    return Office(program.merchant, role="manager")


@pytest.fixture
def reward(program):
    return make_reward(program.merchant, stock=3)


def refused(answer, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def without_id(answer) -> dict[str, Any]:
    return {**answer.json(), "request_id": ""}


def test_a_reward_is_offered_once(office, program):
    first = office.post(f"programs/{program.pk}/rewards", COFFEE, key="reward-1")
    again = office.post(f"programs/{program.pk}/rewards", COFFEE, key="reward-1")

    assert (first.status_code, again.content) == (201, first.content)
    assert first.json() == {
        **COFFEE,
        "id": Reward.objects.get().pk,
        "program_id": program.pk,
        "is_active": True,
    }


def test_what_is_not_sent_stays(office, reward):
    path = f"rewards/{reward.pk}"

    assert office.patch(path, {"points_cost": 60}).json()["stock"] == 3
    changed = office.patch(path, {"stock": None, "active_to": "2026-12-31"}).json()

    assert (changed["points_cost"], changed["stock"], changed["active_to"]) == (60, None, "2026-12-31")
    assert office.get(path).json() == changed
    for body in ({}, {"stock": None}):
        refused(office.patch(path, body), 409, "nothing_to_change")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("name", "", "invalid_request"),
        ("name", "x" * 121, "invalid_request"),
        ("name", "a\x00b", "invalid_request"),
        ("name", "a\tb", "invalid_input"),
        ("points_cost", 0, "invalid_request"),
        ("points_cost", 10**30, "invalid_request"),
        ("points_cost", "50", "invalid_request"),
        ("points_cost", None, "invalid_request"),
        ("stock", -1, "invalid_request"),
        ("stock", 1.5, "invalid_request"),
        ("active_from", "0001-01-01", "invalid_request"),
        ("active_from", "9999-12-31", "invalid_request"),
        ("active_to", "2026-04-30", "invalid_input"),
        ("is_active", 1, "invalid_request"),
        ("price", 1, "invalid_request"),
    ],
)
def test_a_reward_that_cannot_be_is_refused_by_name(office, program, name, value, code):
    refused(office.post(f"programs/{program.pk}/rewards", {**COFFEE, name: value}), 400, code, f"/{name}")
    assert not Reward.objects.exists()


def test_rewards_of_a_program_are_listed_and_cost_the_same_however_many(office, program, reward):
    make_reward(make_merchant(), name="Foreign")
    path = f"programs/{program.pk}/rewards"
    office.get(path)

    def listed(**query) -> tuple[int, list[str]]:
        with CaptureQueriesContext(connection) as captured:
            rows = office.get(path, **query).json()["results"]
        return len(captured), [row["name"] for row in rows]

    one, names = listed()
    assert names == ["Coffee"]
    for number in range(3):
        make_reward(program.merchant, name=f"R{number}", is_active=False)
    assert listed() == (one, ["R2", "R1", "R0", "Coffee"])
    assert listed(is_active="true")[1] == ["Coffee"]


def test_support_looks_and_changes_nothing(program, reward):
    support = Office(program.merchant, role="support")

    assert support.get(f"programs/{program.pk}/rewards").status_code == 200
    assert support.get(f"rewards/{reward.pk}").json()["stock"] == 3
    refused(support.post(f"programs/{program.pk}/rewards", COFFEE), 403, "permission_denied")
    refused(support.patch(f"rewards/{reward.pk}", {"stock": 1}), 403, "permission_denied")


def test_a_reward_of_another_merchant_is_not_known(program, reward):
    foreign = Office(make_merchant(), role="manager")

    def answers(program_id: int, reward_id: int) -> list[dict[str, Any]]:
        return [
            without_id(foreign.get(f"programs/{program_id}/rewards")),
            without_id(foreign.post(f"programs/{program_id}/rewards", COFFEE)),
            without_id(foreign.get(f"rewards/{reward_id}")),
            without_id(foreign.patch(f"rewards/{reward_id}", {"stock": 1})),
        ]

    assert answers(program.pk, reward.pk) == answers(987_654_321, 987_654_321)
    assert [answer["code"] for answer in answers(program.pk, reward.pk)] == [
        *["program_not_found"] * 2,
        *["reward_not_found"] * 2,
    ]


def test_a_platform_admin_may_do_it_all(program, reward):
    admin = Office()

    assert admin.post(f"programs/{program.pk}/rewards", COFFEE).status_code == 201
    assert admin.patch(f"rewards/{reward.pk}", {"is_active": False}).json()["is_active"] is False
