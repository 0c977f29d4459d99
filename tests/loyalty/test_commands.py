"""The commands as operators meet them: what they print, and with which code they end."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from loyalty.models import Card, CardBalance, ExpirationRun, Transaction
from tests.factories import NOON, balance_of, days, make_card, make_cards, make_merchant, make_store
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db
LAST_DAY = NOON + days(180)
NIGHT_AFTER = NOON + days(181)


def run(*words, **options):
    """What a command prints and its exit code."""
    output = StringIO()
    try:
        call_command(*words, stdout=output, stderr=StringIO(), **options)
    except SystemExit as end:
        return output.getvalue(), end.code
    except CommandError as error:
        return str(error), error.returncode
    return output.getvalue(), 0


@pytest.fixture
def as_of_allowed(settings):
    settings.LOYALTY_ALLOW_AS_OF = True


@pytest.fixture
def warned_card():
    """A card whose points were promised to `LAST_DAY`."""
    card = make_card(points=120)
    expire(NOON + days(166))
    return card


def test_the_last_line_says_what_was_done(warned_card, as_of_allowed):
    output, code = run("expire_points", as_of=NIGHT_AFTER.isoformat())

    assert output.splitlines()[-1] == "Expired 1 cards, 120 points, 0 warnings"
    assert code == 0


def test_a_second_run_does_nothing(warned_card, as_of_allowed):
    run("expire_points", as_of=NIGHT_AFTER.isoformat())

    output, _ = run("expire_points", as_of=NIGHT_AFTER.isoformat())

    assert output.splitlines()[-1] == "Expired 0 cards, 0 points, 0 warnings"
    assert Transaction.objects.filter(type="POINTS_EXPIRED").count() == 1


def test_only_the_named_merchant_is_touched(warned_card, as_of_allowed):
    other = make_merchant()

    output, _ = run("expire_points", as_of=NIGHT_AFTER.isoformat(), merchant=other.slug)

    assert output.splitlines()[-1] == "Expired 0 cards, 0 points, 0 warnings"
    assert balance_of(warned_card).points_balance == 120


@pytest.mark.parametrize("name", ["slug", "pk"])
def test_a_merchant_is_named_by_slug_or_id(warned_card, as_of_allowed, name):
    merchant = str(getattr(warned_card.program.merchant, name))

    output, _ = run("expire_points", as_of=NIGHT_AFTER.isoformat(), merchant=merchant)

    assert output.splitlines()[-1] == "Expired 1 cards, 120 points, 0 warnings"


def test_a_dry_run_tells_the_same_and_writes_nothing(warned_card):
    before = table_hashes()

    output, code = run("expire_points", dry_run=True, as_of=NIGHT_AFTER.isoformat())

    assert output.splitlines() == ["Dry run: nothing was written.", "Expired 1 cards, 120 points, 0 warnings"]
    assert code == 0
    assert table_hashes() == before


def test_a_real_run_for_another_moment_needs_the_switch(warned_card):
    output, code = run("expire_points", as_of=NIGHT_AFTER.isoformat())

    assert "LOYALTY_ALLOW_AS_OF=1" in output
    assert code == 2
    assert balance_of(warned_card).points_balance == 120


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"merchant": "nobody"}, "There is no merchant 'nobody'."),
        ({"merchant": "99999999999999999999"}, "There is no merchant"),
        ({"merchant": "²"}, "There is no merchant"),
        ({"as_of": "yesterday", "dry_run": True}, "is not a moment such as"),
        ({"as_of": "0001-01-01T00:00:00+14:00", "dry_run": True}, "is not a moment such as"),
        ({"as_of": "9999-12-31", "dry_run": True}, "out of range"),
        ({"merchant": "caf\udcff"}, "There is no merchant"),
        ({"reason": "x" * 501}, "at most 500 characters"),
        ({"confirm": 5}, "--confirm goes with --merchant"),
        ({"without_notice": True, "reason": "x"}, "--without-notice goes with --merchant and --reason"),
        ({"without_notice": True, "merchant": "x", "reason": " "}, "--without-notice goes with"),
    ],
)
def test_a_mistyped_command_is_one_clear_line_and_exit_2(options, sentence):
    output, code = run("expire_points", **options)

    assert sentence in output
    assert "\n" not in output.strip()
    assert code == 2
    assert not ExpirationRun.objects.exists()


@pytest.mark.parametrize("words", [("--batch-size", "0"), ("--confirm", "-1"), ("--batch-size", "many"), ("--what",)])
def test_options_out_of_range_are_usage_errors(words):
    with pytest.raises(CommandError) as error:
        call_command("expire_points", *words)

    assert "number from 1 on" in str(error.value) or "unrecognized" in str(error.value)


def test_the_report_is_there_as_json(warned_card, as_of_allowed):
    output, _ = run("expire_points", as_of=NIGHT_AFTER.isoformat(), json=True)

    report = json.loads(output)
    assert (report["status"], report["cards_expired"], report["points_expired"]) == ("succeeded", 1, 120)
    assert report["run_id"] == ExpirationRun.objects.latest("pk").pk


def test_a_refused_run_prints_the_command_that_confirms_it_and_ends_with_4(settings, as_of_allowed):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 2
    merchant = make_merchant(require_expiration_notice=False)
    make_cards(merchant, 3)

    output, code = run("expire_points", as_of=NIGHT_AFTER.isoformat())

    assert f"manage.py expire_points --merchant {merchant.slug} --confirm 3" in output
    assert output.splitlines()[-1] == "Expired 0 cards, 0 points, 0 warnings"
    assert code == 4

    output, code = run("expire_points", as_of=NIGHT_AFTER.isoformat(), merchant=merchant.slug, confirm=3)

    assert output.splitlines()[-1] == "Expired 3 cards, 300 points, 0 warnings"
    assert code == 0


def test_a_refused_plain_rule_names_itself_in_the_command_that_confirms_it(settings, as_of_allowed):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 2
    merchant = make_merchant()
    make_cards(merchant, 3)
    plainly = {"merchant": merchant.slug, "without_notice": True, "reason": "moved", "as_of": NIGHT_AFTER.isoformat()}

    output, code = run("expire_points", **plainly)

    assert f"--merchant {merchant.slug} --confirm 3 --without-notice --reason TEXT" in output
    assert code == 4
    assert run("expire_points", **plainly, confirm=3)[0].splitlines()[-1] == "Expired 3 cards, 300 points, 0 warnings"


def test_a_card_that_fails_is_named_and_the_run_ends_with_3(warned_card, as_of_allowed):
    spoil(warned_card)

    output, code = run("expire_points", as_of=NIGHT_AFTER.isoformat())

    assert f"Failed cards: {warned_card.pk}" in output
    assert code == 3


def test_cards_warned_past_their_limit_are_told_of_with_the_plain_rule(as_of_allowed):
    merchant = make_merchant()
    make_cards(merchant, 2, points=50)

    output, _ = run("expire_points", as_of=(NOON + days(400)).isoformat(), merchant=merchant.slug)

    told, last = output.splitlines()
    assert told.startswith("2 cards with 100 points were past their limit and had never been warned.")
    assert f"manage.py expire_points --merchant {merchant.slug} --without-notice --reason TEXT" in told
    assert last == "Expired 0 cards, 0 points, 2 warnings"


def test_the_plain_rule_applies_once_with_a_reason(as_of_allowed):
    merchant = make_merchant()
    make_cards(merchant, 2, points=50)

    output, code = run(
        "expire_points",
        as_of=(NOON + days(400)).isoformat(),
        merchant=merchant.slug,
        without_notice=True,
        reason="migrated from the old system",
    )

    assert output.splitlines()[-1] == "Expired 2 cards, 100 points, 0 warnings"
    assert code == 0
    assert ExpirationRun.objects.latest("pk").reason == "migrated from the old system"


def test_a_merchant_without_expiry_is_said_to_have_none(as_of_allowed):
    merchant = make_merchant(points_expiration_days=None)

    output, code = run("expire_points", as_of=NIGHT_AFTER.isoformat(), merchant=merchant.slug)

    assert "no active program with expiry" in output
    assert code == 0


def test_a_run_is_given_back_once(warned_card):
    report = expire(NIGHT_AFTER)

    first, code = run("restore_expiration_run", report.run_id, reason="wrong policy")
    second, _ = run("restore_expiration_run", report.run_id, reason="wrong policy")

    assert first.strip() == "Restored 120 points on 1 cards"
    assert code == 0
    assert second.splitlines() == [
        f"Already restored: 1 cards ({warned_card.pk})",
        "Restored 0 points on 0 cards",
    ]
    assert balance_of(warned_card).points_balance == 120


def test_giving_a_run_back_skips_cards_that_are_gone_and_ends_with_3(warned_card):
    report = expire(NIGHT_AFTER)
    Card.objects.filter(pk=warned_card.pk).update(status=Card.Status.CLOSED)

    output, code = run("restore_expiration_run", report.run_id, reason="wrong policy", json=True)

    assert json.loads(output)["skipped_card_ids"] == [warned_card.pk]
    assert code == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("restore_expiration_run", 999), "There is no expiration run 999."),
        (("restore_points", "999", 5), "There is no card '999'."),
        (("restore_points", "12345678901234567890", 5), "There is no card"),
    ],
)
def test_what_is_not_there_is_one_clear_line_and_exit_2(words, sentence):
    output, code = run(*words, reason="because")

    assert sentence in output
    assert code == 2


def test_points_are_restored_by_card_number():
    card = make_card(points=10)

    output, code = run("restore_points", card.card_number, 500, reason="goodwill", confirm=500)

    assert "Restored 500 points" in output
    assert "it now holds 510" in output
    assert "Please note: 500 points have now been restored on this card, but only 0 ever expired." in output
    assert code == 0


@pytest.mark.parametrize("confirm", [None, 100])
def test_more_than_expired_is_restored_only_when_that_number_is_confirmed(confirm):
    card = make_card(points=100)
    expire(NOON + days(166))
    expire(NIGHT_AFTER)
    assert run("restore_points", str(card.pk), 100, reason="x")[1] == 0

    output, code = run("restore_points", str(card.pk), 1_000_000, reason="x", confirm=confirm)

    assert output == (
        "1,000,100 points would be restored on this card, but only 100 ever expired. A manager may give more. Nothing "
        f"was restored. If that is meant, run: manage.py restore_points {card.pk} 1000000 --reason TEXT "
        "--confirm 1000000"
    )
    assert code == 4
    assert balance_of(card).points_balance == 100


def test_restoring_by_id_answers_as_json():
    card = make_card(points=10)

    output, _ = run("restore_points", str(card.pk), 5, reason="goodwill", json=True, confirm=5)

    answer = json.loads(output)
    assert answer["points_balance"] == 15
    assert Transaction.objects.get(pk=answer["transaction"]).actor.endswith("(command line)")


@pytest.mark.parametrize(
    ("points", "reason", "sentence"),
    [
        (0, "x", "at least 1 point"),
        (-5, "x", "at least 1 point"),
        (10**30, "x", "at most"),
        (5, "  ", "give a reason"),
        (5, "x" * 501, "A reason has at most 500 characters; this one has 501."),
        (5, "\udcff", "characters that are no text"),
    ],
)
def test_restoring_nonsense_is_refused_in_words(points, reason, sentence):
    card = make_card(points=10)

    output, code = run("restore_points", card.card_number, points, reason=reason, confirm=points)

    assert sentence in output
    assert code == 2
    assert balance_of(card).points_balance == 10


def test_a_clean_ledger_is_proved():
    make_card(make_store().merchant, points=10)

    output, code = run("check_ledger")

    assert output.strip() == "Checked 1 cards and 2 transactions: 0 mismatches"
    assert code == 0


def test_a_corrupted_balance_is_named_and_the_check_ends_with_1():
    card = make_card(points=10)
    spoil(card)

    output, code = run("check_ledger")

    assert f"card {card.pk}: the balance is 11 points, the ledger adds up to 10" in output
    assert output.splitlines()[-1].endswith("1 mismatches")
    assert code == 1

    output, code = run("check_ledger", json=True)

    assert json.loads(output)["mismatched_cards"] == 1
    assert code == 1


def spoil(card):
    """Change a balance behind the ledger's back, as only the database's owner could."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE loyalty_cardbalance DISABLE TRIGGER USER")
        CardBalance.objects.filter(card=card).update(points_balance=balance_of(card).points_balance + 1)
        cursor.execute("ALTER TABLE loyalty_cardbalance ENABLE TRIGGER USER")
