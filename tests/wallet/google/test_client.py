"""Google's half of the retry table, over a real server."""

import asyncio
import time
from typing import Any

import pytest

from tests.fakes.google import FakeGoogle
from tests.fakes.google_rules import CUT, OK
from tests.fakes.pki import ISSUER_ID
from tests.wallet.credentials import shared_account
from tests.wallet.google.conftest import OBJECT
from tests.wallet.google.faces import CLASS_ID, class_body, object_body
from wallet.google.accounts import ServiceAccount
from wallet.google.client import GoogleWallet
from wallet.google.pacing import Pace
from wallet.outcomes import DONE, Kind


def put(points: int = 120, *, notify: bool = False, **changes: Any):
    """The question that puts an object."""
    body = object_body(OBJECT, points=points, **changes)
    return lambda google: google.put_object(OBJECT, body, class_body=class_body(), notify=notify)


def called(fake: FakeGoogle) -> list[tuple[str, str, int]]:
    return [(call.method, call.kind, call.status) for call in fake.calls]


def test_a_pass_that_google_does_not_know_is_inserted_and_its_class_first(fake, ask):
    assert ask(put()) == DONE

    assert called(fake) == [
        ("PATCH", "object", 404),
        ("POST", "object", 404),
        ("POST", "class", 200),
        ("POST", "object", 200),
    ]
    assert fake.objects[OBJECT]["loyaltyPoints"]["balance"] == {"int": 120}
    assert fake.classes[CLASS_ID]["programName"] == "Bean card"


def test_a_change_is_one_patch(fake, ask):
    ask(put())
    fake.calls.clear()

    assert ask(put(points=135)) == DONE

    assert called(fake) == [("PATCH", "object", 200)]
    assert fake.objects[OBJECT]["loyaltyPoints"]["balance"] == {"int": 135}


def test_a_known_class_is_not_told_again_with_a_new_object(fake, ask):
    ask(lambda google: google.put_class(CLASS_ID, class_body()))
    fake.calls.clear()

    ask(put())

    assert called(fake) == [("PATCH", "object", 404), ("POST", "object", 200)]


def test_a_class_is_inserted_once_and_patched_from_then_on(fake, ask):
    for name in ("Bean card", "Bean club"):
        ask(lambda google, name=name: google.put_class(CLASS_ID, class_body(card_name=name)))

    assert called(fake) == [("PATCH", "class", 404), ("POST", "class", 200), ("PATCH", "class", 200)]
    assert fake.classes[CLASS_ID]["programName"] == "Bean club"


def test_what_another_inserted_a_moment_ago_is_patched(fake, ask):
    ask(put(points=1))
    fake.calls.clear()
    fake.when(404, to=OBJECT, method="PATCH", times=1)

    assert ask(put(points=2)) == DONE

    assert called(fake) == [("PATCH", "object", 404), ("POST", "object", 409), ("PATCH", "object", 200)]
    assert fake.objects[OBJECT]["loyaltyPoints"]["balance"] == {"int": 2}


def test_two_that_insert_the_same_at_once_both_succeed(fake, account):
    async def both():
        client = GoogleWallet(url=fake.url, token_url=fake.token_url, account=account, pace=Pace(1000))
        async with client as google:
            return await asyncio.gather(put(points=5)(google), put(points=5)(google))

    assert asyncio.run(both()) == [DONE, DONE]
    assert fake.objects[OBJECT]["loyaltyPoints"]["balance"] == {"int": 5}


def test_what_a_pass_shows_no_more_is_cleared(fake, ask):
    ask(put(first_name="Ana"))
    ask(put(first_name=""))

    assert "accountName" not in fake.objects[OBJECT]


def test_bad_data_is_final_and_told_in_googles_words(fake, ask):
    fake.when(400, reason="invalidValue", message="Invalid value 'Ana' for 123456789015, q1w2e3r4t5z6u7i8o9p0aa.")

    outcome = ask(put())

    assert (outcome.kind, outcome.code) == (Kind.FINAL, "invalidValue")
    assert outcome.reason == "Invalid value '...' for ..., ...."  # no person in a log or on a screen
    assert len(fake.calls) == 1


