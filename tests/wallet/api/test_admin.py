"""Wallets in the admin API: how they do, telling phones again, runs, and credentials without their secrets."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import NOON, days, give, make_card, make_merchant
from tests.fakes.pki import ISSUER_ID, PASS_TYPE
from tests.loyalty.api.offices import Office
from tests.wallet.credentials import make_google_credential, shared_account
from tests.wallet.rows import (
    make_breaker,
    make_credential,
    make_failing_pass,
    make_failure,
    make_pass,
    make_sync_run,
)
from wallet.models import Credential, Pass, Registration

pytestmark = pytest.mark.django_db
Status = Credential.Status


@pytest.fixture
def admin() -> Office:
    return Office()


def due() -> set[int]:
    return set(Pass.objects.due(NOON).values_list("pk", flat=True))


def statuses() -> dict[int, str]:
    return dict(Credential.objects.filter(kind="google").values_list("version", "status"))


# How it does


def test_without_credentials_both_platforms_are_off(admin):
    status = admin.get("wallet-status").json()

    assert (status["apple_configured"], status["google_configured"], status["last_run"]) == (False, False, None)
    nothing = {"passes_behind": 0, "passes_failing": 0, "passes_given_up": 0, "breakers": [], "credentials": []}
    assert status["apple"] == status["google"] == nothing


def test_the_status_tells_what_is_on_what_is_behind_and_why_calls_rest(admin, apple_credential, google_credential):
    behind = make_pass(platform="google")
    give(behind.card, 5, at=NOON)
    make_failing_pass(dead_at=NOON)
    make_breaker(identifier=ISSUER_ID)
    run = make_sync_run(status="partial", pushed=7)

    status = admin.get("wallet-status").json()

    assert (status["apple_configured"], status["google_configured"]) == (True, True)
    assert (status["google"]["passes_behind"], status["apple"]["passes_given_up"]) == (1, 1)
    [breaker] = status["google"]["breakers"]
    assert (breaker["identifier"], breaker["code"]) == (ISSUER_ID, "permission_denied")
    [key] = status["google"]["credentials"]
    assert (key["kind"], key["days_left"]) == ("google", None)
    assert {one["kind"] for one in status["apple"]["credentials"]} == {"apple", "wwdr"}
    assert all(one["days_left"] > 300 for one in status["apple"]["credentials"])
    assert (status["last_run"]["id"], status["last_run"]["pushed"]) == (run.pk, 7)


# Passes


def test_the_passes_of_a_card_say_what_they_show_and_what_went_wrong():
    merchant = make_merchant()
    card = make_card(merchant, points=10)
    apple = make_failing_pass(card, synced_version=1)
    make_pass(card, platform="google")
    for device in ("one", "two"):
        Registration.objects.create(wallet_pass=apple, device=device, push_token="c0ffee", registered_at=NOON)

    answer = Office(merchant, "support").get(f"cards/{card.pk}/passes")

    of_apple, of_google = answer.json()
    assert (of_apple["condition"], of_apple["version"], of_apple["card_version"]) == ("failing", 1, 2)
    assert (of_apple["last_error_code"], of_apple["attempts"], of_apple["phones"]) == ("http_503", 1, 2)
    assert (of_apple["issued_under"], of_apple["next_attempt_at"]) == (PASS_TYPE, "2026-03-02T12:00:00Z")
    assert (of_google["platform"], of_google["condition"], of_google["phones"]) == ("google", "up_to_date", 1)
    assert "c0ffee" not in answer.content.decode()


def test_a_card_without_passes_has_an_empty_list():
    merchant = make_merchant()

    assert Office(merchant, "support").get(f"cards/{make_card(merchant).pk}/passes").json() == []


def test_passes_of_one_card_and_of_a_whole_merchant_are_told_again():
    merchant = make_merchant()
    first, second = make_failing_pass(make_card(merchant), dead_at=NOON), make_pass(make_card(merchant))
    make_pass()
    manager = Office(merchant, "manager")

    one = manager.post("wallet/sync", {"merchant_id": merchant.pk, "card_ids": [first.card_id]})
    assert (one.status_code, one.json(), due()) == (202, {"passes": 1}, {first.pk})
    everything = manager.post("wallet/sync", {"merchant_id": merchant.pk})
    assert (everything.json(), due()) == ({"passes": 2}, {first.pk, second.pk})


def test_a_card_of_another_merchant_is_answered_like_none_and_nothing_is_told():
    merchant = make_merchant()
    own, foreign = make_pass(make_card(merchant)), make_pass()

    answer = Office(merchant, "manager").post(
        "wallet/sync", {"merchant_id": merchant.pk, "card_ids": [own.card_id, foreign.card_id]}
    )

    assert (answer.status_code, answer.json()["code"]) == (404, "card_not_found")
    assert due() == set()


def test_an_order_to_sync_calls_nobody(admin, apns, google):
    wallet_pass = make_pass(platform="google")

    admin.post("wallet/sync", {"merchant_id": wallet_pass.card.program.merchant_id})

    assert apns.pushes == []
    assert google.calls == []


# Runs


def test_runs_are_listed_with_the_newest_first_and_by_status(admin):
    first, second = make_sync_run(), make_sync_run(status="partial")

    assert [row["id"] for row in admin.get("wallet/sync-runs").json()["results"]] == [second.pk, first.pk]
    assert [row["id"] for row in admin.get("wallet/sync-runs", status="partial").json()["results"]] == [second.pk]


def test_a_run_names_its_failed_cards_with_the_reasons(admin):
    card, waiting = make_card(), make_card()
    run = make_sync_run(
        status="partial",
        retrying=1,
        deferred=1,
        failed_card_ids=[card.pk],
        deferred_card_ids=[waiting.pk],
        by_platform={"apple": {"status": "ran"}},
        breaker={"google": {"code": "invalid_grant"}},
    )
    make_failure(run, card)

    answer = admin.get(f"wallet/sync-runs/{run.pk}").json()

    assert (answer["failed_card_ids"], answer["deferred_card_ids"]) == ([card.pk], [waiting.pk])
    failure = {"card_id": card.pk, "platform": "apple", "code": "http_503", "reason": "Apple is busy."}
    assert answer["failures"] == [{**failure, "terminal": False}]
    assert (answer["by_platform"], answer["breaker"]) == (
        {"apple": {"status": "ran"}},
        {"google": {"code": "invalid_grant"}},
    )


def test_a_long_list_of_runs_costs_no_more_than_a_short_one(admin):
    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            admin.get("wallet/sync-runs")
        return len(captured)

    make_sync_run()
    statements()  # the key is noted as used
    with_one = statements()
    make_sync_run()
    make_sync_run()

    assert statements() == with_one


# Credentials


def test_credentials_are_listed_with_how_long_they_last_and_without_what_is_secret(
    admin, apple_credential, google_credential
):
    make_credential(sealed_secret="", secret_file="/run/secrets/google.json", valid_until=NOON - days(1))
    secrets = [apple_credential.sealed_secret, google_credential.sealed_secret]

    answer = admin.get("wallet/credentials")

    shown = {row["kind"] + row["identifier"]: row for row in answer.json()}
    apple, google = shown[f"apple{PASS_TYPE}"], shown[f"google{ISSUER_ID}"]
    assert apple["days_left"] > 300
    assert (google["days_left"], google["secret_in"], google["version"]) == (None, "database", 1)
    assert {row["secret_in"] for row in answer.json()} == {"database", "file", "nowhere"}
    text = answer.content.decode()
    assert not any(secret in text for secret in secrets)
    assert "PRIVATE KEY" not in text
    assert "CERTIFICATE" not in text


def test_a_version_is_activated_and_rolled_back_and_each_answer_says_what_is_active(admin, google):
    first = Credential.objects.get(kind="google")
    staged = make_google_credential(shared_account(), status=Status.STAGED)

    activated = admin.post(f"wallet/credentials/{staged.pk}/activate")
    assert (activated.status_code, activated.json()["version"], activated.json()["status"]) == (200, 2, "active")
    assert activated.json()["activated_by"] == admin.user.username
    assert statuses() == {1: "previous", 2: "active"}

    back = admin.post(f"wallet/credentials/{staged.pk}/rollback")
    assert (back.json()["id"], back.json()["status"]) == (first.pk, "active")
    assert statuses() == {1: "active", 2: "previous"}
    for answer in (activated, back):
        assert shared_account().decode() not in answer.content.decode()
        assert "PRIVATE" not in answer.content.decode()


def test_a_version_that_google_does_not_take_is_refused_with_the_reason(admin, google):
    staged = make_google_credential(shared_account(2), status=Status.STAGED)

    answer = admin.post(f"wallet/credentials/{staged.pk}/activate")

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "credential_not_usable")
    assert problem["details"]["code"] == "invalid_grant"
    assert statuses() == {1: "active", 2: "staged"}


def test_a_repeat_of_an_activation_calls_nobody_again(admin, google):
    staged = make_google_credential(shared_account(), status=Status.STAGED)

    first = admin.post(f"wallet/credentials/{staged.pk}/activate", key="activate-it-once")
    calls = len(google.calls)
    second = admin.post(f"wallet/credentials/{staged.pk}/activate", key="activate-it-once")

    assert json.loads(second.content) == first.json()
    assert len(google.calls) == calls


@pytest.mark.parametrize("status", [Status.STAGED, Status.PREVIOUS, Status.RETIRED, Status.REVOKED])
def test_there_is_a_way_back_from_the_active_version_alone(admin, status):
    make_credential(identifier="one", version=2)
    credential = make_credential(identifier="one", status=status)

    answer = admin.post(f"wallet/credentials/{credential.pk}/rollback")

    assert (answer.status_code, answer.json()["code"]) == (409, "credential_not_usable")
    assert "Only from the active version" in answer.json()["detail"]


def test_what_is_active_already_is_not_activated(admin):
    answer = admin.post(f"wallet/credentials/{make_credential().pk}/activate")

    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_change")
