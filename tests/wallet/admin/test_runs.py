"""Sync runs in the admin: what each did, which cards it could not show, and why."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.factories import make_card
from tests.wallet.rows import make_device_log, make_failure, make_pass, make_sync_run
from wallet.admin.runs import SHOWN_AT_MOST
from wallet.models import DeviceLog, SyncFailure, SyncRun

pytestmark = pytest.mark.django_db
BREAKER = {"identifier": "3388", "code": "permission_denied", "reason": "The account is no user of the issuer."}
LANE = {"examined": 0, "pushed": 0, "unchanged": 0, "deferred": 0, "retrying": 0, "dead": 0}


def page(model, name: str, *args) -> str:
    return reverse(f"admin:wallet_{model._meta.model_name}_{name}", args=args)


def test_a_run_names_its_failed_cards_with_the_reasons(admin_client):
    run, busy, broken = make_sync_run(status="partial"), make_card(), make_card()
    make_failure(run, busy)
    make_failure(run, broken, platform="google", code="invalid_resource", reason="Google takes no such.", terminal=True)
    make_failure()

    answer = admin_client.get(page(SyncRun, "change", run.pk))

    shown = [(row["platform"], row["code"], row["reason"], row["what_follows"]) for row in answer.context["failures"]]
    assert shown == [
        ("Apple Wallet", "http_503", "Apple is busy.", "tried again"),
        ("Google Wallet", "invalid_resource", "Google takes no such.", "given up"),
    ]
    text = answer.content.decode()
    assert busy.card_number in text
    assert broken.card_number in text


def test_a_run_says_what_it_did_on_each_platform_and_why_calls_rested(admin_client):
    waiting = make_card()
    run = make_sync_run(
        examined=1200,
        pushed=1150,
        deferred=42,
        deferred_card_ids=[waiting.pk],
        by_platform={"apple": {**LANE, "status": "ran", "pushed": 1150}, "google": {**LANE, "status": "open"}},
        breaker={"google": BREAKER},
    )

    answer = admin_client.get(page(SyncRun, "change", run.pk))

    went = {platform["name"]: platform["status"] for platform in answer.context["platforms"]}
    assert went == {"Apple Wallet": "worked through", "Google Wallet": "calls rest"}
    assert answer.context["total"] == ["1,200", "1,150", "0", "42", "0", "0"]
    text = answer.content.decode()
    assert "Google Wallet, 3388: The account is no user of the issuer. (permission_denied)" in text
    assert waiting.card_number in text
    assert "and more" in text


def test_a_run_that_was_kept_from_its_work_says_that_calls_rest_and_not_only_that_it_succeeded(admin_client):
    run = make_sync_run(deferred=42, breaker={"google": BREAKER})

    listed = admin_client.get(page(SyncRun, "changelist")).content.decode()
    shown = admin_client.get(page(SyncRun, "change", run.pk)).content.decode()

    for text in (listed, shown):
        assert 'Succeeded</span>; <span class="status failed">calls rest</span>' in text
    assert "Calls rest (Google Wallet, permission_denied)." in shown


@pytest.mark.parametrize("fields", [{}, {"breaker": {"google": BREAKER}}, {"deferred": 1}])
def test_a_run_from_which_nothing_was_kept_says_nothing_of_rest(fields, admin_client):
    make_sync_run(**fields)

    assert "calls rest" not in admin_client.get(page(SyncRun, "changelist")).content.decode()


def test_the_problem_of_a_run_with_failures_is_the_most_frequent_one(admin_client):
    run, merchant = make_sync_run(status="partial"), make_card().program.merchant
    make_failure(run, make_card(merchant), code="bad_request")
    for _ in range(2):
        make_failure(run, make_card(merchant))
    make_failure(code="bad_request")

    assert "http_503 (2 of 3 failures)" in admin_client.get(page(SyncRun, "change", run.pk)).content.decode()


def test_a_run_with_very_many_failures_names_the_first_and_leads_to_all(admin_client):
    run, card = make_sync_run(status="partial"), make_card()
    cards = [card] + [make_card(card.program.merchant) for _ in range(SHOWN_AT_MOST)]
    for one in cards:
        make_failure(run, one)
    make_failure()

    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            answer = admin_client.get(page(SyncRun, "change", run.pk))
        assert len(answer.context["failures"]) == min(len(cards), SHOWN_AT_MOST)
        return len(captured)

    statements()  # caches of content types
    with_many = statements()
    all_of_them = admin_client.get(f"{page(SyncFailure, 'changelist')}?run={run.pk}").context["cl"]
    SyncFailure.objects.filter(run=run).exclude(card=card).delete()
    cards = [card]

    assert statements() == with_many
    assert all_of_them.result_count == SHOWN_AT_MOST + 1


def test_runs_that_found_nothing_to_do_can_be_left_out(admin_client):
    make_sync_run()
    busy, deferred = make_sync_run(examined=1), make_sync_run(deferred=1)

    answer = admin_client.get(page(SyncRun, "changelist"), {"work": "some"})

    assert set(answer.context["cl"].result_list) == {busy, deferred}


def test_a_run_that_is_still_at_it_and_one_that_crashed_can_be_read(admin_client):
    running = make_sync_run(status="running", finished_at=None)
    crashed = make_sync_run(status="failed", error="It ended with ValueError.")

    assert "still running" in admin_client.get(page(SyncRun, "change", running.pk)).content.decode()
    assert "It ended with ValueError." in admin_client.get(page(SyncRun, "change", crashed.pk)).content.decode()


@pytest.mark.parametrize("model", [SyncRun, SyncFailure, DeviceLog])
def test_what_is_of_all_merchants_is_shown_to_platform_admins_alone(model, client_for):
    card = make_card()
    make_failure(make_sync_run(), card)
    make_device_log()
    make_pass(card)
    row = model.objects.get()
    client = client_for(f"wallet.view_{model._meta.model_name}", managing=[card.program.merchant])

    assert client.get(page(model, "changelist")).status_code == 403
    assert client.get(page(model, "change", row.pk)).status_code in (302, 403)
    assert page(model, "changelist") not in client.get("/admin/").content.decode()
