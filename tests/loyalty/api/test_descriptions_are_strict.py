"""The description allows what is taken and nothing else, so that programs made from it are not refused."""

import re
from typing import Any

import pytest

from loyalty.api.operations import OPERATIONS, NoFields
from tests.factories import make_merchant
from tests.loyalty.api.described import description
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def described():
    return description()


@pytest.fixture(scope="module")
def components(described):
    return described["components"]["schemas"]


def parameters(described, path: str) -> dict[str, Any]:
    return {parameter["name"]: parameter["schema"] for parameter in described["paths"][path]["get"]["parameters"]}


def test_no_body_takes_unknown_keys(components):
    of_files = "FileIn"
    bodies = {o.body.__name__ for o in OPERATIONS.values() if o.body is not NoFields} - {of_files}

    assert len(bodies) > 20
    assert [name for name in bodies if components[name]["additionalProperties"] is not False] == []


def test_a_text_that_may_not_be_empty_has_something_in_it(components):
    reason = components["RefundIn"]["properties"]["reason"]

    assert reason["minLength"] == 1
    assert re.search(reason["pattern"], " too salty ")
    assert not any(re.search(reason["pattern"], text) for text in ("", " \t\n", "\x1f", "a\x00b"))
    assert re.search(reason["pattern"], "\x19")


def test_a_text_that_may_be_empty_has_no_nul(components):
    name = components["EnrolIn"]["properties"]["first_name"]

    assert re.search(name["pattern"], "")
    assert not re.search(name["pattern"], "a\x00b")


@pytest.mark.parametrize(
    ("body", "name", "taken", "refused"),
    [
        ("EnrolIn", "birth_date", "1900-01-31", "1899-12-31"),
        ("EarnIn", "transaction_at", "1980-01-01T00:00:00Z", "1979-12-31T23:59:59Z"),
        ("EarnIn", "transaction_at", "2199-12-31T23:59:59Z", "2200-01-01T00:00:00Z"),
    ],
)
def test_the_years_that_are_taken_are_described(components, body, name, taken, refused):
    pattern = components[body]["properties"][name]["pattern"]

    assert re.search(pattern, taken)
    assert not re.search(pattern, refused)


def test_the_years_of_queries_are_described(described):
    days = parameters(described, "/api/v1/admin/loyalty/merchants/{merchant_id}/reports/liability")

    assert re.search(days["as_of"]["pattern"], "2026-03-31")
    assert not re.search(days["as_of"]["pattern"], "9999-03-31")


def test_a_patch_says_what_it_cannot_do_without(components):
    assert components["MembershipIn"]["required"] == ["role"]
    assert "required" not in components["RewardIn"]
    assert [name for name in components if name.startswith("Patched")] == []


def test_exports_have_no_parameter_that_they_refuse(described):
    exports = parameters(described, "/api/v1/admin/loyalty/merchants/{merchant_id}/exports/cards")

    assert set(exports) == {"merchant_id", "form"}


def test_format_is_no_parameter_anywhere():
    answer = Office(make_merchant(), "manager").get("cards", format="xml")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_a_rate_has_the_digits_that_are_kept(components):
    multiplier = components["CampaignIn"]["properties"]["multiplier"]["pattern"]
    rate = components["NewProgramIn"]["properties"]["points_per_unit"]["pattern"]

    assert [bool(re.search(multiplier, text)) for text in ("1.25", "9999", "1.255", "10000")] == [
        True,
        True,
        False,
        False,
    ]
    assert [bool(re.search(rate, text)) for text in ("0.0125", "1.", "-1", "1.00001")] == [True, False, False, False]


@pytest.mark.parametrize("text", ["1.00255", "1000000", "1.", "1e2", "1.25\n", "0" * 5000])
def test_a_rate_with_other_digits_is_refused(text):
    merchant = make_merchant()
    path = f"programs/{merchant.program.pk}"

    answer = Office(merchant, "manager").patch(path, {"points_per_unit": text})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_an_import_wants_a_file(described):
    added = described["paths"]["/api/v1/admin/loyalty/merchants/{merchant_id}/imports"]["post"]["requestBody"]

    assert added["required"] is True
    assert added["content"]["text/csv"]["schema"]["minLength"] == 1


@pytest.mark.parametrize("value", [True, [], {}])
def test_an_import_takes_texts_numbers_and_null_alone(described, value):
    merchant = make_merchant()
    path = f"merchants/{merchant.pk}/imports"
    content = described["paths"]["/api/v1/admin/loyalty/merchants/{merchant_id}/imports"]["post"]["requestBody"]
    cell = content["content"]["application/json"]["schema"]["items"]["additionalProperties"]

    answer = Office(merchant, "manager").post(path, [{"external_id": "K-1", "points": value}])

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert {form["type"] for form in cell["anyOf"]} == {"string", "number"}
