"""Some cards fail, the others do not wait for them; an outage ends calls, and its end is found."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import psycopg
import pytest

from tests.factories import NOON, make_merchant
from tests.fakes.apns import CUT, answer
from tests.fakes.celery_process import database_url
from tests.fakes.pki import DAY, PASS_TYPE
from tests.wallet.credentials import make_apple_credential, shared_account, shared_identity
from tests.wallet.syncing import card_ids, cards_in_phones, change, in_phone, points_at_google, sync, tokens_of
from wallet.google.client import GoogleWallet
from wallet.models import Breaker, Credential, Pass, Platform, Registration, SyncFailure, SyncRun
from wallet.services import breaking
from wallet.services.apple_teller import AppleTeller
from wallet.services.claiming import RUNNER_LOCK, lock_name
from wallet.services.lanes import lane

pytestmark = pytest.mark.django_db
BUSY = answer(503, "ServiceUnavailable")


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.fixture
def merchant(db):
    return make_merchant(points_expiration_days=None)


@pytest.fixture
def no_waiting(monkeypatch):
    """Four attempts at once."""
    monkeypatch.setattr(lane, "WAIT_SECONDS", (0.01, 0.02, 0.03))


def changed_cards(merchant, count, *, platform=Platform.APPLE):
    passes = cards_in_phones(merchant, count, platform=platform)
    for wallet_pass in passes:
        change(wallet_pass)
    return passes


def seconds_between(moments):
    return [(second - first).total_seconds() for first, second in pairwise(moments)]


def test_seven_of_two_hundred_cards_fail_in_four_attempts_and_the_others_go_on(apns, merchant):
    passes = changed_cards(merchant, 200)
    failing = passes[3:171:28] + passes[-1:]
    for wallet_pass in failing:
        apns.when(BUSY, token=tokens_of(wallet_pass)[0])

    report = sync()

    assert report.failed_card_ids == card_ids(failing)
    assert (len(failing), report.examined, report.pushed, report.retrying) == (7, 200, 193, 7)
    for wallet_pass in failing:
        moments = [push.at for push in apns.pushes if push.token == tokens_of(wallet_pass)[0]]
        assert seconds_between(moments) == [pytest.approx(wait, abs=0.7) for wait in (1, 4, 16)]
    others = [push.at for push in apns.pushes if push.status == 200]
    assert (max(others) - apns.pushes[0].at).total_seconds() < 5

    apns.rules.clear()

    assert sync(at=later(1)).examined == 0
    assert sync(at=later(6)).pushed == 7
    assert sync(at=later(7)).examined == 0


def test_who_failed_is_written_down_with_the_reason(apns, merchant, no_waiting):
    _good, bad = changed_cards(merchant, 2)
    apns.when(BUSY, token=tokens_of(bad)[0])

    run_id = sync().run_id

    failure = SyncFailure.objects.get(run=run_id)
    assert (failure.card_id, failure.platform, failure.code, failure.terminal) == (
        bad.card_id,
        "apple",
        "ServiceUnavailable",
        False,
    )
    bad.refresh_from_db()
    assert (bad.attempts, bad.last_error_code, bad.dead_at) == (1, "ServiceUnavailable", None)
    assert later(4.5) <= bad.next_attempt_at <= later(5.6)


def test_a_card_is_given_up_after_six_runs_and_revived_by_hand(apns, merchant, no_waiting):
    (wallet_pass,) = changed_cards(merchant, 1)
    apns.when(BUSY, token=tokens_of(wallet_pass)[0])
    waits, at = [], NOON
    while not (report := sync(at=at)).dead:
        wallet_pass.refresh_from_db()
        waits.append((wallet_pass.next_attempt_at - at).total_seconds() / 60)
        at = wallet_pass.next_attempt_at + timedelta(seconds=1)

    assert waits == [pytest.approx(minutes, rel=0.12) for minutes in (5, 15, 60, 240, 720)]
    assert report.failed_card_ids == [wallet_pass.card_id]
    assert sync(at=at + timedelta(days=30)).examined == 0


def test_a_card_that_google_refuses_is_given_up_at_once_with_googles_reason(google, merchant):
    _good, bad = changed_cards(merchant, 2, platform=Platform.GOOGLE)
    google.when(400, to=bad.identifier, message="Invalid barcode value.")

    report = sync()

    assert (report.pushed, report.dead, report.failed_card_ids) == (1, 1, [bad.card_id])
    bad.refresh_from_db()
    assert bad.dead_at is not None
    assert "Invalid barcode value." in bad.last_error


def test_an_exception_that_nobody_foresaw_fails_one_card_and_gives_it_up_after_three_runs(
    google, merchant, no_waiting, monkeypatch
):
    _good, bad = changed_cards(merchant, 2, platform=Platform.GOOGLE)
    put = GoogleWallet.put_object

    async def stumbling(wallet, object_id, *args, **options):
        if object_id == bad.identifier:
            raise ZeroDivisionError
        return await put(wallet, object_id, *args, **options)

    monkeypatch.setattr(GoogleWallet, "put_object", stumbling)

    reports = [sync(at=later(minutes)) for minutes in (0, 10, 40)]

    assert [(report.pushed, report.retrying, report.dead) for report in reports] == [(1, 1, 0), (0, 1, 0), (0, 0, 1)]
    bad.refresh_from_db()
    assert bad.last_error_code == "unexpected"


def test_a_phone_that_is_gone_is_forgotten_and_the_card_is_fine(apns, merchant):
    passes = changed_cards(merchant, 3)
    in_phone(passes[0], push_token="ab" * 32).save()
    apns.when(answer(410, "Unregistered", gone_at=later(1)), token="ab" * 32)
    apns.when(answer(400, "BadDeviceToken"), token=tokens_of(passes[1])[0])

    report = sync()

    assert (report.pushed, report.failed_card_ids) == (3, [])
    assert Registration.objects.count() == 2
    assert not Registration.objects.filter(push_token="ab" * 32).exists()


def test_a_phone_that_came_back_since_it_was_gone_stays(apns, merchant):
    changed_cards(merchant, 1)
    apns.when(answer(410, "Unregistered", gone_at=NOON - timedelta(days=1)))

    assert sync().pushed == 1
    assert Registration.objects.count() == 1


def test_phones_are_not_believed_to_be_gone_when_most_are_and_a_probe_fails(apns, merchant):
    changed_cards(merchant, 12)
    apns.when(answer(403, "InvalidProviderToken"), token="0" * 64)
    apns.when(answer(400, "DeviceTokenNotForTopic"))

    report = sync()

    assert Registration.objects.count() == 12
    assert (report.pushed, report.deferred, report.failed_card_ids) == (0, 12, [])


def test_a_phone_that_is_throttled_waits_a_minute_at_least(apns, merchant):
    (wallet_pass,) = changed_cards(merchant, 1)
    apns.when(answer(429, "TooManyRequests"))

    report = sync()

    assert (report.retrying, report.failed_card_ids, len(apns.pushes)) == (1, [wallet_pass.card_id], 1)
    assert sync(at=later(1)).examined == 0


def test_an_outage_opens_the_breaker_and_its_end_is_found(apns, merchant):
    passes = changed_cards(merchant, 60)
    apns.when(BUSY)

    report = sync()

    assert (report.deferred, report.retrying, report.failed_card_ids) == (60, 0, [])
    assert report.deferred_card_ids == card_ids(passes)
    assert report.breaker["apple"]["code"] == "ServiceUnavailable"
    assert not Pass.objects.exclude(attempts=0).exists()

    apns.rules.clear()
    calls = len(apns.pushes)

    assert (sync(at=later(0.5)).deferred, len(apns.pushes)) == (60, calls)
    assert (sync(at=later(1.1)).pushed, Breaker.objects.get().is_open) == (60, False)


@pytest.mark.parametrize("fault", [BUSY, CUT], ids=["503", "cut"])
def test_an_hour_of_outage_costs_seventy_calls_at_most(apns, merchant, fault):
    changed_cards(merchant, 200)
    apns.when(fault)

    for minute in range(60):
        report = sync(at=later(minute))

    assert report.deferred == 200
    assert len(apns.pushes) <= 70

    apns.rules.clear()

    assert [sync(at=later(60 + minute)).pushed for minute in range(11)].count(200) == 1


def test_a_probe_that_finds_all_well_lets_the_run_go_on(apns, merchant, no_waiting):
    passes = changed_cards(merchant, 25)
    for wallet_pass in passes:
        apns.when(BUSY, token=tokens_of(wallet_pass)[0], times=1)
    apns.when(answer(400, "BadDeviceToken"), token="0" * 64)

    assert sync().pushed == 25


def test_few_cards_that_fail_for_long_open_no_breaker_while_apple_is_well(apns, merchant, no_waiting):
    changed_cards(merchant, 7)
    apns.when(answer(400, "BadDeviceToken"), token="0" * 64)
    apns.when(BUSY)

    reports = [sync(at=later(minutes)) for minutes in (0, 10, 30)]

    assert [report.retrying for report in reports] == [7, 7, 7]
    assert not Breaker.objects.get().is_open


def test_an_expired_certificate_makes_no_call_and_its_successor_everything_well(apns, apple_credential, merchant):
    changed_cards(merchant, 30)
    expired = apns.pki.pass_identity(at=NOON, valid=(-400 * DAY, -DAY))
    Credential.objects.filter(pk=apple_credential.pk).update(status=Credential.Status.PREVIOUS)
    bad = make_apple_credential(expired, issuer=apple_credential.issuer)

    reports = [sync(at=later(minute)) for minute in range(5)]

    assert {(report.deferred, tuple(report.failed_card_ids)) for report in reports} == {(30, ())}
    assert reports[0].breaker["apple"]["code"] == "certificate_expired"
    assert apns.pushes == []
    assert set(Pass.objects.values_list("attempts", flat=True)) == {0}

    Credential.objects.filter(pk=bad.pk).update(status=Credential.Status.RETIRED)
    make_apple_credential(shared_identity(2), issuer=apple_credential.issuer)
    breaking.close_breaker(platform="apple", identifier=bad.identifier)

    assert sync(at=later(6)).pushed == 30


def test_a_key_that_google_does_not_take_makes_no_storm(google, merchant):
    changed_cards(merchant, 50, platform=Platform.GOOGLE)
    google.distrust(shared_account())

    reports = [sync(at=later(minute)) for minute in range(60)]

    assert {(report.deferred, tuple(report.failed_card_ids)) for report in reports} == {(50, ())}
    assert reports[-1].breaker["google"]["code"] == "invalid_grant"
    assert len(google.token_calls) <= 70
    assert set(Pass.objects.values_list("attempts", flat=True)) == {0}

    google.trust(shared_account())

    assert sum(sync(at=later(60 + minute)).pushed for minute in range(11)) == 50


def test_a_credential_that_is_revoked_in_the_middle_of_a_run_fails_no_card(apns, merchant):
    changed_cards(merchant, 80)
    apns.when(answer(403, "InvalidProviderToken"), after=30)

    report = sync()

    assert report.failed_card_ids == []
    assert (report.pushed, report.deferred) == (30, 50)
    assert set(Pass.objects.values_list("attempts", flat=True)) == {0}


def test_a_card_that_google_forbids_while_all_is_well_fails_alone(google, merchant, no_waiting):
    _good, bad = changed_cards(merchant, 2, platform=Platform.GOOGLE)
    google.when(403, to=bad.identifier)

    report = sync()

    assert (report.pushed, report.failed_card_ids, report.deferred) == (1, [bad.card_id], 0)


def test_google_asks_for_a_pause_and_gets_it(google, merchant):
    passes = changed_cards(merchant, 5, platform=Platform.GOOGLE)
    google.when(429, times=1, retry_after="3")

    assert sync().pushed == 5
    refused = next(call.at for call in google.calls if call.status == 429)
    after = [call.at for call in google.calls if call.at > refused + 0.3]
    assert min(after) >= refused + 3
    assert {points_at_google(google, wallet_pass.card) for wallet_pass in passes} == {110}


def test_google_asks_for_a_long_pause_and_all_cards_wait(google, merchant):
    changed_cards(merchant, 40, platform=Platform.GOOGLE)
    google.when(429, times=1, retry_after="300")

    report = sync()

    assert (report.pushed, report.failed_card_ids) == (0, [])
    assert report.deferred == 40
    calls = len(google.calls)
    assert (sync(at=later(4)).deferred, len(google.calls)) == (40, calls)


def test_the_calls_of_a_second_are_twenty_at_most(google, merchant):
    changed_cards(merchant, 60, platform=Platform.GOOGLE)

    sync()

    statuses = Counter(call.status for call in google.calls)
    assert google.most_in_a_second() <= 20
    assert statuses[200] >= 60


def test_a_lost_answer_is_told_again_even_if_the_card_went_back(google, merchant, no_waiting, settings):
    (wallet_pass,) = changed_cards(merchant, 1, platform=Platform.GOOGLE)
    sync()
    change(wallet_pass, 50)
    google.when(0, method="PATCH")
    assert sync(at=later(1)).retrying == 1
    change(wallet_pass, -50)
    google.behave()

    assert sync(at=later(10)).pushed == 1
    assert points_at_google(google, wallet_pass.card) == 110


def test_another_run_that_is_busy_is_left_alone(apns, merchant):
    changed_cards(merchant, 1)

    with psycopg.connect(database_url(), autocommit=True) as other_process:
        name = lock_name(Platform.APPLE, PASS_TYPE)
        other_process.execute("SELECT pg_advisory_lock(%s, %s)", [RUNNER_LOCK, name])
        report = sync()

    assert (report.status, report.examined, apns.pushes) == ("skipped", 0, [])
    assert report.by_platform["apple"]["status"] == "busy"


def test_what_is_noted_of_a_failure_names_no_phone(apns, merchant, no_waiting):
    (wallet_pass,) = changed_cards(merchant, 1)
    apns.when(BUSY)
    sync()

    wallet_pass.refresh_from_db()
    assert tokens_of(wallet_pass)[0] not in wallet_pass.last_error


def test_an_outage_of_a_small_shop_is_one_too_and_costs_its_cards_nothing(apns, merchant, no_waiting):
    changed_cards(merchant, 1)
    apns.when(CUT)

    reports = [sync(at=later(minute)) for minute in range(0, 24 * 60, 7)]

    assert {(report.examined, report.deferred, tuple(report.failed_card_ids)) for report in reports} == {(1, 1, ())}
    apns.rules.clear()
    assert sum(sync(at=later(24 * 60 + minute)).pushed for minute in range(11)) == 1


@pytest.mark.parametrize("given_up", [False, True])
def test_what_changes_is_told_at_once_however_often_it_failed(apns, merchant, no_waiting, given_up):
    good, bad = changed_cards(merchant, 2)
    apns.when(BUSY, token=tokens_of(bad)[0])
    assert sync().retrying == 1
    if given_up:
        Pass.objects.filter(pk=bad.pk).update(dead_at=NOON)
    apns.rules.clear()
    assert sync(at=later(1)).examined == 0

    change(bad)

    assert sync(at=later(1)).pushed == 1
    bad.refresh_from_db()
    assert (bad.dead_at, bad.attempts) == (None, 0)
    assert good.registrations.count() == 1


def test_authorities_that_cannot_be_read_stop_apple_and_nothing_else(apns, google, merchant, settings):
    settings.APPLE_PUSH_CA_FILE = "/nowhere/root.pem"
    changed_cards(merchant, 1)
    changed_cards(merchant, 1, platform=Platform.GOOGLE)

    report = sync()

    assert (report.pushed, report.deferred) == (1, 1)
    assert "APPLE_PUSH_CA_FILE names /nowhere/root.pem" in report.breaker["apple"]["reason"]


def test_a_lane_that_breaks_leaves_the_other_alone_and_the_run_says_so(apns, google, merchant, monkeypatch):
    changed_cards(merchant, 1)
    changed_cards(merchant, 1, platform=Platform.GOOGLE)

    def break_down(teller, changed):
        raise ZeroDivisionError

    monkeypatch.setattr(AppleTeller, "calls", break_down)

    with pytest.raises(ZeroDivisionError):
        sync()

    run = SyncRun.objects.get()
    assert (run.status, run.error, run.pushed) == ("failed", "It ended with ZeroDivisionError.", 1)
    assert {name: lane["status"] for name, lane in run.by_platform.items()} == {"apple": "failed", "google": "ran"}
