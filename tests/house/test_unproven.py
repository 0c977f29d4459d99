"""A restore that was not proven, whatever ended it, leaves a database that nothing starts on."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.core.management import call_command

from loyalty_site.backup import files, unproven, verifying
from loyalty_site.backup.fingerprints import has_tables
from loyalty_site.findings import findings
from loyalty_site.launching import launch_findings
from tests.factories import NOON, make_card
from tests.fakes.celery_process import ROOT, environment, wait_until
from tests.house.runbook_runner import spoken
from tests.house.test_backup import REASON, Elsewhere, backed_up, elsewhere, run  # noqa: F401  a fixture
from tests.house.test_starting import START_WEB, WORKER
from tests.loyalty.test_commands import spoil

pytestmark = pytest.mark.django_db(transaction=True)
BEAT = ["celery", "--app", "loyalty_site", "--quiet", "beat", "--max-interval", "1"]
REFUSAL = f"CommandError: {unproven.SENTENCE}\n"
FOUND = [("restore_unproven", unproven.SENTENCE)]
IS_MARKED = f"SELECT to_regclass('{unproven.TABLE}') IS NOT NULL"
WAITS = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def file(transactional_db, tmp_path: Path) -> Path:
    spoil(make_card(points=10))
    return backed_up(tmp_path)


@pytest.fixture
def marked(transactional_db) -> Iterator[None]:
    unproven.mark()
    yield
    unproven.take_away()


def restore(place: Elsewhere, file: Path) -> "subprocess.CompletedProcess[str]":
    return place.manage("restore_database", str(file), "--reason", REASON)


def end_in_the_proof(place: Elsewhere, file: Path, how: signal.Signals) -> tuple[int, str]:
    """End a restore with a signal, after all that it restores was committed: exit code and what it said."""
    with (
        subprocess.Popen(
            [sys.executable, "manage.py", "restore_database", str(file), "--reason", REASON],
            cwd=ROOT,
            env=environment(DATABASE_URL=place.url, LOG_LEVEL="ERROR"),
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        psycopg.connect(place.url) as there,
    ):
        wait_until(lambda: place.rows(IS_MARKED) == [(True,)])
        there.execute(f"LOCK TABLE {unproven.TABLE} IN SHARE UPDATE EXCLUSIVE MODE")  # ANALYZE waits
        wait_until(lambda: place.rows(WAITS) == [(True,)], seconds=60)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    return process.returncode, spoken(said)


def start(place: Elsewhere, *arguments: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(DATABASE_URL=place.url, LOG_LEVEL="ERROR"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [(signal.SIGKILL, -9, ""), (signal.SIGINT, 130, f"CommandError: Interrupted. {unproven.SENTENCE}\n")],
)
def test_nothing_starts_on_what_an_ended_restore_left(file, elsewhere, how, code, said):  # noqa: F811
    assert end_in_the_proof(elsewhere, file, how) == (code, said)

    assert elsewhere.rows("SELECT count(*) FROM loyalty_card") == [(1,)]
    again, checked = restore(elsewhere, file), elsewhere.manage("migrate", "--check")
    assert [(done.returncode, done.stderr) for done in (again, checked)] == [(4, REFUSAL), (1, REFUSAL)]
    for program in (["-c", START_WEB], ["-m", *WORKER], ["-m", *BEAT]):
        assert start(elsewhere, *program) == (3, unproven.SENTENCE)


def test_what_was_proven_is_not_marked(elsewhere, transactional_db, tmp_path):  # noqa: F811
    done = restore(elsewhere, backed_up(tmp_path))

    assert (done.returncode, elsewhere.rows(IS_MARKED)) == (0, [(False,)])


def test_what_is_not_as_it_was_stays_marked(file, elsewhere):  # noqa: F811
    manifest = files.manifest_of(file)
    words = json.loads(manifest.read_text())
    words["tables"]["public.loyalty_card"] = [2, "0"]
    manifest.write_text(json.dumps(words))

    done = restore(elsewhere, file)

    assert (done.returncode, elsewhere.rows(IS_MARKED)) == (1, [(True,)])
    assert "The table loyalty_card has 1 rows instead of 2." in done.stdout.replace("public.", "")
    assert "check_ledger found 1 cards" in done.stdout
    assert spoken(done.stderr) == "Do not use this database.\n"


def test_a_balance_that_was_wrong_already_is_a_finding(file, elsewhere):  # noqa: F811
    done = restore(elsewhere, file)

    assert (done.returncode, spoken(done.stderr), elsewhere.rows(IS_MARKED)) == (3, "", [(False,)])
    assert done.stdout.splitlines()[-3:] == [
        "Rows equal, triggers in force, sequences right.",
        *verifying.balances_that_are_wrong(),
        "They were wrong when the backup was made. Mend them as docs/runbooks/ledger.md says.",
    ]


def test_a_mark_alone_is_an_empty_database(file, elsewhere):  # noqa: F811
    with psycopg.connect(elsewhere.url) as there:
        there.execute(f"CREATE TABLE {unproven.TABLE} ()")

    assert restore(elsewhere, file).returncode == 3


def test_an_interruption_before_anything_was_done_asks_nobody_to_drop_a_database(file, monkeypatch):
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "read_manifest", interrupt)

    assert run("restore_database", str(file), "--reason", REASON) == ("Interrupted. Nothing was restored.", 130)
    assert has_tables()


@pytest.mark.usefixtures("marked")
class TestAMarkIsSeen:
    def test_by_who_asks_for_traffic(self, client):
        answer = client.get("/readyz")

        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "reason": "this database was restored and not proven"}

    def test_by_check_health_and_launch_check(self):
        assert [(found.code, found.text) for found in findings(NOON)] == FOUND
        found = [(one.code, one.text) for one in launch_findings(at=NOON, without=("backups",), backups=None)]
        assert found[-1:] == FOUND

    def test_by_who_would_back_it_up(self, tmp_path):
        assert run("backup_database", str(tmp_path / "today.dump")) == (unproven.SENTENCE, 4)

    def test_by_migrate_which_goes_on_all_the_same(self):
        call_command("migrate", verbosity=0)
