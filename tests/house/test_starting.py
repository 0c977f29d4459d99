"""Processes do not start when they could not do their work, and say so in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from django.db import ProgrammingError, connection

from loyalty_site import starting
from loyalty_site.unusable import SettingsUnusable
from tests.factories import NOON
from tests.fakes import celery_process
from tests.fakes.celery_process import ROOT, environment
from tests.fakes.pki import ISSUER_ID
from wallet.models import Credential

WEB = ["gunicorn", "loyalty_site.wsgi", "--bind=127.0.0.1:0", "--no-control-socket"]
WORKER = ["celery", "--app", "loyalty_site", "--quiet", "worker", "--pool", "solo"]
BEAT = ["celery", "--app", "loyalty_site", "--quiet", "beat", "--pidfile="]
START_WEB = "import loyalty_site.wsgi; print('started')"


@pytest.fixture
def file(transactional_db, tmp_path: Path) -> Path:
    """The file of an active credential."""
    file = tmp_path / "google.json"
    file.write_bytes(b"{}")
    file.chmod(0o600)
    Credential.objects.create(
        kind=Credential.Kind.GOOGLE,
        identifier=ISSUER_ID,
        version=1,
        status=Credential.Status.ACTIVE,
        valid_from=NOON,
        imported_at=NOON,
        secret_file=str(file),
    )
    return file


def run(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(**changes), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("program", [WEB, WORKER], ids=["web", "worker"])
def test_a_file_that_others_can_read_stops_it(file, program):
    file.chmod(0o640)

    ended = run("-m", *program)

    assert ended.returncode == 3
    assert f"The file {file} has mode 640, so others can read it. Run chmod 600 {file}.\n" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_file_stops_it(file):
    file.unlink()

    ended = run("-c", START_WEB)

    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.endswith(f"The file {file} is missing. Put the credential back, or activate another.\n")


def test_a_file_in_order_does_not(file):
    ended = run("-c", START_WEB)

    assert (ended.returncode, ended.stdout) == (0, "started\n"), ended.stderr


@pytest.mark.usefixtures("db")
def test_a_database_that_is_away_or_empty_does_not():
    away = run("-c", START_WEB, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    empty = run("-c", START_WEB, DATABASE_URL=environment()["DATABASE_URL"].rpartition("/")[0] + "/postgres")

    assert [(ended.returncode, ended.stdout) for ended in (away, empty)] == [(0, "started\n")] * 2
    assert [ended.stderr.count("loyalty_site.database_unreachable") for ended in (away, empty)] == [1, 0]


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize(
    ("change", "level", "reason"),
    [
        ({"USER": "no_such_role"}, "error", 'FATAL:  role "no_such_role" does not exist'),
        ({"NAME": "no_such_database"}, "error", 'FATAL:  database "no_such_database" does not exist'),
        ({"PORT": 1}, "warning", "Connection refused"),
    ],
    ids=["login", "name", "away"],
)
def test_a_start_without_the_database_is_logged_once_with_the_reason(monkeypatch, change, level, reason):
    connection.close()
    with monkeypatch.context() as without, structlog.testing.capture_logs() as logs:
        for name, value in change.items():
            without.setitem(connection.settings_dict, name, value)
        starting.require_what_is_configured()

    [said] = [log for log in logs if log["event"] == "loyalty_site.database_unreachable"]
    assert (said["log_level"], said["reason"].endswith(reason)) == (level, True), said


@pytest.mark.usefixtures("transactional_db")
def test_a_database_that_is_there_or_not_migrated_is_not_called_unreachable(monkeypatch):
    def refuse() -> None:
        raise ProgrammingError('relation "wallet_credential" does not exist')

    with structlog.testing.capture_logs() as logs:
        starting.require_files_of_credentials()
        monkeypatch.setattr(starting, "require_usable_files", refuse)
        starting.require_files_of_credentials()

    assert logs == []


@pytest.mark.usefixtures("transactional_db")
def test_a_worker_that_may_not_sign_in_says_so_before_it_is_ready(tmp_path):
    database = connection.settings_dict
    url = f"postgresql://no_such_role@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    with celery_process.worker(tmp_path, DATABASE_URL=url) as worker:
        before_it_was_ready = worker.log.read_text().partition("ready.")[0]

    assert before_it_was_ready.count("loyalty_site.database_unreachable") == 1
    assert 'role \\"no_such_role\\" does not exist' in before_it_was_ready


@pytest.mark.parametrize("program", [WEB, WORKER, BEAT], ids=["web", "worker", "beat"])
def test_an_error_of_a_system_check_stops_every_process(program):
    ended = run("-m", *program, JOB_PING_URLS="https://ping.example.com/secret")

    assert ended.returncode == 3
    assert "\nEntry 1 of JOB_PING_URLS is no job with an address after it. Write it as " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr


def test_it_stops_the_watching_too():
    ended = run("manage.py", "check_health", CSRF_TRUSTED_ORIGINS="admin.bakery.test")

    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (3, "", 1)
    assert "CSRF_TRUSTED_ORIGINS setting must start with a scheme" in ended.stderr


def test_a_silenced_error_stops_nothing(settings):
    settings.SILENCED_SYSTEM_CHECKS = ["loyalty.E004"]
    settings.JOB_PING_URLS = ["nothing"]

    starting.require_no_errors()


@pytest.mark.parametrize("program", [WEB, WORKER], ids=["web", "worker"])
def test_a_folder_for_counts_that_cannot_be_made_stops_who_counts(tmp_path, program):
    (tmp_path / "file").touch()

    ended = run("-m", *program, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "file" / "metrics"))

    assert ended.returncode == 3
    assert (
        f"PROMETHEUS_MULTIPROC_DIR names {tmp_path}/file/metrics, which cannot be made: Not a directory. "
        "Make it for the user of this process, or take the variable away.\n"
    ) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_command_counts_nothing_and_does_without_the_folder(tmp_path):
    (tmp_path / "file").touch()

    done = run("manage.py", "check", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "file" / "metrics"))

    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_for_counts_is_made_with_its_parents(tmp_path, settings):
    settings.PROMETHEUS_MULTIPROC_DIR = str(tmp_path / "not" / "there" / "yet")

    starting.require_a_folder_for_counts()

    assert (tmp_path / "not" / "there" / "yet").is_dir()


@pytest.mark.parametrize(
    ("below", "why"), [("", "which cannot be written to"), ("not/there", "which cannot be made: Permission denied")]
)
def test_a_folder_for_counts_where_we_may_not_write_is_named(tmp_path, settings, monkeypatch, below, why):
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK and access(path, mode))
    settings.PROMETHEUS_MULTIPROC_DIR = str(tmp_path / below)

    with pytest.raises(SettingsUnusable, match=why):
        starting.require_a_folder_for_counts()


def test_a_folder_for_counts_that_the_system_refuses_is_named(tmp_path, settings):
    settings.PROMETHEUS_MULTIPROC_DIR = str(tmp_path / ("long" * 100))

    with pytest.raises(SettingsUnusable, match="which cannot be made: File name too long"):
        starting.require_a_folder_for_counts()
