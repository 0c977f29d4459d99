"""Phones hear of what has changed, once, and of nothing else."""

from collections import Counter
from datetime import timedelta

import pytest

from loyalty.services import card_status
from tests.factories import NOON, make_card, make_merchant
from tests.wallet.rows import make_pass
from tests.wallet.syncing import cards_in_phones, change, in_phone, points_at_google, sync, tokens_of, told_as_it_is
from wallet.models import Pass, Platform, Registration, SyncRun

pytestmark = pytest.mark.django_db
A_MINUTE_LATER = NOON + timedelta(minutes=1)


@pytest.fixture
def merchant(db):
    return make_merchant(points_expiration_days=None)


def put_at_google(google, passes):
    """Let Google know these passes as they are."""
    Pass.objects.filter(pk__in=[one.pk for one in passes]).update(synced_version=0)
    sync()
    google.calls.clear()


def test_one_changed_card_of_a_thousand_is_told_once_to_each_platform(apns, google, merchant):
    apple = cards_in_phones(merchant, 1000)
    changed = apple[500]
    at_google = make_pass(changed.card, platform=Platform.GOOGLE)
    put_at_google(google, [at_google])
    change(changed)

    report = sync(at=A_MINUTE_LATER)

    assert [push.token for push in apns.pushes] == tokens_of(changed)
    assert [(call.method, call.kind, call.id) for call in google.calls] == [("PATCH", "object", at_google.identifier)]
    assert points_at_google(google, changed.card) == 110
    assert (report.examined, report.pushed, report.failed_card_ids) == (2, 2, [])

    again = sync(at=A_MINUTE_LATER)

    assert (again.examined, len(apns.pushes), len(google.calls)) == (0, 1, 1)


def test_each_phone_that_has_the_pass_is_told(apns, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1)
    in_phone(wallet_pass).save()
    change(wallet_pass)

    assert sync().pushed == 1
    assert sorted(push.token for push in apns.pushes) == sorted(tokens_of(wallet_pass))
    assert {(push.topic, push.push_type, push.body) for push in apns.pushes} == {
        (wallet_pass.issued_under, "background", b"{}")
    }


def test_five_cards_in_one_phone_are_one_push(apns, merchant):
    passes = cards_in_phones(merchant, 5)
    Registration.objects.update(push_token="ab" * 32)
    for wallet_pass in passes:
        change(wallet_pass)

    assert sync().pushed == 5
    assert len(apns.pushes) == 1


def test_what_comes_and_goes_is_not_told(apns, google, merchant):
    (apple,) = cards_in_phones(merchant, 1)
    at_google = make_pass(apple.card, platform=Platform.GOOGLE)
    told_as_it_is(apple, at_google)
    change(apple, 10)
    change(apple, -10)

    report = sync()

    assert (report.examined, report.unchanged, apns.pushes, google.calls) == (2, 2, [], [])
    assert sync().examined == 0


def test_a_burst_of_changes_is_two_patches_at_most(google, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1, platform=Platform.GOOGLE)
    put_at_google(google, [wallet_pass])
    for number in range(50):
        change(wallet_pass, 1)
        if number == 25:
            sync(at=A_MINUTE_LATER)

    sync(at=A_MINUTE_LATER + timedelta(minutes=1))

    assert Counter(call.method for call in google.calls) == {"PATCH": 2}
    assert points_at_google(google, wallet_pass.card) == 150


def test_a_change_while_it_is_told_stays_due(apns, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1)
    change(wallet_pass)
    told = sync().examined

    change(wallet_pass)

    assert (told, sync(at=A_MINUTE_LATER).pushed, len(apns.pushes)) == (1, 1, 2)


def test_a_pass_that_no_phone_has_is_not_told(apns, merchant):
    wallet_pass = make_pass(make_card(merchant, points=5), synced_version=0)

    report = sync()

    assert (report.examined, report.unchanged, report.pushed) == (1, 1, 0)
    wallet_pass.refresh_from_db()
    assert wallet_pass.content_hash
    assert wallet_pass.synced_version == wallet_pass.card.balance.version


def test_objects_that_nobody_saved_are_not_told(google, merchant):
    make_pass(make_card(merchant, points=5), platform=Platform.GOOGLE, saved=False, synced_version=0)

    assert sync().examined == 0
    assert google.calls == []


def test_a_change_gets_a_later_second_and_a_higher_number(apns, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1)
    seen = []
    for _ in range(3):
        change(wallet_pass)
        sync()
        wallet_pass.refresh_from_db()
        seen.append((wallet_pass.update_seq, wallet_pass.modified_at))

    assert seen == sorted(set(seen))
    assert [moment.microsecond for _, moment in seen] == [0, 0, 0]
    assert seen[0][1] < seen[1][1] < seen[2][1]


def test_a_stopped_card_is_told_and_its_pass_is_void(apns, google, merchant):
    (apple,) = cards_in_phones(merchant, 1)
    at_google = make_pass(apple.card, platform=Platform.GOOGLE)
    card_status.suspend_card(merchant=merchant, card_id=apple.card_id, reason="lost", actor="ana", at=NOON)

    assert sync().pushed == 2
    assert google.objects[at_google.identifier]["state"] == "INACTIVE"
    assert set(Pass.objects.values_list("status", flat=True)) == {Pass.Status.VOIDED}


def test_another_name_of_the_program_is_one_patch_of_the_class(google, merchant):
    passes = cards_in_phones(merchant, 3, platform=Platform.GOOGLE)
    put_at_google(google, passes)
    program = merchant.program
    program.name, program.version = "Gold", program.version + 1
    program.save()

    report = sync(at=A_MINUTE_LATER)

    assert [(call.method, call.kind) for call in google.calls] == [("PATCH", "class")]
    assert google.calls[0].body["programName"] == "Gold"
    assert (report.examined, report.unchanged) == (3, 3)


def test_another_look_is_told_to_iphones(apns, merchant):
    cards_in_phones(merchant, 3)
    program = merchant.program
    program.background_colour, program.version = "#00ff00", program.version + 1
    program.save()

    assert sync().pushed == 3
    assert len(apns.pushes) == 3


def test_without_credentials_nothing_happens_and_the_run_says_so(db, merchant, wallet_settings):
    make_pass(make_card(merchant, points=5), synced_version=0)

    report = sync()

    assert {name: lane["status"] for name, lane in report.by_platform.items()} == {"apple": "off", "google": "off"}
    assert (report.status, report.examined) == (SyncRun.Status.SUCCEEDED, 0)


def test_no_merchant_waits_for_thousands_of_another(apns, merchant, monkeypatch):
    monkeypatch.setattr("wallet.services.claiming.LOOKED_AT_ONCE", 4)
    monkeypatch.setattr("wallet.services.lanes.lane.CLAIMED_AT_ONCE", 4)
    monkeypatch.setattr("wallet.services.lanes.room.FIRST_AT_ONCE", 1)
    many = cards_in_phones(merchant, 20)
    (one,) = cards_in_phones(make_merchant(), 1)
    for wallet_pass in [*many, one]:
        change(wallet_pass)

    assert sync().pushed == 21
    assert tokens_of(one)[0] in [push.token for push in apns.pushes[:4]]


def test_a_run_is_written_down(apns, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1)
    change(wallet_pass)

    report = sync(initiated_by="ana")

    run = SyncRun.objects.get()
    assert (run.pk, run.status, run.pushed, run.initiated_by) == (report.run_id, "succeeded", 1, "ana")
    assert run.by_platform["apple"]["pushed"] == 1
    assert run.started_at == NOON
    assert run.finished_at is not None