def test_a_body_that_google_does_not_describe_is_refused_by_the_fake(fake, ask):
    body = {**object_body(OBJECT), "colour": "red"}

    outcome = ask(lambda google: google.put_object(OBJECT, body, class_body=class_body(), notify=False))

    assert outcome.kind is Kind.FINAL
    assert "LoyaltyObject.colour is unknown" in outcome.reason


def test_a_token_that_ended_early_is_renewed_once(fake, ask):
    ask(put())
    fake.end_tokens()
    fake.calls.clear()

    assert ask(put(points=2)) == DONE

    assert called(fake) == [("PATCH", "object", 401), ("PATCH", "object", 200)]
    assert len(fake.token_calls) == 2


def test_a_second_401_is_the_credentials_fault(fake, ask):
    fake.when(401)

    outcome = ask(put())

    assert (outcome.kind, outcome.code) == (Kind.CREDENTIAL, "unauthorized")
    assert (len(fake.calls), len(fake.token_calls)) == (2, 2)


def test_a_token_is_kept_from_client_to_client(fake, ask):
    ask(put())
    ask(put(points=2))

    assert len(fake.token_calls) == 1


def test_a_token_is_renewed_before_it_ends(fake, ask):
    fake.tokens.seconds = 59
    ask(put())
    ask(put(points=2))

    assert len(fake.token_calls) > 1
    assert 401 not in [call.status for call in fake.calls]


def test_a_key_that_google_does_not_take_is_the_credentials_fault(fake, ask):
    fake.distrust(shared_account())

    outcome = ask(put())

    assert (outcome.kind, outcome.code) == (Kind.CREDENTIAL, "invalid_grant")
    assert outcome.reason == "Google gave no access token: Invalid JWT: no such key."
    assert (len(fake.token_calls), fake.calls) == (1, [])


def test_a_refused_key_causes_no_storm(fake, account):
    fake.distrust(shared_account())
    fake.when(OK, on="token", delay_seconds=0.1)

    async def many():
        client = GoogleWallet(url=fake.url, token_url=fake.token_url, account=account, pace=Pace(1000))
        async with client as google:
            return await asyncio.gather(*(put()(google) for _ in range(50)))

    assert {outcome.code for outcome in asyncio.run(many())} == {"invalid_grant"}
    assert len(fake.token_calls) == 1


def test_the_assertion_is_signed_by_the_very_key(fake, pace):
    stranger = ServiceAccount(shared_account(2))

    async def asked():
        async with GoogleWallet(url=fake.url, token_url=fake.token_url, account=stranger, pace=pace) as google:
            return await google.probe(issuer_id=ISSUER_ID)

    assert asyncio.run(asked()).code == "invalid_grant"
    fake.trust(shared_account(2))
    assert asyncio.run(asked()) == DONE


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        ({"status": 503}, Kind.TROUBLE, "backendError"),
        ({"status": 400, "reason": "server_error"}, Kind.TROUBLE, "server_error"),
        ({"status": 429, "reason": "slow_down"}, Kind.THROTTLED, "slow_down"),
        ({"status": 403, "reason": "access_denied"}, Kind.CREDENTIAL, "access_denied"),
        ({"status": CUT}, Kind.TROUBLE, "connection"),
    ],
)
def test_what_the_token_endpoint_may_answer(fake, ask, answer, kind, code):
    fake.when(on="token", **answer)

    outcome = ask(put())

    assert (outcome.kind, outcome.code) == (kind, code)
    assert (len(fake.token_calls), fake.calls) == (1, [])


def test_a_token_that_takes_too_long_is_trouble(fake, ask):
    fake.when(OK, on="token", delay_seconds=0.5)

    outcome = ask(put(), timeout_seconds=0.2)

    assert (outcome.kind, outcome.code) == (Kind.TROUBLE, "timeout")


def test_the_token_endpoint_may_ask_for_time_too(fake, ask):
    fake.when(429, on="token", retry_after="9")

    assert ask(put()).retry_after_seconds == 9


def test_an_account_that_is_no_user_of_the_issuer_is_the_credentials_fault(fake, ask):
    fake.when(403)

    outcome = ask(put())

    assert (outcome.kind, outcome.code, outcome.reason) == (Kind.CREDENTIAL, "permission_denied", "Permission denied.")
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        {"status": 429},
        {"status": 403, "reason": "rateLimitExceeded"},
        {"status": 403, "reason": "quotaExceeded"},
        {"status": 403, "reason": "forbidden", "message": "Quota exceeded for issuer 1."},
    ],
)
def test_a_used_up_quota_throttles(fake, ask, pace, refusal):
    fake.when(retry_after="7", **refusal)

    outcome = ask(put())

    assert (outcome.kind, outcome.code, outcome.retry_after_seconds) == (Kind.THROTTLED, "quota_exceeded", 7)


