"""Commands for somebody on call: what happened, why a card holds what it holds, and the few things to put right."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from structlog.testing import capture_logs

from loyalty.management.base import actor
from loyalty.models import ExpirationRun, Transaction
from loyalty.services.ledger_check import check_ledger
from tests.factories import NOON, balance_of, days, give, make_card, make_cards, make_merchant
from tests.loyalty.runs import expire, row_of
from tests.loyalty.test_commands import run, spoil
from tests.loyalty.test_ledger_check import corrupt

pytestmark = pytest.mark.django_db
REASON = {"reason": "ticket 17"}


class TestExpirationRuns:
    def test_are_listed_newest_first(self):
        make_card(points=120)
        first, second = (row_of(expire(NOON + days(number))).pk for number in (166, 181))

        output, code = run("expiration_runs")

        assert code == 0
        assert [line.split()[1] for line in output.splitlines()] == [str(second), str(first)]
        assert "all merchants  succeeded  1 cards, 120 points, 0 warnings, 0 failed" in output.splitlines()[0]

    def test_one_tells_the_cards_that_failed_and_why_it_was_run(self):
        merchant = make_merchant()
        run_of_one = row_of(expire(NOON, merchant=merchant, reason="as agreed", without_notice=True))
        ExpirationRun.objects.filter(pk=run_of_one.pk).update(failed_card_ids=[17, 18], failed=2, error="Why not.")

        output, code = run("expiration_runs", str(run_of_one.pk))

        assert code == 0
        assert merchant.slug in output
        assert output.splitlines()[-3:] == ["Reason: as agreed", "Failed cards: 17, 18", "Why not."]

    @pytest.mark.parametrize("last", ["0", "-3", "many"])
    def test_at_least_one_is_asked_for(self, last):
        assert f"'{last}' is not a number from 1 on" in run("expiration_runs", f"--last={last}")[0]

    def test_that_there_are_none_is_said(self):
        assert run("expiration_runs") == ("There is no expiration run yet.\n", 0)

    def test_one_that_is_unknown_is_said_to_be(self):
        assert run("expiration_runs", "17") == ("There is no expiration run 17.", 2)


class TestExplainCard:
    def test_tells_what_it_holds_until_when_and_its_rows(self):
        card = make_card(points=120, at=timezone.now())

        output, code = run("explain_card", card.card_number)

        assert code == 0
        assert output.startswith(f"Card {card.pk}, number {card.card_number}, of {card.program.merchant.slug}.\n")
        assert "The card holds 120 points." in output
        assert "The points can be used to the end of" in output
        assert "+120 = 120" in output.splitlines()[-2]

    def test_takes_as_many_rows_as_are_asked_for(self):
        card = make_card(points=120)

        assert "transaction" not in run("explain_card", str(card.pk), rows=0)[0]


class TestPauseExpiry:
    def test_holds_everything_up_to_the_day(self):
        merchant = make_merchant()
        until = timezone.now().date() + timedelta(days=7)

        output, code = run("pause_expiry", merchant.slug, until=str(until), **REASON)

        assert (output, code) == (f"Expiry of {merchant.slug} is paused until the end of {until}.\n", 0)
        merchant.program.refresh_from_db()
        assert merchant.program.expiration_paused_until == until

    def test_says_that_it_is_paused_already(self):
        merchant = make_merchant()
        until = str(timezone.now().date() + timedelta(days=7))
        run("pause_expiry", merchant.slug, until=until, **REASON)

        output, code = run("pause_expiry", merchant.slug, until=until, **REASON)

        assert (output, code) == (f"Expiry of {merchant.slug} is paused until {until} already.\n", 0)

    def test_ends_earlier_only_when_what_that_means_was_confirmed(self):
        merchant, today = make_merchant(), timezone.now().date()
        make_cards(merchant, 3, at=timezone.now() - timedelta(days=200))
        run("pause_expiry", merchant.slug, until=str(today + timedelta(days=7)), **REASON)
        earlier = {"until": str(today + timedelta(days=1)), **REASON}

        output, code = run("pause_expiry", merchant.slug, **earlier)

        assert output.startswith("Please confirm: ")
        assert output.endswith(
            f"Nothing was changed. If that is meant, run: manage.py pause_expiry {merchant.slug} "
            f"--until {earlier['until']} --reason TEXT --confirm 3"
        )
        assert code == 4
        assert run("pause_expiry", merchant.slug, **earlier, confirm=2)[1] == 4
        assert run("pause_expiry", merchant.slug, **earlier, confirm=3)[1] == 0

    @pytest.mark.parametrize(
        ("until", "says"), [("soon", "'soon' is not a date"), ("2020-01-01", "A pause ends today")]
    )
    def test_needs_a_day_that_is_to_come(self, until, says):
        output, code = run("pause_expiry", make_merchant().slug, until=until, **REASON)

        assert says in output
        assert code == 2


class TestAdjustPoints:
    @pytest.mark.parametrize(("points", "holds"), [("20", 120), ("-20", 80)])
    def test_gives_and_takes_by_a_row_of_the_ledger(self, points, holds):
        card = make_card(points=100)

        output, code = run("adjust_points", str(card.pk), points, **REASON)

        row = Transaction.objects.order_by("-pk")[0]
        assert code == 0
        assert output == (
            f"Adjusted card {card.card_number} by {int(points):+} points; it now holds {holds}. Transaction {row.pk}.\n"
        )
        assert (row.type, row.reason) == ("ADMIN_ADJUSTMENT", "ticket 17")

    def test_takes_no_more_than_there_is(self):
        card = make_card(points=10)

        assert run("adjust_points", str(card.pk), "-20", **REASON)[1] == 2
        assert balance_of(card).points_balance == 10

    def test_moves_no_card_whose_balance_is_not_what_its_ledger_says(self):
        card = make_card(points=10)
        spoil(card)

        output, code = run("adjust_points", str(card.pk), "20", **REASON)

        assert output.startswith(f"Card {card.pk} cannot move: its balance is not what its ledger says.")
        assert code == 1


class TestMendBalance:
    def test_sets_it_to_what_the_ledger_says_and_phones_are_told(self):
        card = make_card(points=10)
        version = balance_of(card).version
        spoil(card)

        with capture_logs() as logs:
            output, code = run("mend_balance", str(card.pk), **REASON)

        assert [event["actor"] for event in logs if event["event"] == "loyalty.balance_mended"] == [actor()]
        assert (output, code) == (
            f"The balance of card {card.pk} is 10 points and 0 stamps, as its ledger says.\n",
            0,
        )
        assert balance_of(card).version > version
        assert check_ledger().mismatches == []

    def test_leaves_a_right_one_alone(self):
        card = make_card(points=10)

        output, code = run("mend_balance", str(card.pk), **REASON)

        assert "is what its ledger says. Nothing was done." in output
        assert code == 2

    def test_believes_no_ledger_that_is_broken(self):
        card = make_card(points=10)
        break_ledger(card)

        output, code = run("mend_balance", str(card.pk), **REASON)

        assert "does not continue the one before it" in output
        assert code == 2

    def test_takes_no_points_whose_last_row_is_gone(self):
        card = make_card(points=10)
        give(card, 20, at=NOON)
        corrupt("DELETE FROM loyalty_transaction WHERE card_id = %s AND seq = 3", card.pk)

        output, code = run("mend_balance", str(card.pk), **REASON)

        assert output == (
            f"The balance of card {card.pk} knows row 3 as the last, but its ledger ends at row 2: rows are missing at "
            "its end."
        )
        assert (code, balance_of(card).points_balance) == (2, 30)

    def test_brings_an_old_balance_up_to_its_ledger(self):
        card = make_card(points=10)
        give(card, 20, at=NOON)
        corrupt("UPDATE loyalty_cardbalance SET points_balance = 10, last_seq = 2 WHERE card_id = %s", card.pk)

        _, code = run("mend_balance", str(card.pk), **REASON)

        assert (code, balance_of(card).points_balance, balance_of(card).last_seq) == (0, 30, 3)

    def test_makes_no_balance_where_none_is(self):
        card = make_card(points=10)
        corrupt("DELETE FROM loyalty_cardbalance WHERE card_id = %s", card.pk)

        output, code = run("mend_balance", str(card.pk), **REASON)

        assert output == f"Card {card.pk} has no balance that could be mended: its row is missing."
        assert code == 2


def test_a_card_without_a_balance_is_explained_by_its_rows():
    card = make_card(points=10)
    corrupt("DELETE FROM loyalty_cardbalance WHERE card_id = %s", card.pk)

    output, code = run("explain_card", str(card.pk))

    assert code == 0
    assert output.splitlines()[1].startswith("The card has no balance, which is a fault of the database")
    assert "+10 = 10" in output


def break_ledger(card):
    """Change a row of the ledger, as only the database's owner could."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE loyalty_transaction DISABLE TRIGGER USER")
        cursor.execute("UPDATE loyalty_transaction SET points_delta = 9 WHERE card_id = %s AND seq = 2", [card.pk])
        cursor.execute("ALTER TABLE loyalty_transaction ENABLE TRIGGER USER")
