"""Programs and their expiry policies in the hands of back offices, over HTTP."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Merchant, PolicyChange, Program
from tests.factories import make_cards, make_merchant
from tests.loyalty.api.offices import Office
from tests.loyalty.runs import table_hashes

pytestmark = pytest.mark.django_db
TERMS = {
    "points_expiration_days": 180,
    "expiration_warning_days": 14,
    "require_expiration_notice": True,
    "expiration_paused_until": None,
}


@pytest.fixture
def program():
    return make_merchant().program


@pytest.fixture
def office(program):
    return Office(program.merchant, role="manager")


def refused(answer, status: int, code: str, pointer: str | None = None) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    problem: dict[str, Any] = answer.json()
    return problem


def without_id(answer) -> dict[str, Any]:
    return {**answer.json(), "request_id": ""}


def make_idle_cards(program: Program, number: int = 3) -> None:
    make_cards(program.merchant, number, points=10, at=timezone.now() - timedelta(days=120))


# --- programs


def test_a_manager_gives_the_merchant_its_program_once():
    merchant = Merchant.objects.create(name="New", slug="new", currency="EUR")
    office = Office(merchant, role="manager")
    body = {
        "merchant_id": merchant.pk,
        "name": "Gold Card",
        "kind": "hybrid",
        "points_per_unit": "1.25",
        "minimum_purchase": "5.50",
        "point_value": "0.01",
        "max_daily_earns": None,
        "background_colour": "#AABBCC",
        "terms_text": "One card each.\nNo cash.",
    }

    first = office.post("programs", body, key="program-1")
    again = office.post("programs", body, key="program-1")

    assert (first.status_code, again.content) == (201, first.content)
    program = Program.objects.get()
    assert (program.points_per_unit, program.minimum_purchase_minor) == (Decimal("1.25"), 550)
    assert (program.point_value_minor, program.max_daily_earns, program.expires) == (1, None, False)
    answer = first.json()
    assert {name: answer[name] for name in body} == {**body, "points_per_unit": "1.2500"}
    assert (answer["currency"], answer["version"], answer["points_expiration_days"]) == ("EUR", 1, None)
    refused(office.post("programs", body), 409, "program_exists")


def test_amounts_are_those_of_the_currency():
    program = make_merchant(currency="JPY").program
    office = Office(program.merchant, role="manager")

    assert office.patch(f"programs/{program.pk}", {"minimum_purchase": "500"}).json()["minimum_purchase"] == "500"
    refused(
        office.patch(f"programs/{program.pk}", {"minimum_purchase": "5.5"}), 400, "invalid_amount", "/minimum_purchase"
    )
    refused(office.patch(f"programs/{program.pk}", {"point_value": "0.5"}), 400, "invalid_amount", "/point_value")


def test_a_manager_changes_what_is_sent(office, program):
    changed = office.patch(f"programs/{program.pk}", {"name": "Silver", "stamps_reward": "Tea"})

    assert changed.status_code == 200
    assert {name: changed.json()[name] for name in ("name", "stamps_reward", "version", "points_per_unit")} == {
        "name": "Silver",
        "stamps_reward": "Tea",
        "version": 2,
        "points_per_unit": "1.0000",
    }
    for body in ({}, {"name": "Silver"}, {"points_per_unit": "1"}):
        refused(office.patch(f"programs/{program.pk}", body), 409, "nothing_to_change")


def test_who_decided_on_an_older_version_is_told_so(office, program):
    office.patch(f"programs/{program.pk}", {"name": "Silver", "seen_version": 1})

    problem = refused(
        office.patch(f"programs/{program.pk}", {"name": "Tin", "seen_version": 1}), 409, "program_changed"
    )
    assert problem["details"] == {"version": 2}
    assert office.get(f"programs/{program.pk}").json()["name"] == "Silver"


@pytest.mark.parametrize(
    "name", ["points_expiration_days", "expiration_paused_until", "version", "merchant_id", "minimum_purchase_minor"]
)
def test_expiry_and_what_is_fixed_are_no_fields_of_a_change(office, program, name):
    refused(office.patch(f"programs/{program.pk}", {name: 1}), 400, "invalid_request", f"/{name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", ""),
        ("name", "x" * 81),
        ("name", None),
        ("name", 5),
        ("name", "a\x00b"),
        ("name", "\ud800"),
        ("kind", "coins"),
        ("is_active", "yes"),
        ("points_per_unit", 1.5),
        ("points_per_unit", "NaN"),
        ("points_per_unit", "-1"),
        ("points_per_unit", "1e3"),
        ("points_per_unit", "1.00001"),
        ("points_per_unit", "9999999"),
        ("points_per_unit", "١"),
        ("minimum_purchase", 5),
        ("welcome_bonus_points", 10**30),
        ("welcome_bonus_points", -1),
        ("welcome_bonus_points", "5"),
        ("max_daily_earns", 32_768),
        ("stamps_target", 0),
        ("pin_attempts", 0),
        ("void_window_hours", 40_000),
        ("terms_text", "x" * 20_001),
    ],
)
def test_a_value_of_another_form_is_refused_by_name(office, program, name, value):
    refused(office.patch(f"programs/{program.pk}", {name: value}), 400, "invalid_request", f"/{name}")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("name", "Gold\tCard", "invalid_input"),
        ("background_colour", "red", "invalid_input"),
        ("logo_url", "javascript:alert(1)", "invalid_input"),
        ("terms_url", "not an address", "invalid_input"),
        ("minimum_purchase", "-5.00", "invalid_amount"),
        ("minimum_purchase", "9" * 13, "invalid_amount"),
        ("point_value", "99999999.99", "invalid_amount"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused_by_name(office, program, name, value, code):
    refused(office.patch(f"programs/{program.pk}", {name: value}), 400, code, f"/{name}")


def test_emoji_are_text(office, program):
    assert office.patch(f"programs/{program.pk}", {"name": "☕ 👩‍🍳"}).json()["name"] == "☕ 👩‍🍳"


def test_the_list_shows_the_programs_of_the_users_merchants(office, program):
    foreign = make_merchant().program

    def shown(asker: Office, **query) -> list[int]:
        return [row["id"] for row in asker.get("programs", **query).json()["results"]]

    assert shown(office) == shown(office, merchant_id=program.merchant_id) == [program.pk]
    assert shown(Office()) == [foreign.pk, program.pk]
    assert shown(Office(), merchant_id=foreign.merchant_id) == [foreign.pk]
    refused(office.get("programs", merchant_id=foreign.merchant_id), 404, "merchant_not_found")
    refused(office.get("programs", merchant_id="x"), 400, "invalid_request")


def test_a_long_list_takes_no_more_statements(office, program):
    admin = Office()
    admin.get("programs")

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin.get("programs").status_code == 200
        return len(captured)

    one = statements()
    for _ in range(4):
        make_merchant()
    assert statements() == one


# --- policies


def test_the_policy_is_told_in_days_and_in_a_sentence(office, program):
    answer = office.get(f"programs/{program.pk}/policy").json()

    assert answer == {
        **TERMS,
        "is_paused": False,
        "sentence": "Points expire after 180 days without activity. Customers are warned 14 days before.",
        "hint": "",
        "version": 1,
    }


def test_a_preview_shows_the_impact_and_changes_nothing(office, program):
    make_idle_cards(program)
    before = table_hashes()

    answer = office.post(f"programs/{program.pk}/policy/preview", {**TERMS, "points_expiration_days": 90})

    shown = answer.json()
    assert (answer.status_code, shown["cards_past_limit"], shown["points_past_limit"], shown["warnings"]) == (
        *(200, 3, 30),
        3,
    )
    assert shown["needs_confirmation"] is True
    assert shown["first_loss_on"] == (timezone.now() + timedelta(days=15)).date().isoformat()
    assert shown["sentence"].startswith("3 cards with 30 points are past the limit today.")
    # Apart from when the key was used.
    after = table_hashes()
    assert {t: h for t, h in after.items() if "apikey" not in t} == {
        t: h for t, h in before.items() if "apikey" not in t
    }


def test_points_go_sooner_only_after_the_number_of_cards_was_confirmed(office, program):
    make_idle_cards(program)
    path, body = f"programs/{program.pk}/policy", {**TERMS, "points_expiration_days": 90, "reason": "Costs"}

    asked = refused(office.post(path, body), 409, "confirmation_required")
    refused(office.post(path, {**body, "confirmed_cards": 2}), 409, "confirmation_required")
    changed = office.post(path, {**body, "confirmed_cards": asked["details"]["impact"]["cards_past_limit"]})

    assert (changed.status_code, changed.json()["points_expiration_days"], changed.json()["version"]) == (200, 90, 2)
    kept = PolicyChange.objects.get()
    assert (kept.actor, kept.reason, kept.impact["cards_past_limit"]) == (office.user.username, "Costs", 3)


def test_a_change_of_the_policy_is_made_once(office, program):
    path, body = f"programs/{program.pk}/policy", {**TERMS, "points_expiration_days": 365, "reason": "A year"}

    first = office.post(path, body, key="policy-1")
    again = office.post(path, body, key="policy-1")

    assert (first.status_code, again.content, again.headers["Idempotency-Replayed"]) == (200, first.content, "true")
    refused(office.post(path, body), 409, "nothing_to_change")
    refused(office.post(path, {**body, "points_expiration_days": 400, "seen_version": 1}), 409, "program_changed")
    assert PolicyChange.objects.count() == 1


def test_a_policy_that_contradicts_itself_is_refused(office, program):
    terms = {**TERMS, "points_expiration_days": 10}

    for path, body in (("policy/preview", terms), ("policy", {**terms, "reason": "Costs"})):
        problem = refused(office.post(f"programs/{program.pk}/{path}", body), 422, "invalid_policy")
        assert "Choose more than 14 days" in problem["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("points_expiration_days", -1),
        ("points_expiration_days", 3651),
        ("points_expiration_days", "180"),
        ("expiration_warning_days", None),
        ("expiration_warning_days", 366),
        ("require_expiration_notice", 1),
        ("expiration_paused_until", "9999-12-31"),
        ("expiration_paused_until", "tomorrow"),
        ("confirmed_cards", 10**30),
        ("seen_version", -1),
        ("reason", ""),
        ("reason", "x" * 501),
        ("reason", None),
    ],
)
def test_terms_of_another_form_are_refused_by_name(office, program, name, value):
    body = {**TERMS, "points_expiration_days": 365, "reason": "A year", name: value}

    refused(office.post(f"programs/{program.pk}/policy", body), 400, "invalid_request", f"/{name}")


@pytest.mark.parametrize("name", [*TERMS, "reason"])
def test_all_terms_and_a_reason_are_needed(office, program, name):
    body = {**TERMS, "points_expiration_days": 365, "reason": "A year"}
    del body[name]

    refused(office.post(f"programs/{program.pk}/policy", body), 400, "invalid_request", f"/{name}")


def test_changes_are_listed_with_who_made_them(office, program):
    for days in (200, 300):
        office.post(f"programs/{program.pk}/policy", {**TERMS, "points_expiration_days": days, "reason": f"{days}"})

    listed = office.get(f"programs/{program.pk}/policy/changes").json()["results"]

    assert [change["reason"] for change in listed] == ["300", "200"]
    assert listed[1]["old_policy"] == TERMS
    assert listed[1]["new_policy"] == {**TERMS, "points_expiration_days": 200}
    assert (listed[1]["actor"], listed[1]["program_id"]) == (office.user.username, program.pk)


def test_expiry_is_paused_and_goes_on(office, program):
    make_idle_cards(program)
    until = (timezone.now() + timedelta(days=30)).date().isoformat()

    paused = office.post(f"programs/{program.pk}/pause", {"until": until, "reason": "Flood"})
    assert (paused.status_code, paused.json()["is_paused"], paused.json()["expiration_paused_until"]) == (
        *(200, True),
        until,
    )
    refused(office.post(f"programs/{program.pk}/resume", {"reason": "Dry"}), 409, "confirmation_required")
    going = office.post(f"programs/{program.pk}/resume", {"reason": "Dry", "confirmed_cards": 0})

    assert (going.status_code, going.json()["is_paused"], going.json()["expiration_paused_until"]) == (200, False, None)
    refused(office.post(f"programs/{program.pk}/resume", {"reason": "Dry"}), 409, "nothing_to_change")


def test_a_pause_that_is_over_or_endless_is_refused(office, program):
    path = f"programs/{program.pk}/pause"

    refused(office.post(path, {"until": "2026-01-01", "reason": "Flood"}), 422, "invalid_policy")
    refused(office.post(path, {"until": "2200-01-01", "reason": "Flood"}), 400, "invalid_request", "/until")
    assert office.post(path, {"until": "2199-12-31", "reason": "Flood"}).status_code == 200


def test_merchants_in_canada_are_told_of_the_notice_of_quebec(office, program):
    Merchant.objects.filter(pk=program.merchant_id).update(country="CA")
    body = {**TERMS, "points_expiration_days": 365}

    answers = [
        office.get(f"programs/{program.pk}/policy"),
        office.post(f"programs/{program.pk}/policy/preview", body),
        office.post(f"programs/{program.pk}/policy", {**body, "reason": "A year"}),
    ]

    assert ["30 to 60 days" in answer.json()["hint"] for answer in answers] == [True, True, True]


# --- who may


READS = ["", "/policy", "/policy/changes"]
CHANGES = [
    ("patch", "", {"name": "Silver"}),
    ("post", "/policy", {**TERMS, "points_expiration_days": 365, "reason": "A year"}),
    ("post", "/pause", {"until": "2190-01-01", "reason": "Flood"}),
    ("post", "/resume", {"reason": "Dry"}),
]


def test_support_reads_and_previews_and_changes_nothing(program):
    support = Office(program.merchant, role="support")

    for path in READS:
        assert support.get(f"programs/{program.pk}{path}").status_code == 200
    assert support.post(f"programs/{program.pk}/policy/preview", TERMS).status_code == 200
    for method, path, body in CHANGES:
        refused(getattr(support, method)(f"programs/{program.pk}{path}", body), 403, "permission_denied")
    body = {"merchant_id": program.merchant_id, "name": "Second"}
    refused(support.post("programs", body), 403, "permission_denied")
    program.refresh_from_db()
    assert program.version == 1


def test_a_program_of_another_merchant_is_not_known(program):
    foreign = Office(make_merchant(), role="manager")

    def answers(program_id: int) -> list[dict[str, Any]]:
        gets = [foreign.get(f"programs/{program_id}{path}") for path in READS]
        posts = [getattr(foreign, method)(f"programs/{program_id}{path}", body) for method, path, body in CHANGES]
        return [without_id(a) for a in [*gets, *posts, foreign.post(f"programs/{program_id}/policy/preview", TERMS)]]

    assert answers(program.pk) == answers(987_654_321)
    assert {answer["code"] for answer in answers(program.pk)} == {"program_not_found"}
    refused(foreign.post("programs", {"merchant_id": program.merchant_id, "name": "X"}), 404, "merchant_not_found")


def test_a_platform_admin_may_do_it_all(program):
    admin = Office()
    make_idle_cards(program)

    for method, path, body in CHANGES[:-1]:
        assert getattr(admin, method)(f"programs/{program.pk}{path}", body).status_code == 200
    program.refresh_from_db()
    assert program.expiration_paused_until == date(2190, 1, 1)
