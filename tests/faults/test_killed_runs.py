"""A run that dies leaves whole chunks, and the next one finishes without a human."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection, transaction

from loyalty.models import CardBalance, ExpirationRun, Transaction
from loyalty.services.ledger_check import check_ledger
from notifications.models import Message
from tests.factories import NOON, days, make_cards, make_merchant
from tests.fakes.celery_process import broker, wait_until
from tests.faults.expiry_process import ExpiryProcess, wait_until_nobody_else_is_connected
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db(transaction=True)
CARDS, CHUNK = 1500, 5
WARNED, GONE = NOON + days(166), NOON + days(181)


@pytest.fixture(autouse=True)
def due_cards():
    make_cards(make_merchant(), CARDS, points=10)
    expire(WARNED)
    yield
    with broker() as client:  # the wake-up for a sender that does not run here
        client.delete("notifications")


def rows_and_messages() -> tuple[int, int]:
    expired = Transaction.objects.filter(type="POINTS_EXPIRED").values("card").distinct().count()
    return expired, Message.objects.filter(kind="loyalty_points_expired").count()


def assert_each_card_expired_once() -> None:
    assert rows_and_messages() == (CARDS, CARDS)
    assert Transaction.objects.filter(type="POINTS_EXPIRED").count() == CARDS
    assert not CardBalance.objects.filter(points_balance__gt=0).exists()
    assert check_ledger().mismatches == []


def test_a_killed_run_leaves_whole_chunks_and_the_next_run_finishes():
    with ExpiryProcess(GONE, batch_size=CHUNK) as run:
        run.wait_for_progress()
        run.kill()
    wait_until_nobody_else_is_connected()
    killed = ExpirationRun.objects.get(as_of=GONE)
    assert (killed.status, killed.finished_at) == ("running", None)
    assert 0 < killed.cards_expired < CARDS
    assert killed.cards_expired % CHUNK == 0
    assert rows_and_messages() == (killed.cards_expired, killed.cards_expired)

    report = expire(GONE)

    killed.refresh_from_db()
    assert (killed.status, killed.error) == ("failed", "The process ended before the run did.")
    assert killed.finished_at is not None
    assert counts(report) == (CARDS - killed.cards_expired, 10 * (CARDS - killed.cards_expired), 0)
    assert_each_card_expired_once()


def test_a_run_that_still_works_is_not_taken_for_dead():
    with ExpiryProcess(GONE, batch_size=CHUNK) as run:
        run.wait_for_progress()
        expire(NOON)
        working = ExpirationRun.objects.get(as_of=GONE)
        assert run.is_running()
        assert working.status == "running"
        code, output, errors = run.end()

    assert (code, errors) == (0, "")
    assert output.splitlines()[-1] == f"Expired {CARDS} cards, {10 * CARDS} points, 0 warnings"
    working.refresh_from_db()
    assert working.status == "succeeded"


def test_an_interrupted_run_says_that_it_failed():
    with ExpiryProcess(GONE, batch_size=CHUNK) as run:
        run.wait_for_progress()
        run.interrupt()
        code, _, errors = run.end()

    interrupted = ExpirationRun.objects.get(as_of=GONE)
    assert code != 0
    assert "IntegrityError" not in errors
    assert rows_and_messages() == (interrupted.cards_expired, interrupted.cards_expired)
    wait_until_nobody_else_is_connected()
    assert expire(GONE).tally.cards_expired == CARDS - interrupted.cards_expired
    interrupted.refresh_from_db()
    assert interrupted.status == "failed"
    # In the middle of a commit nothing more can be written; then the next run says it.
    assert interrupted.error in ("KeyboardInterrupt: ", "The process ended before the run did.")
    assert interrupted.finished_at is not None


def test_a_run_that_loses_its_connection_goes_on_with_another_and_is_not_taken_for_dead():
    with ExpiryProcess(GONE, batch_size=CHUNK) as run:
        run.wait_for_progress()
        cut_other_connections()
        run.wait_for_progress(cards=ExpirationRun.objects.get(as_of=GONE).cards_expired + 10 * CHUNK)
        expire(NOON)
        cut = ExpirationRun.objects.get(as_of=GONE)
        assert (cut.status, run.is_running()) == ("running", True)
        code, _, _ = run.end()

    cut.refresh_from_db()
    assert (code, cut.status, cut.failed_card_ids) == (0, "succeeded", [])
    assert cut.cards_expired == CARDS
    assert_each_card_expired_once()


def test_a_run_whose_database_goes_away_ends_and_the_next_one_finishes():
    with ExpiryProcess(GONE, batch_size=CHUNK) as run:
        run.wait_for_progress()
        with database_away():
            code, _, errors = run.end()

    away = ExpirationRun.objects.get(as_of=GONE)
    assert (code, away.status) == (1, "running")
    assert "cannot be reached" in errors
    assert rows_and_messages() == (away.cards_expired, away.cards_expired)

    expire(GONE)

    away.refresh_from_db()
    assert away.status == "failed"
    assert_each_card_expired_once()


@contextmanager
def database_away() -> Iterator[None]:
    allow_connections(False)
    try:
        cut_other_connections()
        yield
    finally:
        allow_connections(True)


def allow_connections(allowed: bool) -> None:
    parameters = {**connection.get_connection_params(), "dbname": "postgres"}
    with psycopg.connect(**parameters, autocommit=True) as session:
        session.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} ALLOW_CONNECTIONS {allowed}")


def cut_other_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_run_that_was_killed_before_its_first_chunk_took_nothing():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE loyalty_cardbalance IN ACCESS EXCLUSIVE MODE")
        with ExpiryProcess(GONE) as run:
            wait_for_a_running_row(run)
            run.kill()
    wait_until_nobody_else_is_connected()

    assert expire(GONE).tally.cards_expired == CARDS
    assert list(ExpirationRun.objects.filter(as_of=GONE).order_by("pk").values_list("status", "cards_expired")) == [
        ("failed", 0),
        ("succeeded", CARDS),
    ]


def wait_for_a_running_row(run: ExpiryProcess) -> None:
    wait_until(lambda: ExpirationRun.objects.filter(status="running").exists(), seconds=60)
    assert run.is_running()
