"""Merchants in the hands of back offices, over HTTP."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from loyalty.models import Membership, Merchant, MerchantChange, Program
from tests.factories import make_card, make_merchant
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db
BAKERY = {"name": "Bakery", "slug": "bakery", "timezone": "Europe/Luxembourg", "currency": "EUR"}
WHY = {"reason": "Closed for renovation"}


@pytest.fixture
def merchant():
    return make_merchant()


def refused(answer, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def without_id(answer) -> dict[str, object]:
    return {**answer.json(), "request_id": ""}


def test_a_platform_admin_takes_in_a_merchant_once():
    office = Office()
    body = {**BAKERY, "country": "LU", "locale": "fr", "support_email": "hello@bakery.example"}

    first = office.post("merchants", body, key="bakery-1")
    again = office.post("merchants", body, key="bakery-1")

    merchant = Merchant.objects.get()
    answer = first.json()
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert answer.pop("created_at").startswith("20")
    assert answer == {"id": merchant.pk, "is_active": True, **body}
    assert not Program.objects.exists()


def test_the_least_that_is_said_of_a_merchant():
    answer = Office().post("merchants", BAKERY).json()

    assert (answer["country"], answer["locale"], answer["support_email"]) == ("", "en", "")


def test_a_slug_that_is_taken_is_refused():
    office = Office()
    office.post("merchants", BAKERY)

    refused(office.post("merchants", BAKERY), 409, "merchant_exists")
    assert Merchant.objects.count() == 1


@pytest.mark.parametrize("role", ["manager", "support"])
def test_only_platform_admins_take_in_merchants(role, merchant):
    refused(Office(merchant, role=role).post("merchants", BAKERY), 403, "permission_denied")
    assert Merchant.objects.get() == merchant


@pytest.mark.parametrize("role", ["manager", "support"])
def test_members_see_their_merchants_and_no_others(role, merchant):
    other = make_merchant()
    office = Office(merchant, role=role)

    assert [row["id"] for row in office.get("merchants").json()["results"]] == [merchant.pk]
    assert office.get(f"merchants/{merchant.pk}").json()["slug"] == merchant.slug
    foreign, unknown = office.get(f"merchants/{other.pk}"), office.get("merchants/999999999")
    refused(foreign, 404, "merchant_not_found")
    assert without_id(foreign) == without_id(unknown)


def test_a_user_without_a_membership_sees_no_merchant(merchant):
    office = Office(merchant, role="support")
    Membership.objects.all().delete()

    assert office.get("merchants").json()["results"] == []
    refused(office.get(f"merchants/{merchant.pk}"), 404, "merchant_not_found")


def test_merchants_are_listed_newest_first_and_filtered():
    for slug in ("north", "north-east", "south"):
        Merchant.objects.create(name=slug, slug=slug, currency="EUR", is_active=slug != "north")
    office = Office()

    def slugs(**query: str) -> list[str]:
        return [row["slug"] for row in office.get("merchants", **query).json()["results"]]

    assert slugs() == ["south", "north-east", "north"]
    assert slugs(slug="north") == ["north-east", "north"]
    assert slugs(slug="%") == []
    assert slugs(is_active="false") == ["north"]
    assert slugs(is_active="true", slug="n") == ["north-east"]
    assert slugs(limit="1") == ["south"]


def test_a_long_list_costs_no_more_statements():
    office = Office()
    costs = []
    for number in (1, 49):
        for _ in range(number):
            make_merchant()
        office.get("merchants")
        with CaptureQueriesContext(connection) as captured:
            assert len(office.get("merchants").json()["results"]) in (1, 50)
        costs.append(len(captured))

    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "query",
    [
        {"is_active": "perhaps"},
        {"slug": "x" * 61},
        {"slug": "nul\x00"},
        {"name": "Bakery"},
        {"limit": "0"},
        {"slug": ""},
    ],
)
def test_a_query_that_means_nothing_is_refused(query):
    refused(Office().get("merchants", **query), 400, "invalid_request", f"/{next(iter(query))}")


def test_a_manager_changes_what_is_sent(merchant):
    office = Office(merchant, role="manager")
    body = {"name": "Bakery & Sons", "timezone": "Europe/Paris", "country": "FR", "support_email": ""}

    first = office.patch(f"merchants/{merchant.pk}", body, key="change-1")
    again = office.patch(f"merchants/{merchant.pk}", body, key="change-1")

    assert (first.status_code, again.content) == (200, first.content)
    assert {name: first.json()[name] for name in body} == body
    assert first.json()["slug"] == merchant.slug
    merchant.refresh_from_db()
    assert (merchant.name, merchant.currency) == ("Bakery & Sons", "EUR")


def test_a_change_that_changes_nothing_is_refused(merchant):
    office = Office(merchant, role="manager")

    for body in ({}, {"name": merchant.name}):
        refused(office.patch(f"merchants/{merchant.pk}", body), 409, "nothing_to_change")


def test_the_currency_is_fixed_once_there_is_a_transaction(merchant):
    office = Office(merchant, role="manager")
    assert office.patch(f"merchants/{merchant.pk}", {"currency": "CHF"}).json()["currency"] == "CHF"
    make_card(merchant)

    refused(office.patch(f"merchants/{merchant.pk}", {"currency": "EUR"}), 409, "currency_fixed", "/currency")
    merchant.refresh_from_db()
    assert merchant.currency == "CHF"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"slug": "other"}, "invalid_request"),
        ({"is_active": False}, "invalid_request"),
        ({"name": None}, "invalid_request"),
        ({"name": 5}, "invalid_request"),
        ({"name": ""}, "invalid_request"),
        ({"name": "x" * 121}, "invalid_request"),
        ({"name": "nul\x00"}, "invalid_request"),
        ({"name": "\ud800"}, "invalid_request"),
        ({"timezone": ["UTC"]}, "invalid_request"),
        ({"timezone": "Mars/Olympus"}, "invalid_input"),
        ({"timezone": "../../etc/passwd"}, "invalid_input"),
        ({"currency": "XXQ"}, "invalid_input"),
        ({"country": "😀"}, "invalid_input"),
        ({"locale": "no language"}, "invalid_input"),
        ({"support_email": "nobody"}, "invalid_input"),
        ({"name": "two\nlines"}, "invalid_input"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(body, code, merchant):
    before = Merchant.objects.values().get()

    answer = Office(merchant, role="manager").patch(f"merchants/{merchant.pk}", body)

    refused(answer, 400, code, f"/{next(iter(body))}")
    assert Merchant.objects.values().get() == before


@pytest.mark.parametrize("missing", sorted(BAKERY))
def test_what_a_merchant_needs_is_asked_for(missing):
    body = {name: value for name, value in BAKERY.items() if name != missing}

    refused(Office().post("merchants", body), 400, "invalid_request", f"/{missing}")


def test_a_name_may_hold_an_emoji(merchant):
    answer = Office(merchant, role="manager").patch(f"merchants/{merchant.pk}", {"name": "Café 😀"})

    assert answer.json()["name"] == "Café 😀"


def test_a_merchant_is_switched_off_and_on(merchant):
    till, office = Till(staff_pin_policy="optional"), None
    merchant = till.merchant
    office = Office(merchant, role="manager")
    card = make_card(merchant)

    off = office.post(f"merchants/{merchant.pk}/deactivate", WHY, key="switch-off-1")
    again = office.post(f"merchants/{merchant.pk}/deactivate", WHY, key="switch-off-1")
    assert (off.status_code, off.json()["is_active"], again.content) == (200, False, off.content)
    refused(till.post(f"cards/{card.pk}/earn", {"amount": "5.00"}), 403, "store_not_active")
    refused(office.post(f"merchants/{merchant.pk}/deactivate", WHY), 409, "nothing_to_change")

    on = office.post(f"merchants/{merchant.pk}/restore", {"reason": "Open again"})
    assert (on.status_code, on.json()["is_active"]) == (200, True)
    assert till.post(f"cards/{card.pk}/earn", {"amount": "5.00"}).status_code == 201
    refused(office.post(f"merchants/{merchant.pk}/restore", WHY), 409, "nothing_to_change")

    changes = MerchantChange.objects.order_by("pk").values_list("is_active", "reason", "actor")
    name = office.user.get_username()
    assert list(changes) == [(False, "Closed for renovation", name), (True, "Open again", name)]


@pytest.mark.parametrize("verb", ["deactivate", "restore"])
@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": None}, {"reason": "x" * 501}])
def test_who_switches_a_merchant_says_why(verb, body, merchant):
    refused(Office().post(f"merchants/{merchant.pk}/{verb}", body), 400, "invalid_request", "/reason")
    assert not MerchantChange.objects.exists()


CHANGES = [
    ("patch", "merchants/{}", {"name": "Mine"}),
    ("post", "merchants/{}/deactivate", WHY),
    ("post", "merchants/{}/restore", WHY),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_support_reads_and_changes_nothing(method, path, body, merchant):
    answer = getattr(Office(merchant, role="support"), method)(path.format(merchant.pk), body)

    refused(answer, 403, "permission_denied")
    assert Merchant.objects.get().name == merchant.name


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_a_merchant_of_others_is_not_known(method, path, body, merchant):
    send = getattr(Office(make_merchant(), role="manager"), method)

    foreign, unknown = send(path.format(merchant.pk), body), send(path.format(999_999_999), body)

    refused(foreign, 404, "merchant_not_found")
    assert without_id(foreign) == without_id(unknown)


@pytest.mark.parametrize(
    ("method", "path", "body"), [*CHANGES, ("get", "merchants/{}", None), ("get", "merchants", None)]
)
def test_nobody_gets_in_without_a_key(method, path, body, merchant):
    answer = getattr(Client(), method)(Office.base + path.format(merchant.pk), body, content_type="application/json")

    refused(answer, 401, "not_authenticated")
