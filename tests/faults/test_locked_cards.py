"""A card that somebody is working on is left alone, and never forgotten."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection

from loyalty.models import Card, ExpirationRun
from loyalty.services import earning
from tests.factories import NOON, balance_of, days, make_cards, make_merchant, make_store
from tests.fakes.celery_process import wait_until
from tests.loyalty.runs import counts, expire, row_of

pytestmark = pytest.mark.django_db(transaction=True)
WARNED, GONE = NOON + days(166), NOON + days(181)


@contextmanager
def locked_by_somebody_else(card: Card) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**connection.get_connection_params()) as somebody:
        somebody.execute("SELECT FROM loyalty_cardbalance WHERE card_id = %s FOR NO KEY UPDATE", [card.pk])
        yield somebody


def test_a_locked_card_is_counted_and_taken_by_the_next_run():
    cards = make_cards(make_merchant(), 5, points=10)
    expire(WARNED)
    with locked_by_somebody_else(cards[2]):
        report = expire(GONE, batch_size=2)

    assert (report.status, report.skipped_locked, counts(report)) == ("succeeded", 1, (4, 40, 0))
    assert row_of(report).skipped_locked == 1
    assert balance_of(cards[2]).points_balance == 10

    assert counts(expire(GONE)) == (1, 10, 0)


def test_a_locked_card_is_not_warned_and_so_not_expired():
    cards = make_cards(make_merchant(), 3, points=10)
    with locked_by_somebody_else(cards[1]):
        assert expire(GONE).tally.warnings == 2

    assert balance_of(cards[1]).last_expiration_warning_at is None
    assert expire(GONE).tally.warnings == 1


def test_a_card_that_is_free_again_before_the_end_is_taken_in_a_second_pass():
    cards = make_cards(make_merchant(), 200, points=10)
    expire(WARNED)
    reports = []

    def work() -> None:
        try:
            reports.append(expire(GONE, batch_size=1))
        finally:
            connection.close()

    with locked_by_somebody_else(cards[0]) as somebody:
        run = threading.Thread(target=work)
        run.start()
        wait_until(lambda: ExpirationRun.objects.filter(cards_expired__gt=0).exists())
        somebody.rollback()
        run.join(60)

    assert counts(reports[0]) == (200, 2000, 0)
    assert reports[0].skipped_locked == 0


def test_an_activity_that_is_committed_before_the_lock_saves_the_card():
    merchant = make_merchant()
    cards = make_cards(merchant, 200, points=10)
    store = make_store(merchant)
    expire(WARNED)
    reports = []

    def work() -> None:
        try:
            reports.append(expire(GONE, batch_size=1))
        finally:
            connection.close()

    run = threading.Thread(target=work)
    run.start()
    wait_until(lambda: ExpirationRun.objects.filter(cards_expired__gt=0).exists())
    earning.earn(store=store, card_id=cards[-1].pk, amount_minor=100, at=GONE)
    run.join(60)

    saved = balance_of(cards[-1]).points_balance == 11
    assert reports[0].tally.cards_expired == (199 if saved else 200)
    assert balance_of(cards[-1]).points_balance in (1, 11)
