"""Campaigns in the hands of back offices, over HTTP."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from loyalty.models import Campaign
from tests.factories import NOON, days, make_merchant, make_store
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
FRIDAY = {
    "name": "Double Friday",
    "multiplier": "2.00",
    "starts_at": "2026-05-01T00:00:00+02:00",
    "ends_at": "2026-06-01T00:00:00+02:00",
    "weekdays": "5",
    "minimum_purchase": "10.00",
}


@pytest.fixture
def program():
    return make_merchant().program


@pytest.fixture
def office(program):
    return Office(program.merchant, role="manager")


@pytest.fixture
def campaign(program):
    return Campaign.objects.create(program=program, name="Spring", starts_at=NOON, ends_at=NOON + days(7))


def refused(answer, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def without_id(answer) -> dict[str, Any]:
    return {**answer.json(), "request_id": ""}


def test_a_campaign_is_planned_once(office, program):
    store = make_store(program.merchant)
    body = {**FRIDAY, "store_ids": [store.pk, store.pk], "bonus_points": 5}

    first = office.post(f"programs/{program.pk}/campaigns", body, key="campaign-1")
    again = office.post(f"programs/{program.pk}/campaigns", body, key="campaign-1")

    assert (first.status_code, again.content) == (201, first.content)
    planned = Campaign.objects.get()
    assert (planned.minimum_purchase_minor, list(planned.stores.all())) == (1000, [store])
    assert first.json() == {
        "id": planned.pk,
        "program_id": program.pk,
        **FRIDAY,
        "bonus_points": 5,
        "starts_at": "2026-04-30T22:00:00Z",
        "ends_at": "2026-05-31T22:00:00Z",
        "store_ids": [store.pk],
        "is_active": True,
    }


def test_what_is_not_sent_stays(office, campaign, program):
    stores = [make_store(program.merchant) for _ in range(2)]
    path = f"campaigns/{campaign.pk}"

    moved = office.patch(path, {"store_ids": [store.pk for store in stores]}).json()
    named = office.patch(path, {"name": "Summer", "minimum_purchase": "1.00"}).json()
    everywhere = office.patch(path, {"store_ids": []}).json()

    assert moved["store_ids"] == named["store_ids"] == [store.pk for store in stores]
    assert (named["name"], named["minimum_purchase"], everywhere["store_ids"]) == ("Summer", "1.00", [])
    assert office.get(path).json() == everywhere
    bodies: list[dict[str, Any]] = [{}, {"name": "Summer"}, {"store_ids": []}, {"minimum_purchase": "1"}]
    for body in bodies:
        refused(office.patch(path, body), 409, "nothing_to_change")


def test_a_store_of_another_merchant_is_not_known(office, campaign, program):
    foreign = make_store()
    for store_id in (foreign.pk, 987_654_321):
        body = {**FRIDAY, "store_ids": [store_id]}
        refused(office.post(f"programs/{program.pk}/campaigns", body), 404, "store_not_found")
        refused(office.patch(f"campaigns/{campaign.pk}", {"store_ids": [store_id]}), 404, "store_not_found")
    assert Campaign.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("ends_at", "2026-05-01T00:00:00+02:00", "invalid_input"),
        ("ends_at", "2026-05-01", "invalid_request"),
        ("ends_at", "9999-12-31T23:59:59Z", "invalid_request"),
        ("starts_at", None, "invalid_request"),
        ("multiplier", "0.99", "invalid_request"),
        ("multiplier", "10000.00", "invalid_request"),
        ("multiplier", 2, "invalid_request"),
        ("bonus_points", -1, "invalid_request"),
        ("weekdays", "8", "invalid_input"),
        ("weekdays", "55", "invalid_input"),
        ("weekdays", "12345671", "invalid_request"),
        ("minimum_purchase", "1.001", "invalid_amount"),
        ("minimum_purchase", "9" * 30, "invalid_amount"),
        ("name", "", "invalid_request"),
        ("name", "a\x00b", "invalid_request"),
        ("name", "a\nb", "invalid_input"),
        ("store_ids", [0], "invalid_request"),
        ("store_ids", "3", "invalid_request"),
        ("store_ids", [3] * 1001, "invalid_request"),
    ],
)
def test_a_campaign_that_cannot_be_is_refused_by_name(office, program, name, value, code):
    answer = office.post(f"programs/{program.pk}/campaigns", {**FRIDAY, name: value})

    pointer = f"/{name}/0" if value == [0] else f"/{name}"
    refused(answer, 400, code, pointer)
    assert not Campaign.objects.exists()


def test_a_list_of_a_hundred_thousand_stores_is_refused(office, program):
    refused(
        office.post(f"programs/{program.pk}/campaigns", {**FRIDAY, "store_ids": list(range(1, 100_001))}),
        400,
        "invalid_request",
        "/store_ids",
    )


def test_the_end_is_compared_with_the_beginning_that_is_there(office, campaign):
    refused(office.patch(f"campaigns/{campaign.pk}", {"ends_at": NOON.isoformat()}), 400, "invalid_input", "/ends_at")


def test_campaigns_of_a_program_are_listed_and_cost_the_same_however_many(office, program, campaign):
    Campaign.objects.create(program=make_merchant().program, name="Foreign", starts_at=NOON, ends_at=NOON + days(1))
    path = f"programs/{program.pk}/campaigns"
    office.get(path)

    def listed(**query) -> tuple[int, list[str]]:
        with CaptureQueriesContext(connection) as captured:
            rows = office.get(path, **query).json()["results"]
        return len(captured), [row["name"] for row in rows]

    one, names = listed()
    assert names == ["Spring"]
    store = make_store(program.merchant)
    for number in range(4):
        more = Campaign.objects.create(
            program=program, name=f"C{number}", starts_at=NOON, ends_at=NOON + days(1), is_active=False
        )
        more.stores.add(store)
    assert listed() == (one, ["C3", "C2", "C1", "C0", "Spring"])
    assert listed(is_active="true")[1] == ["Spring"]


def test_support_looks_and_changes_nothing(program, campaign):
    support = Office(program.merchant, role="support")

    assert support.get(f"programs/{program.pk}/campaigns").status_code == 200
    assert support.get(f"campaigns/{campaign.pk}").status_code == 200
    refused(support.post(f"programs/{program.pk}/campaigns", FRIDAY), 403, "permission_denied")
    refused(support.patch(f"campaigns/{campaign.pk}", {"name": "X"}), 403, "permission_denied")


def test_a_campaign_of_another_merchant_is_not_known(program, campaign):
    foreign = Office(make_merchant(), role="manager")

    def answers(program_id: int, campaign_id: int) -> list[dict[str, Any]]:
        return [
            without_id(foreign.get(f"programs/{program_id}/campaigns")),
            without_id(foreign.post(f"programs/{program_id}/campaigns", FRIDAY)),
            without_id(foreign.get(f"campaigns/{campaign_id}")),
            without_id(foreign.patch(f"campaigns/{campaign_id}", {"name": "X"})),
        ]

    assert answers(program.pk, campaign.pk) == answers(987_654_321, 987_654_321)
    assert [answer["code"] for answer in answers(program.pk, campaign.pk)] == [
        *["program_not_found"] * 2,
        *["campaign_not_found"] * 2,
    ]


def test_a_platform_admin_may_do_it_all(program, campaign):
    admin = Office()

    assert admin.post(f"programs/{program.pk}/campaigns", FRIDAY).status_code == 201
    assert admin.patch(f"campaigns/{campaign.pk}", {"is_active": False}).json()["is_active"] is False
