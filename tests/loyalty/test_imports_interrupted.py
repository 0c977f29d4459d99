"""Imports in real processes: killed, continued, two at a time, and beside tills that enrol."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection, transaction

from loyalty.errors import ImportRefused
from loyalty.models import CardImport, CardImportRow, Customer, Merchant
from loyalty.services.imports import Outcome
from loyalty.services.ledger_check import check_ledger
from tests.factories import NOON, make_merchant
from tests.fakes.celery_process import ROOT, environment, wait_until
from tests.loyalty.imports import balances, named, preview, run, write

pytestmark = pytest.mark.django_db(transaction=True)
LINES = 5000


@pytest.fixture
def merchant():
    return make_merchant()


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "customers.csv", [f"C{n},{n},2026-01-01" for n in range(LINES)])


@contextmanager
def importing(path: Path, merchant: Merchant, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "manage.py", "import_cards", str(path), "--merchant", merchant.slug, *options]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def imported() -> int:
    return sum(CardImport.objects.values_list("imported", flat=True))


def wait_until_the_lock_is_free(path: Path, merchant: Merchant) -> None:
    """The server notices a killed client when it next writes to it."""

    def is_free() -> bool:
        try:
            preview(path, merchant)
        except ImportRefused:
            return False
        return True

    wait_until(is_free)


def assert_each_line_became_one_card(merchant: Merchant) -> None:
    assert balances(merchant) == {f"C{n}": n for n in range(LINES)}
    assert Customer.objects.count() == LINES
    assert not CardImportRow.objects.exists()
    assert check_ledger().mismatches == []


def test_a_killed_import_continues_where_it_stopped(file, merchant):
    with importing(file, merchant) as process:
        wait_until(lambda: imported() > 0)
        process.kill()
        process.wait()
    done = imported()
    assert 0 < done < LINES
    assert Customer.objects.count() == done
    assert CardImportRow.objects.count() == LINES - done
    wait_until_the_lock_is_free(file, merchant)
    assert preview(file, merchant).imported_before == imported() >= done

    with importing(file, merchant) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"{done:,} of them were there from before." in out
    assert_each_line_became_one_card(merchant)
    assert CardImport.objects.values_list("rows", "imported", "skipped").get() == (LINES, LINES, 0)


def test_ctrl_c_says_how_to_go_on(file, merchant):
    with importing(file, merchant) as process:
        wait_until(lambda: imported() > 0)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert error.endswith("Interrupted. The same command continues where this one stopped.\n")
    assert "Traceback" not in error

    assert run(file, merchant).imported_before > 0
    assert_each_line_became_one_card(merchant)


def test_an_import_that_lost_its_database_continues_later(file, merchant):
    with importing(file, merchant) as process:
        wait_until(lambda: imported() > 0)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        process.communicate(timeout=60)
    assert process.returncode == 1

    assert run(file, merchant).imported_before > 0
    assert_each_line_became_one_card(merchant)


def test_kills_at_any_moment_lose_nothing_and_double_nothing(file, merchant):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(3):
        with importing(file, merchant):
            time.sleep(moments.uniform(0.6, 2.0))
    wait_until_the_lock_is_free(file, merchant)

    report = run(file, merchant)

    assert (report.rows, report.imported) == (LINES, LINES)
    assert_each_line_became_one_card(merchant)


def test_an_import_that_leaves_lines_out_still_knows_them_after_a_kill(file, merchant):
    with file.open("a") as more:
        more.write("C1,1,\nD1,x,\n")
    with importing(file, merchant, "--skip-bad") as process:
        wait_until(lambda: imported() > 0)
        process.kill()
        process.wait()
    wait_until_the_lock_is_free(file, merchant)

    report = run(file, merchant)

    assert (report.rows, report.imported, report.skipped) == (LINES + 2, LINES, 2)
    assert named(report) == [
        (LINES + 2, "external_id", "is on line 3 already"),
        (LINES + 3, "points", '"x" is not a whole number, such as 1250'),
    ]
    assert_each_line_became_one_card(merchant)


def test_of_two_imports_at_the_same_time_one_is_refused_in_words(file, merchant):
    with importing(file, merchant) as process:
        wait_until(CardImport.objects.exists)
        for verb in (run, preview):
            with pytest.raises(ImportRefused, match="Another process is importing cards for Shop"):
                verb(file, merchant)
        assert run(write(file.with_name("b.csv"), ["B1,1,"]), make_merchant()).imported == 1
        assert process.wait(60) == 0
    assert run(file, merchant).outcome == Outcome.ALREADY_IMPORTED


def test_a_till_that_waits_for_the_import_while_the_import_waits_for_it_stops_neither(merchant, tmp_path):
    path = write(
        tmp_path / "few.csv", [f"C{n},{n},c{n}@example.com" for n in range(100)], header="external_id,points,email"
    )
    holds_one, failures = threading.Event(), []

    def enrol_two() -> None:
        try:
            with transaction.atomic():
                Customer.objects.create(merchant=merchant, email="c90@example.com", created_at=NOON)
                holds_one.set()
                wait_until(is_waited_for)
                Customer.objects.create(merchant=merchant, email="c10@example.com", created_at=NOON)
        except Exception as error:  # noqa: BLE001  shown by the test
            failures.append(error)
        finally:
            connection.close()

    till = threading.Thread(target=enrol_two)

    def begin(step: str, done: int, total: int) -> None:
        if step == "checking":
            till.start()
            holds_one.wait(10)

    report = run(path, merchant, progress=begin)
    till.join()

    assert failures == []
    assert (report.imported, report.skipped) == (98, 2)
    assert [line for line, _, _ in named(report)] == [12, 92]
    assert check_ledger().mismatches == []


def is_waited_for() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])
