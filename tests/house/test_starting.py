"""Web and workers do not start when a credential's file cannot be used, and say so in one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import NOON
from tests.fakes.celery_process import ROOT, environment
from tests.fakes.pki import ISSUER_ID
from wallet.models import Credential

WEB = ["gunicorn", "loyalty_site.wsgi", "--bind=127.0.0.1:0", "--no-control-socket"]
WORKER = ["celery", "--app", "loyalty_site", "--quiet", "worker", "--pool", "solo"]
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
