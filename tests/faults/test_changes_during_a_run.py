"""What people change while a run works counts from the next chunk on."""

import threading
from collections.abc import Callable
from datetime import date, datetime

import pytest
from django.db import connection

from loyalty.models import Card, CardBalance, ExpirationRun, Merchant, Program
from loyalty.services import idle_cards, ledger, policies
from loyalty.services.idle_cards import PromisedWarning, Term
from loyalty.services.ledger import Expiry
from loyalty.services.policies import PolicyTerms
from tests.factories import NOON, balance_of, days, make_cards, make_merchant
from tests.fakes.celery_process import wait_until
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db(transaction=True)
WARNED, GONE = NOON + days(166), NOON + days(181)
CARDS = 200


def pause(merchant: Merchant, at: datetime) -> None:
    program = merchant.program
    terms = {**vars(PolicyTerms.of(program)), "expiration_paused_until": date(2027, 1, 1)}
    policies.change_policy(program_id=program.pk, terms=PolicyTerms(**terms), actor="kim", at=at)


def run_slowly(as_of: datetime, *, meanwhile: Callable[[], None]) -> tuple[int, int, int]:
    """Run card by card, do something once the first cards are done, and return the run's counts."""
    reports = []

    def work() -> None:
        try:
            reports.append(expire(as_of, batch_size=1))
        finally:
            connection.close()

    run = threading.Thread(target=work)
    run.start()
    begun = ExpirationRun.objects.filter(as_of=as_of)
    wait_until(lambda: any(run.cards_expired + run.warnings for run in begun.all()))
    meanwhile()
    run.join(60)
    return counts(reports[0])


def test_a_pause_stops_the_run_that_is_working():
    merchant = make_merchant()
    make_cards(merchant, CARDS, points=10)
    expire(WARNED)
    gone_by_then = []

    def stop() -> None:
        pause(merchant, GONE)
        gone_by_then.append(CardBalance.objects.filter(points_balance=0).count())

    expired, _, _ = run_slowly(GONE, meanwhile=stop)

    assert 0 < expired <= gone_by_then[0] + 1  # one card may have been in the middle of it
    assert CardBalance.objects.filter(points_balance=10).count() == CARDS - expired > 0


def test_a_pause_stops_the_warnings_of_the_run_that_is_working():
    merchant = make_merchant()
    make_cards(merchant, CARDS, points=10)
    warned_by_then = []

    def stop() -> None:
        pause(merchant, WARNED)
        warned_by_then.append(CardBalance.objects.filter(last_expiration_warning_at=WARNED).count())

    _, _, warned = run_slowly(WARNED, meanwhile=stop)

    assert 0 < warned <= warned_by_then[0] + 1 < CARDS
    assert CardBalance.objects.filter(last_expiration_warning_at=WARNED).count() == warned


CHANGES = [
    (Card, {"status": "suspended"}),
    (Card, {"expiration_exempt": True, "expiration_exempt_reason": "VIP"}),
    (Program, {"version": 2}),
]


@pytest.mark.parametrize(("model", "change"), CHANGES, ids=["suspended", "exempt", "another policy"])
def test_what_changed_since_it_was_decided_is_left_alone(model, change):
    [card] = make_cards(make_merchant(), 1, points=10)
    term = Term(card.program, card.program.policy, GONE.date())
    run = ExpirationRun.objects.create(trigger="command", as_of=GONE, started_at=GONE)
    [candidate] = idle_cards.read([card.pk])
    model.objects.update(**change)

    noted = idle_cards.promise([PromisedWarning(candidate, term, GONE.date())], run=run)
    expired = ledger.post_expirations([Expiry(card.pk, GONE.date(), 180, term.program.version)], run=run)

    assert (noted, expired) == ([], [])
    assert balance_of(card).points_balance == 10
    run.refresh_from_db()
    assert (run.warnings, run.cards_expired, run.points_expired) == (0, 0, 0)