def test_throttling_halves_the_pace_and_stops_everybody_for_a_while(fake, ask, pace):
    fake.when(429, times=1, retry_after="7")

    ask(put())

    assert pace.rate == pace.per_second / 2
    assert 6 < pace.pause_seconds <= 7


def test_a_moment_to_retry_after_is_understood(fake, ask):
    fake.when(429, retry_after=time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 90)))

    assert 85 < ask(put()).retry_after_seconds <= 90


def test_nonsense_to_retry_after_is_no_time(fake, ask):
    fake.when(429, retry_after="soon")

    assert ask(put()).retry_after_seconds == 0


def test_customers_are_notified_until_google_has_enough_and_the_change_is_made_anyway(fake, ask, pace):
    ask(put(points=0))
    fake.calls.clear()

    outcomes = [ask(put(points=points, notify=True)) for points in range(1, 6)]

    assert outcomes == [DONE] * 5
    assert [status for *_, status in called(fake)] == [200, 200, 200, 403, 200, 403, 200]
    assert fake.notified[OBJECT] == 3
    assert fake.objects[OBJECT]["loyaltyPoints"]["balance"] == {"int": 5}
    assert pace.rate == pace.per_second  # nobody was too fast


def test_a_new_pass_notifies_nobody(fake, ask):
    ask(put(notify=True))

    assert fake.notified[OBJECT] == 0
    assert "notifyPreference" not in fake.objects[OBJECT]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_trouble_of_google_is_tried_again_later(fake, ask, status):
    fake.when(status, to=OBJECT, times=1)

    outcome = ask(put())

    assert (outcome.kind, outcome.code) == (Kind.TROUBLE, f"http_{status}")
    assert len(fake.calls) == 1
    assert ask(put()) == DONE


def test_an_answer_that_takes_too_long_is_trouble(fake, ask):
    ask(put())
    fake.when(OK, to=OBJECT, delay_seconds=0.5)

    outcome = ask(put(), timeout_seconds=0.2)

    assert (outcome.kind, outcome.code) == (Kind.TROUBLE, "timeout")
    assert outcome.reason == "Google did not answer within 0.2 seconds."


def test_a_cut_connection_is_trouble(fake, ask):
    fake.when(CUT, to=OBJECT)

    assert (ask(put()).kind, ask(put()).code) == (Kind.TROUBLE, "connection")


def test_a_refused_connection_is_trouble(fake, account, pace):
    ask_nobody = GoogleWallet(url="http://127.0.0.1:9", token_url=fake.token_url, account=account, pace=pace)

    async def asked():
        async with ask_nobody as google:
            return await google.probe(issuer_id=ISSUER_ID)

    assert asyncio.run(asked()).code == "connection"


def test_an_object_that_can_be_neither_patched_nor_inserted_is_tried_again(fake, ask):
    fake.when(404, on="object")

    outcome = ask(put())

    assert (outcome.kind, outcome.code) == (Kind.TROUBLE, "http_404")


def test_an_object_whose_class_google_refuses_fails_for_the_class(fake, ask):
    fake.when(400, on="class", reason="invalidLogo", message="The logo cannot be fetched.")

    outcome = ask(put())

    assert (outcome.kind, outcome.code, outcome.reason) == (
        Kind.FINAL,
        "invalidLogo",
        "The logo cannot be fetched.",
    )


def test_a_probe_reads_what_is_not_there(fake, ask):
    assert ask(lambda google: google.probe(issuer_id=ISSUER_ID)) == DONE

    assert called(fake) == [("GET", "class", 404)]
    assert (fake.classes, fake.objects) == ({}, {})


def test_a_probe_for_somebody_elses_issuer_says_so(ask):
    outcome = ask(lambda google: google.probe(issuer_id="3388000000099999999"))

    assert (outcome.kind, outcome.code) == (Kind.CREDENTIAL, "permission_denied")
