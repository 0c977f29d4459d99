"""A deploy under load: servers and workers end one after the other, and no request and no task is lost."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from loyalty.models import Store, Transaction, TransactionType
from loyalty.services.ledger_check import check_ledger
from loyalty_site.celery import app
from loyalty_site.models import JobRun
from tests.factories import make_cards
from tests.fakes.celery_process import broker, database_url, queued, wait_until, worker
from tests.fakes.round_robin import RoundRobin
from tests.fakes.web_process import Answer, WebProcess, free_port, web
from tests.loyalty.api.tills import Till

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]
PATH = "/api/v1/store/loyalty/cards/{}/earn"
A_SECOND = 20


@pytest.fixture
def till(transactional_db):
    till = Till(staff_pin_policy="optional")
    Store.objects.filter(pk=till.store.pk).update(throttle_factor=0)
    return till


class Earner:
    """Tills that together earn 20 times a second through one address, each time once and with a key of its own."""

    def __init__(self, address: WebProcess, till: Till) -> None:
        self._address, self._till = address, till
        self._cards = [card.pk for card in make_cards(till.merchant, 20)]
        self.asked: list[Future[Answer]] = []

    def earn(self, number: int) -> Answer:
        headers = {**self._till.headers, "Idempotency-Key": f"deploy-{number:06}"}
        body = {"amount": "5.00", "receipt_number": f"R{number}"}
        return self._address.ask("POST", PATH.format(self._cards[number % 20]), body, headers)

    @contextmanager
    def earning(self) -> Iterator[None]:
        """All the while that the block lasts. How long answers take slows the next request down by nothing."""
        end = threading.Event()

        def ask(pool: ThreadPoolExecutor) -> None:
            begin, number = time.monotonic(), 0
            while not end.wait(max(0, begin + number / A_SECOND - time.monotonic())):
                self.asked.append(pool.submit(self.earn, number))
                number += 1

        with ThreadPoolExecutor(32) as pool:
            clock = threading.Thread(target=ask, args=[pool])
            clock.start()
            try:
                yield
            finally:
                end.set()
                clock.join()

    def outcomes(self) -> Counter[Any]:
        return Counter(type(e).__name__ if (e := one.exception()) else one.result().status for one in self.asked)


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_rolling_deploy_fails_no_request_and_loses_nothing(till, tmp_path, rounds):
    how: dict[str, Any] = {"workers": 1, "threads": 4, "WEB_DRAIN_SECONDS": "1"}
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        running = [stack.enter_context(web(tmp_path, port, **how)) for port in ports]
        front = stack.enter_context(RoundRobin(ports))
        earner = Earner(WebProcess(front.port, running[0].process, running[0].log), till)
        with earner.earning():
            for number in [0, 1] * rounds:
                wait_until(lambda: len(front.ready) == 2, seconds=60)
                running[number].process.send_signal(signal.SIGTERM)
                assert running[number].process.wait(40) == 0
                assert front.ready == (ports[1 - number],)
                running[number] = stack.enter_context(web(tmp_path, ports[number], **how))
            wait_until(lambda: len(front.ready) == 2, seconds=60)

    asked = len(earner.asked)
    assert earner.outcomes() == {201: asked}
    assert asked > A_SECOND * 4 * rounds
    earned = Transaction.objects.filter(type=TransactionType.POINTS_EARNED)
    assert set(earned.values_list("receipt_number", flat=True)) == {f"R{number}" for number in range(asked)}
    assert earned.count() == asked
    report = check_ledger()
    assert (report.mismatches, report.mismatched_cards) == ([], 0)


def test_a_server_that_was_told_to_end_says_so_serves_on_and_finishes_what_it_began(till, tmp_path):
    with web(tmp_path, workers=1, WEB_DRAIN_SECONDS="2", DATABASE_LOCK_TIMEOUT_MS="30000") as site:
        earner = Earner(site, till)
        with ThreadPoolExecutor() as pool, psycopg.connect(database_url()) as busy:
            busy.execute("SELECT FROM loyalty_cardbalance WHERE card_id = %s FOR UPDATE", [earner._cards[0]])
            began = pool.submit(earner.earn, 0)
            wait_until(lambda: somebody_waits(busy))

            site.process.send_signal(signal.SIGTERM)
            wait_until(lambda: site.ask("GET", "/readyz").status == 503)

            assert site.ask("GET", "/readyz").json() == {"ready": False, "reason": "this server is about to end"}
            assert site.ask("GET", "/healthz").status == 200
            assert earner.earn(1).status == 201
            time.sleep(2.5)  # now it does not listen any more, and waits for what it began
            assert (began.done(), site.process.poll()) == (False, None)
            busy.rollback()
            assert began.result(20).status == 201
        assert site.process.wait(20) == 0


def somebody_waits(connection: "psycopg.Connection[Any]") -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    return bool(connection.execute(query).fetchone() != (0,))


def test_a_second_signal_ends_the_wait(till, tmp_path):
    with web(tmp_path, workers=1, WEB_DRAIN_SECONDS="600") as site:
        site.process.send_signal(signal.SIGTERM)
        wait_until(lambda: site.ask("GET", "/readyz").status == 503)
        site.process.send_signal(signal.SIGTERM)

        assert site.process.wait(20) == 0


def test_a_worker_that_was_told_to_end_finishes_its_task_and_leaves_the_others(transactional_db, tmp_path):
    with broker() as client:
        client.flushdb()
    with psycopg.connect(database_url()) as busy:
        busy.execute("LOCK TABLE loyalty_card IN ACCESS EXCLUSIVE MODE")
        with worker(tmp_path) as ending:
            app.send_task("loyalty.check_ledger")
            wait_until(lambda: JobRun.objects.filter(task="loyalty.check_ledger", status="running").exists())
            wait_until(lambda: somebody_waits(busy))
            waiting = {str(app.send_task("loyalty_site.heartbeat")) for _ in range(3)}

            ending.process.terminate()
            ending.wait_until_it_says("Warm shutdown")
            time.sleep(0.5)
            assert ending.process.poll() is None
            busy.rollback()
            assert ending.process.wait(20) == 0

    assert statuses("loyalty.check_ledger") == {"succeeded": 1}
    assert queued() == ["loyalty_site.heartbeat"] * 3
    with worker(tmp_path):
        wait_until(lambda: statuses("loyalty_site.heartbeat") == {"succeeded": 3}, seconds=30)
    assert set(JobRun.objects.filter(task="loyalty_site.heartbeat").values_list("task_id", flat=True)) == waiting
    assert queued() == []


def statuses(task: str) -> dict[str, int]:
    return dict(Counter(JobRun.objects.filter(task=task).values_list("status", flat=True)))
