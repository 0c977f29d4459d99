"""Google is told of a card before its customer gets there, and tells who keeps it."""

import json
import time
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Program
from tests.factories import NOON, days, give, make_card, make_merchant
from tests.fakes.google_rules import CUT
from tests.fakes.pki import ACCOUNT, ISSUER_ID
from tests.wallet.credentials import make_google_credential, shared_account
from tests.wallet.rows import make_breaker
from wallet.google import callbacks
from wallet.models import Breaker, CallbackNonce, Credential, GoogleClass, Pass
from wallet.services import link_pace
from wallet.services.claiming import LEASE
from wallet.services.links import wallet_links

pytestmark = pytest.mark.django_db
SITE = "https://loyalty.example.com"
CALLBACK = "/wallet/google/callback"


@pytest.fixture(autouse=True)
def site(wallet_settings, google, monkeypatch):
    wallet_settings.PUBLIC_URL, wallet_settings.GOOGLE_CALLBACKS = SITE, True
    callbacks._kept.clear()
    monkeypatch.setattr(link_pace, "GAP_SECONDS", 0.01)


@pytest.fixture
def card():
    return make_card(points=10, first_name="Ana")


@pytest.fixture
def link(card):
    return link_of(card)


def link_of(card):
    return str(wallet_links(card=card, at=timezone.now()).google).removeprefix(SITE)


def claims_of(answer):
    """What the customer takes to Google."""
    assert answer.status_code == 302, answer.content
    address, _, token = answer.headers["Location"].rpartition("/")
    assert address == "https://pay.google.com/gp/v/save"
    assert len(answer.headers["Location"]) <= 1800
    return json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))


def calls(google):
    return [(call.method, call.kind, call.status) for call in google.calls if call.kind in ("class", "object")]


def test_a_link_leads_to_google_which_knows_the_card_by_then(client, link, google, card):
    answer = client.get(link)

    wallet_pass = Pass.objects.get()
    assert claims_of(answer)["iss"] == ACCOUNT
    assert claims_of(answer)["origins"] == [SITE]
    ids = {"id": wallet_pass.identifier, "classId": f"{ISSUER_ID}.program-{card.program_id}"}
    assert claims_of(answer)["payload"] == {"loyaltyObjects": [ids]}
    assert google.objects[wallet_pass.identifier]["loyaltyPoints"]["balance"] == {"int": 10}
    assert google.classes.keys() == {ids["classId"]}
    assert (wallet_pass.status, wallet_pass.saved, wallet_pass.lease_until) == ("active", False, None)
    assert wallet_pass.synced_version == card.balance.version
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_pass_that_google_knows_costs_no_call(client, link, google):
    client.get(link)
    google.calls.clear()

    assert claims_of(client.get(link))
    assert calls(google) == []


def test_a_pass_that_lags_is_brought_up_to_date(client, link, google, card):
    client.get(link)
    give(card, 5, at=NOON)
    google.calls.clear()

    client.get(link)

    assert calls(google) == [("PATCH", "object", 200)]
    assert google.objects[Pass.objects.get().identifier]["loyaltyPoints"]["balance"] == {"int": 15}


def test_what_looks_the_same_costs_no_call(client, link, google):
    client.get(link)
    Program.objects.update(version=7)
    google.calls.clear()

    assert claims_of(client.get(link))
    assert calls(google) == []
    assert Pass.objects.get().synced_look == 7


def test_a_class_that_google_does_not_know_is_for_the_next_sync_to_know(client, link, google):
    client.get(link)

    assert [(row.synced_look, row.content_hash) for row in GoogleClass.objects.all()] == [(0, "")]


def test_the_link_outlives_the_key(client, link, google, google_credential):
    client.get(link)
    Credential.objects.filter(pk=google_credential.pk).update(status="previous")
    make_google_credential(shared_account(2))
    google.distrust(shared_account())
    google.trust(shared_account(2))

    assert claims_of(client.get(link))


def test_without_callbacks_who_opens_the_link_counts_as_keeping_the_pass(client, link, settings):
    settings.GOOGLE_CALLBACKS = False

    client.get(link)

    assert Pass.objects.get().saved


@pytest.mark.parametrize(
    ("answer", "retry_after"),
    [
        ({"status": 503}, "60"),
        ({"status": CUT}, "60"),
        ({"status": 403}, "60"),
        ({"status": 400}, "60"),
        ({"status": 429, "retry_after": "120"}, "120"),
        ({"status": 400, "on": "token", "reason": "invalid_grant"}, "60"),
    ],
    ids=str,
)
def test_while_google_cannot_be_told_the_customer_is_asked_for_patience(
    client, link, google, card, answer, retry_after, caplog
):
    google.when(**answer)

    refused = client.get(link)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, retry_after)
    assert b"Please open the link again a little later." in refused.content
    assert "wallet.link_failed" in caplog.text
    assert Pass.objects.get().lease_until is None
    google.behave()
    assert claims_of(client.get(link))
    assert google.objects[Pass.objects.get().identifier]["loyaltyPoints"]["balance"] == {"int": 10}


def test_a_customer_does_not_wait_for_a_google_that_hangs(client, link, google, monkeypatch):
    monkeypatch.setattr("wallet.services.saving.ANSWER_SECONDS", 0.3)
    google.when(200, delay_seconds=3)
    began = time.monotonic()

    assert client.get(link).status_code == 503
    assert time.monotonic() - began < 2


