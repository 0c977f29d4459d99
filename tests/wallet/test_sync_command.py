"""`manage.py sync_passes`, as operators use it."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from loyalty.models import CardBalance
from tests.factories import NOON, make_card, make_merchant
from tests.fakes.apns import answer
from tests.wallet.syncing import cards_in_phones, change, tokens_of
from wallet.models import Breaker, Pass, SyncRun
from wallet.services.lanes import lane
from wallet.tasks import sync_passes as sync_task

pytestmark = pytest.mark.django_db


@pytest.fixture
def merchant(db):
    return make_merchant(points_expiration_days=None)


def run(*arguments):
    """What the command prints, and its exit code."""
    output = StringIO()
    try:
        call_command("sync_passes", *arguments, stdout=output)
    except SystemExit as end:
        return output.getvalue(), end.code
    return output.getvalue(), 0


def test_it_tells_what_is_due_and_says_so(apns, merchant):
    passes = cards_in_phones(merchant, 2)
    change(passes[0])

    output, code = run()

    assert code == 0
    assert output == (
        "google: no credential is active, so it is switched off.\n"
        "Examined 1 passes: 1 told, 0 unchanged, 0 deferred, 0 will be tried again, 0 given up\n"
    )
    assert SyncRun.objects.get().trigger == SyncRun.Trigger.COMMAND


def test_only_the_cards_that_are_named(apns, merchant):
    passes = cards_in_phones(merchant, 3)
    for wallet_pass in passes:
        change(wallet_pass)

    run("--card", str(passes[0].card_id), str(passes[2].card_id))

    assert sorted(push.token for push in apns.pushes) == sorted(tokens_of(passes[0]) + tokens_of(passes[2]))


def test_only_the_merchant_that_is_named(apns, merchant):
    (mine,), (theirs,) = cards_in_phones(merchant, 1), cards_in_phones(make_merchant(), 1)
    change(mine)
    change(theirs)

    run("--merchant", merchant.slug)

    assert [push.token for push in apns.pushes] == tokens_of(mine)


def test_an_unknown_merchant_is_refused_in_one_line(apns):
    with pytest.raises(CommandError, match="There is no merchant 'nobody'"):
        run("--merchant", "nobody")


def test_by_force_what_was_told_is_told_again(apns, merchant):
    cards_in_phones(merchant, 2)

    assert "Examined 0 passes" in run()[0]
    assert "2 told" in run("--force")[0]
    assert len(apns.pushes) == 2


def test_what_was_given_up_is_told_with_the_option_and_not_without(apns, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1)
    change(wallet_pass)
    tried = CardBalance.objects.get(card=wallet_pass.card_id).version
    Pass.objects.update(dead_at=NOON, last_error_code="http_400", attempts=1, tried_version=tried, tried_look=1)

    assert "Examined 0 passes" in run("--force")[0]
    assert "1 told" in run("--dead")[0]
    wallet_pass.refresh_from_db()
    assert (wallet_pass.dead_at, wallet_pass.last_error_code, wallet_pass.attempts) == (None, "", 0)


def test_failed_cards_are_named_and_the_exit_code_is_3(apns, merchant, monkeypatch):
    monkeypatch.setattr(lane, "WAIT_SECONDS", (0, 0, 0))
    (wallet_pass,) = cards_in_phones(merchant, 1)
    change(wallet_pass)
    apns.when(answer(500, "InternalServerError"), token=tokens_of(wallet_pass)[0])

    output, code = run()

    assert code == 3
    assert f"Failed cards: {wallet_pass.card_id}\n" in output


def test_an_open_breaker_is_explained_and_the_exit_code_is_1(apns, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1)
    change(wallet_pass)
    apns.when(answer(403, "InvalidProviderToken"))

    output, code = run()

    assert code == 1
    assert "apple: no calls since" in output
    assert "1 deferred" in output
    assert Breaker.objects.get().is_open


def test_json_is_the_report_that_the_task_returns(apns, merchant):
    output, _ = run("--json")

    assert json.loads(output).keys() == sync_task().keys()
    assert {"run_id", "examined", "failed_card_ids", "by_platform", "breaker", "duration_s"} <= json.loads(
        output
    ).keys()


def test_cards_without_a_pass_and_passes_that_were_given_up_are_named(apns, merchant):
    (wallet_pass,) = cards_in_phones(merchant, 1)
    Pass.objects.update(dead_at=NOON, tried_version=99, tried_look=99)

    other = make_card(merchant)

    output, code = run("--card", str(wallet_pass.card_id), other.card_number, "--force")

    assert f"Card {other.pk} has no pass.\n" in output
    assert "1 passes were given up; they are tried again when their card changes, or now with --dead.\n" in output
    assert code == 3


def test_a_card_is_named_by_the_number_that_is_printed_on_it(apns, merchant):
    mine, theirs = cards_in_phones(merchant, 2)
    for wallet_pass in (mine, theirs):
        change(wallet_pass)

    _, code = run("--card", mine.card.card_number)

    assert [push.token for push in apns.pushes] == tokens_of(mine)
    assert code == 0


@pytest.mark.parametrize("name", ["602106520045", "17", "99999999999999999999999", "nobody's"])
def test_an_unknown_card_is_refused_in_one_line(apns, name):
    with pytest.raises(CommandError, match=f"There is no card .{name}.") as error:
        run("--card", name)

    assert error.value.returncode == 2
    assert not SyncRun.objects.exists()
