"""Every code of docs/api.md is answered by the APIs, and every code that they can answer stands there."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIRequestFactory

import wallet.api  # noqa: F401  brings its codes along
from loyalty import errors
from loyalty.api.problems import PROBLEMS
from loyalty.api.views import StoreView
from loyalty.models import Card, ExpirationRun, IdempotencyKey, Program, Store, Transaction
from loyalty.services import earning, enrolment, privacy, staff
from loyalty.services.enrolment import Person
from notifications.models import Message
from tests.factories import NOON, make_card, make_reward, make_store
from tests.loyalty.api.described import UNKNOWN, World
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db
PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"
Scenario = Callable[[World], Any]
SCENARIOS: dict[str, Scenario] = {}


def answers(scenario: Scenario) -> Scenario:
    """Note the function as what is answered with the code of its name."""
    SCENARIOS[scenario.__name__] = scenario
    return scenario


def rules(world: World, **changed: Any) -> None:
    Program.objects.filter(merchant=world.merchant).update(**changed)


def earn(world: World, amount: str = "10.00", key: str | None = "new", **body: Any) -> Any:
    return world.till.post(f"cards/{world.card.pk}/earn", {"amount": amount, **body}, key=key)


def redeem(world: World, **body: Any) -> Any:
    return world.till.post(f"cards/{world.card.pk}/redeem", body)


def void(world: World, transaction_id: int, till: Till | None = None) -> Any:
    return (till or world.till).post(f"transactions/{transaction_id}/void", {"reason": "wrong"})


def of_card(world: World, action: str, **body: Any) -> Any:
    return world.manager.post(f"cards/{world.card.pk}/{action}", {"reason": "because", **body})


def unknown(kind: str) -> Scenario:
    return lambda world: world.manager.get(f"{kind}/{UNKNOWN}")


# --- the protocol


@answers
def invalid_request(world):
    return earn(world, surprise=1)


@answers
def malformed_json(world):
    return world.till.client.post(
        f"{Till.base}cards/1/earn", "{", content_type="application/json", headers=world.till.headers
    )


@answers
def body_too_large(world):
    return earn(world, receipt_number="x" * 2_000_000)


@answers
def unsupported_media_type(world):
    return world.till.client.post(
        f"{Till.base}cards/1/earn", "x", content_type="text/plain", headers=world.till.headers
    )


@answers
def not_acceptable(world):
    return world.till.client.get(f"{Till.base}program", headers={**world.till.headers, "Accept": "image/png"})


@answers
def not_authenticated(world):
    return Client().get(f"{Till.base}program")


@answers
def invalid_api_key(world):
    return Client().get(f"{Till.base}program", headers={"Authorization": "Api-Key nonsense"})


@answers
def invalid_staff_session(world):
    return Client().get(f"{Till.base}program", headers={**world.till.headers, "X-Staff-Session": "nonsense"})


@answers
def staff_session_required(world):
    return world.till.get("reports/cohorts")


@answers
def store_not_active(world):
    Store.objects.filter(pk=world.store.pk).update(is_active=False)
    return world.till.get("program")


@answers
def permission_denied(world):
    return world.support.post(f"cards/{world.card.pk}/adjust", {"points": 1, "reason": "no"})


@answers
def not_found(world):
    return world.till.get("nothing")


@answers
def method_not_allowed(world):
    return world.till.delete("program")


@answers
def idempotency_key_required(world):
    return earn(world, key=None)


@answers
def secret_shown_once(world):
    for _ in range(2):
        answer = world.manager.post(f"stores/{world.store.pk}/keys", {"label": "Till 9"}, key="issue-me-a-key")
    return answer


@answers
def throttled(world):
    Store.objects.filter(pk=world.store.pk).update(throttle_factor=1)
    cache.clear()
    till = Till(world.store)
    for _ in range(21):
        answer = void(world, UNKNOWN, till)
    return answer


@answers
def idempotency_key_reused(world):
    earn(world, key="same-key")
    return earn(world, amount="11.00", key="same-key")


@answers
def idempotency_key_expired(world):
    earn(world, key="same-key")
    IdempotencyKey.objects.all().delete()
    return earn(world, key="same-key")


# --- at the till


@answers
def invalid_amount(world):
    return earn(world, amount="12,99")


@answers
def invalid_input(world):
    return redeem(world)


@answers
def card_not_found(world):
    return world.till.post("cards/lookup", {"q": "nobody@example.com"}, key=None)


@answers
def card_not_active(world):
    Card.objects.filter(pk=world.card.pk).update(status="suspended")
    return earn(world)


@answers
def card_of_another_store(world):
    rules(world, allow_cross_store=False)
    return earn(world)


@answers
def not_in_this_program(world):
    rules(world, kind="stamps")
    return earn(world)


@answers
def below_minimum_purchase(world):
    rules(world, minimum_purchase_minor=5000)
    return earn(world)


@answers
def receipt_required(world):
    rules(world, require_receipt_number=True)
    return earn(world)


@answers
def duplicate_receipt(world):
    earn(world, receipt_number="R1")
    return earn(world, receipt_number="R1")


@answers
def daily_limit_reached(world):
    rules(world, max_daily_earns=1)
    earn(world)
    return earn(world)


@answers
def moment_not_accepted(world):
    return earn(world, transaction_at="2020-01-01T00:00:00Z")


@answers
def insufficient_points(world):
    return redeem(world, points=100_000)


@answers
def below_minimum_redemption(world):
    rules(world, minimum_redemption_points=50)
    return redeem(world, points=1)


@answers
def reward_not_available(world):
    return redeem(world, reward_id=UNKNOWN)


@answers
def out_of_stock(world):
    return redeem(world, reward_id=make_reward(world.merchant, stock=0).pk)


@answers
def stamp_cooldown(world):
    for _ in range(2):
        answer = world.till.post(f"cards/{world.card.pk}/stamps")
    return answer


@answers
def daily_stamps_reached(world):
    rules(world, cooldown_minutes=0, max_daily_stamps=1)
    for _ in range(2):
        answer = world.till.post(f"cards/{world.card.pk}/stamps")
    return answer


@answers
def not_enough_stamps(world):
    return world.till.post(f"cards/{world.card.pk}/stamps/redeem")


@answers
def already_enrolled(world):
    return world.till.post("cards", {"email": world.card.customer.email, "accepts_terms": True})


@answers
def terms_not_accepted(world):
    return world.till.post("cards", {"accepts_terms": False})


@answers
def conflicting_customer(world):
    for person in (Person(email="one@example.com"), Person(phone="+352621999999")):
        enrolment.enrol(merchant=world.merchant, person=person, at=NOON)
    return world.till.post("cards", {"email": "one@example.com", "phone": "+352621999999", "accepts_terms": True})


@answers
def enrolment_closed(world):
    rules(world, is_active=False)
    return world.till.post("cards", {"accepts_terms": True})


@answers
def transaction_not_found(world):
    return void(world, UNKNOWN)


@answers
def not_voidable(world):
    return void(world, Transaction.objects.get(card=world.card, seq=1).pk)


@answers
def already_voided(world):
    sale = earn(world).json()["id"]
    void(world, sale)
    return void(world, sale)


@answers
def void_not_allowed(world):
    rules(world, allow_void=False)
    return void(world, earn(world).json()["id"])


@answers
def void_window_passed(world):
    at = timezone.now() - timedelta(days=9)
    row = earning.earn(store=world.store, card_id=world.card.pk, amount_minor=1000, at=at)
    return void(world, row.pk)


@answers
def points_already_spent(world):
    rules(world, refund_policy="block")
    sale = earn(world, amount="900.00").json()["id"]
    redeem(world, points=1000)
    return void(world, sale)


@answers
def refund_exceeds_purchase(world):
    sale = earn(world).json()["id"]
    return world.till.post(f"transactions/{sale}/refund", {"amount": "10.01", "reason": "returned"})


def sign_in(world: World, pin: str, staff_member_id: int | None = None) -> Any:
    number = staff_member_id or world.id_of("staff_member_id")
    return world.till.post("staff/sessions", {"staff_member_id": number, "pin": pin})


@answers
def staff_member_not_found(world):
    return sign_in(world, "000000", UNKNOWN)


@answers
def staff_pins_disabled(world):
    rules(world, staff_pin_policy="disabled")
    return sign_in(world, "000000")


@answers
def invalid_pin(world):
    return sign_in(world, "000000")


@answers
def pin_locked(world):
    rules(world, pin_attempts=1)
    for _ in range(2):
        answer = sign_in(world, "000000")
    return answer


@answers
def staff_session_not_found(world):
    other = Till(make_store(world.merchant))
    other.sign_in()
    # Signed out between the check of the header and the closing: the session of another store is none here.
    token = other.headers["X-Staff-Session"]
    with pytest.raises(errors.StaffSessionNotFound):
        staff.close_session(store=world.store, token=token, at=timezone.now())
    return _as_answer(errors.StaffSessionNotFound("This session is over."))


# --- in the back office


SCENARIOS["merchant_not_found"] = unknown("merchants")
SCENARIOS["store_not_found"] = unknown("stores")
SCENARIOS["program_not_found"] = unknown("programs")
SCENARIOS["campaign_not_found"] = unknown("campaigns")
SCENARIOS["reward_not_found"] = unknown("rewards")
SCENARIOS["customer_not_found"] = unknown("customers")
SCENARIOS["run_not_found"] = unknown("expiration-runs")
SCENARIOS["message_not_found"] = unknown("messages")


@answers
def membership_not_found(world):
    return world.manager.delete(f"memberships/{UNKNOWN}")


@answers
def key_not_found(world):
    return world.manager.post(f"stores/{world.store.pk}/keys/{UNKNOWN}/revoke")


@answers
def merchant_exists(world):
    body = {"name": "Again", "slug": world.merchant.slug, "currency": "EUR", "timezone": "UTC"}
    return world.admin.post("merchants", body)


@answers
def currency_fixed(world):
    return world.manager.patch(f"merchants/{world.merchant.pk}", {"currency": "USD"})


@answers
def store_exists(world):
    body = {"name": "Again", "code": world.store.code}
    return world.manager.post(f"merchants/{world.merchant.pk}/stores", body)


@answers
def program_exists(world):
    return world.manager.post("programs", {"merchant_id": world.merchant.pk, "name": "Second"})


@answers
def program_changed(world):
    body = {"welcome_bonus_points": 9, "seen_version": 77}
    return world.manager.patch(f"programs/{world.id_of('program_id')}", body)


@answers
def nothing_to_change(world):
    return of_card(world, "end-exemption")


@answers
def more_than_expired(world):
    return world.support.post(f"cards/{world.card.pk}/restore-points", {"points": 5, "reason": "nice"})


@answers
def reason_required(world):
    return _as_answer(errors.ReasonRequired("Please give a reason; it is kept with the change."))


@answers
def card_changed(world):
    return of_card(world, "adjust", points=1, seen_version=0)


@answers
def contact_taken(world):
    make_card(world.merchant, email="taken@example.com")
    return world.manager.patch(f"customers/{world.card.customer_id}", {"email": "taken@example.com"})


@answers
def already_erased(world):
    customer = world.card.customer_id
    privacy.erase_customer(merchant=world.merchant, customer_id=customer, reason="asked", actor="a", at=NOON)
    return world.manager.patch(f"customers/{customer}", {"first_name": "Ana"})


def terms(days: int | None, warning: int) -> dict[str, Any]:
    return {
        "points_expiration_days": days,
        "expiration_warning_days": warning,
        "require_expiration_notice": True,
        "expiration_paused_until": None,
        "reason": "tighter",
    }


@answers
def invalid_policy(world):
    return world.manager.post(f"programs/{world.id_of('program_id')}/policy", terms(10, 14))


@answers
def confirmation_required(world):
    return world.manager.post(f"programs/{world.id_of('program_id')}/policy", terms(30, 14))


@answers
def run_not_finished(world):
    ExpirationRun.objects.filter(pk=world.id_of("run_id")).update(status="running", finished_at=None)
    return world.manager.post(f"expiration-runs/{world.id_of('run_id')}/restore", {"reason": "mistake"})


@answers
def import_refused(world):
    path = f"{Office.base}merchants/{world.merchant.pk}/imports"
    return world.manager.client.post(
        path, "external_id,points\nK1,ten\n", content_type="text/csv", headers=world.manager.headers
    )


@answers
def message_already_waiting(world):
    for _ in range(2):
        answer = world.manager.post(f"messages/{world.id_of('message_id')}/send-again")
    return answer


@answers
def message_has_no_address(world):
    make_card(world.merchant, email="")
    message = Message.objects.filter(scope=str(world.merchant.pk), status="undeliverable").latest("pk")
    return world.manager.post(f"messages/{message.pk}/send-again")


@answers
def message_erased(world):
    privacy.erase_customer(
        merchant=world.merchant, customer_id=world.card.customer_id, reason="asked", actor="a", at=NOON
    )
    message = Message.objects.filter(reference=str(world.card.pk)).latest("pk")
    return world.manager.post(f"messages/{message.pk}/send-again")


def add_member(world: World, username: str) -> Any:
    return world.manager.post(f"merchants/{world.merchant.pk}/memberships", {"username": username, "role": "support"})


@answers
def user_not_found(world):
    return add_member(world, "nobody")


@answers
def already_member(world):
    return add_member(world, world.support.user.username)


@answers
def own_membership(world):
    mine = world.manager.get(f"merchants/{world.merchant.pk}/memberships").json()["results"]
    [own] = [row for row in mine if row["username"] == world.manager.user.username]
    return world.manager.delete(f"memberships/{own['id']}")


# --- wallets


@answers
def credential_not_found(world):
    return world.admin.post(f"wallet/credentials/{UNKNOWN}/activate")


@answers
def credential_not_usable(world):
    return world.admin.post(f"wallet/credentials/{world.ids['credential_id']}/activate")


@answers
def sync_run_not_found(world):
    return world.admin.get(f"wallet/sync-runs/{UNKNOWN}")


def _as_answer(refusal: Exception) -> Any:
    """What the handler makes of a refusal that the checks before it leave nobody to provoke."""

    class Refusing(StoreView):
        def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
            raise refusal

        def get(self, request: Any) -> None: ...

    answer = Refusing.as_view()(APIRequestFactory().get("/"))
    answer.render()
    return SimpleNamespace(json=lambda: answer.data, status_code=answer.status_code, headers=answer.headers)


@answers
def card_busy(world):
    busy = OperationalError("canceling statement due to lock timeout")
    busy.__cause__ = type("LockNotAvailable", (Exception,), {"sqlstate": "55P03"})()
    return _as_answer(busy)


@answers
def server_error(world):
    world.till.client.raise_request_exception = False
    return _as_answer(ZeroDivisionError("a bug"))


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_a_code_is_answered_as_documented(code):
    world = World()

    answer = SCENARIOS[code](world)

    problem = answer.json()
    assert problem["code"] == code, problem
    assert answer.status_code == problem["status"] == PROBLEMS[code].status
    assert problem["type"].endswith(f"#{code}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["detail"].endswith((".", ")"))
    if answer.status_code == 429 or code in ("card_busy", "pin_locked"):
        assert int(answer.headers["Retry-After"]) >= 1


def test_the_page_lists_each_code_with_its_status():
    listed = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert {code: int(status) for status, code in listed} == {p.code: p.status for p in PROBLEMS.values()}
    assert set(SCENARIOS) == set(PROBLEMS)


def test_every_refusal_of_a_verb_has_a_status():
    kinds = errors.LoyaltyError.__subclasses__()
    kinds += [deeper for kind in kinds for deeper in kind.__subclasses__()]
    # An app above gives a status to what its operations refuse, and has refusals for other doors too.
    own = {kind("x").code for kind in kinds if kind.__module__ == errors.__name__}
    assert own <= set(PROBLEMS)


def test_the_explanations_of_all_codes_can_be_read(client):
    page = client.get("/docs/problems").content.decode()
    assert all(f'id="{code}"' in page for code in PROBLEMS)