def test_while_the_breaker_is_open_nobody_calls(client, link, google, card):
    make_breaker()

    answer = client.get(link)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    assert google.calls == []


def test_what_google_knows_can_be_added_while_the_breaker_is_open(client, link, google):
    client.get(link)
    Breaker.objects.update(opened_at=NOON)

    assert claims_of(client.get(link))


def test_a_pass_that_a_sync_is_at_is_left_to_it(client, link, google, card):
    client.get(link)
    give(card, 5, at=NOON)
    Pass.objects.update(lease_until=timezone.now() + LEASE)
    google.calls.clear()

    assert claims_of(client.get(link))
    assert calls(google) == []


def test_who_comes_second_waits_for_the_first(client, link):
    client.get(link)
    Pass.objects.update(synced_at=None, synced_version=0, lease_until=timezone.now() + LEASE)

    answer = client.get(link)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")


def test_a_crash_leaves_nothing_that_counts_as_known(client, link, google, card, monkeypatch):
    client.get(link)
    give(card, 5, at=NOON)
    monkeypatch.setattr("wallet.services.claiming.settle", lambda taken, at: None)  # as if killed just before

    client.get(link)

    assert Pass.objects.get().content_hash == ""


@pytest.mark.django_db(transaction=True)
def test_many_customers_at_once_leave_google_to_the_syncs(google, monkeypatch):
    monkeypatch.setattr(link_pace, "GAP_SECONDS", 0.6)
    monkeypatch.setattr(link_pace, "PATIENCE_SECONDS", 1)
    merchant = make_merchant()
    links = [link_of(make_card(merchant)) for _ in range(5)]

    def open_link(link):
        try:
            return Client().get(link).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as threads:
        statuses = list(threads.map(open_link, links))

    assert google.most_in_a_second() <= 2
    assert set(statuses) == {302, 503}
    assert len(google.objects) == statuses.count(302)


# --- what Google says


@pytest.fixture
def wallet_pass(client, link):
    client.get(link)
    return Pass.objects.get()


def hear(client, body):
    return client.post(CALLBACK, body, content_type="application/json").status_code


def is_saved(wallet_pass):
    return Pass.objects.get(pk=wallet_pass.pk).saved


def test_who_adds_and_removes_a_pass_is_heard(client, google, wallet_pass):
    heard = []
    for event in ("save", "del", "save"):
        assert hear(client, google.callback(event, wallet_pass.identifier)) == 200
        heard.append(is_saved(wallet_pass))

    assert heard == [True, False, True]


def test_each_word_counts_once(client, google, wallet_pass):
    body = google.callback("save", wallet_pass.identifier)
    hear(client, body)
    hear(client, google.callback("del", wallet_pass.identifier))

    assert hear(client, body) == 200
    assert not is_saved(wallet_pass)
    assert CallbackNonce.objects.count() == 2


def test_a_pass_that_is_kept_is_kept_true(client, google, wallet_pass, card):
    give(card, 5, at=NOON)
    assert not Pass.objects.due(timezone.now()).exists()

    hear(client, google.callback("save", wallet_pass.identifier))

    assert Pass.objects.due(timezone.now()).get() == wallet_pass


def test_a_word_about_a_pass_that_is_not_ours_changes_nothing(client, google, wallet_pass):
    assert hear(client, google.callback("save", f"{ISSUER_ID}.unknown")) == 200
    assert not is_saved(wallet_pass)


@pytest.mark.parametrize(
    "forged", ["another key", "another issuer", "too late", "no JSON", "empty", "too long", "huge"]
)
def test_what_google_did_not_say_is_refused_before_anything_is_read(client, google, wallet_pass, forged, caplog):
    body = google.callback("save", wallet_pass.identifier)
    if forged == "another key":
        google.signer.root, google.signer.intermediate = google.signer.intermediate, google.signer.root
        body = google.callback("save", wallet_pass.identifier)
        google.signer.root, google.signer.intermediate = google.signer.intermediate, google.signer.root
    elif forged == "another issuer":
        body = google.callback("save", wallet_pass.identifier, recipient="3388000000099999999")
    elif forged == "too late":
        body = google.callback("save", wallet_pass.identifier, lasts=-days(1))
    else:
        padded = {"too long": body + b" " * 17_000, "huge": body + b" " * 1024 * 1024}
        body = {"no JSON": b"{", "empty": b"", **padded}[forged]

    with CaptureQueriesContext(connection) as queries:
        status = hear(client, body)

    assert (status, len(queries)) == (400, 0)
    assert not is_saved(wallet_pass)
    assert not CallbackNonce.objects.exists()
    assert "wallet.callback_refused" in caplog.text


def test_without_googles_keys_google_is_asked_to_say_it_again(client, google, wallet_pass):
    google.when(500, on="keys")

    assert hear(client, google.callback("save", wallet_pass.identifier)) == 503
    callbacks._kept.clear()
    google.behave()
    assert hear(client, google.callback("save", wallet_pass.identifier)) == 200


def test_a_callback_is_only_posted(client):
    assert client.get(CALLBACK).status_code == 405


def test_googles_post_needs_no_token_of_ours(google, wallet_pass):
    client = Client(enforce_csrf_checks=True)

    assert hear(client, google.callback("save", wallet_pass.identifier)) == 200
