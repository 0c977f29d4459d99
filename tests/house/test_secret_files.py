"""NAME_FILE in place of NAME: what is read, and what ends a process with one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from loyalty_site.secret_files import NAMES, SecretFileUnusable, secrets_from_files
from tests.fakes.celery_process import ROOT
from tests.house.test_configuration import settings_variables

SHOW = "from loyalty_site import settings; print(settings.SECRET_KEY, settings.DATABASES['default']['HOST'])"
SECRET = "a-secret-of-the-tests-" + "0123456789" * 3


def written(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def refusal(**environ: str) -> str:
    with pytest.raises(SecretFileUnusable) as refused:
        secrets_from_files(environ)
    return str(refused.value)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_secret_is_read_without_the_end_of_its_line(tmp_path, mode):
    path = written(tmp_path, f"{SECRET}\n", mode)

    assert secrets_from_files({"SECRET_KEY_FILE": path, "LOG_LEVEL": "INFO"}) == {"SECRET_KEY": SECRET}


def test_every_name_is_a_variable_of_the_settings():
    assert set(NAMES) <= settings_variables().keys()


def test_what_is_no_secret_is_not_read_from_a_file(tmp_path):
    assert secrets_from_files({"APPLE_PUSH_CA_FILE": str(tmp_path / "missing"), "LOG_LEVEL_FILE": "/missing"}) == {}


def test_an_empty_variable_beside_the_file_is_not_set(tmp_path):
    assert secrets_from_files({"SECRET_KEY": "", "SECRET_KEY_FILE": written(tmp_path, SECRET)}) == {
        "SECRET_KEY": SECRET
    }


def test_a_secret_in_two_places_is_refused(tmp_path):
    path = written(tmp_path, SECRET)

    assert refusal(SECRET_KEY="other", SECRET_KEY_FILE=path) == (
        "SECRET_KEY and SECRET_KEY_FILE are both set. Take one of them away."
    )


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "missing"

    assert refusal(PIN_PEPPER_FILE=str(path)) == (
        f"PIN_PEPPER_FILE names {path}, which cannot be read: No such file or directory."
    )


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_file_that_others_can_open_is_refused(tmp_path, mode):
    path = written(tmp_path, SECRET, mode)

    assert refusal(EMAIL_URL_FILE=path) == (
        f"EMAIL_URL_FILE names {path}, which has mode {mode:o}, so others can read it. Run chmod o= {path}."
    )


def test_an_empty_file_and_a_binary_one_are_refused(tmp_path):
    path = Path(written(tmp_path, " \n"))
    assert refusal(SECRET_KEY_FILE=str(path)) == f"SECRET_KEY_FILE names {path}, which is empty."

    path.write_bytes(b"\xff\xfe")
    assert refusal(SECRET_KEY_FILE=str(path)).endswith("cannot be read: it is no text.")


def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_settings_take_secrets_from_files(tmp_path):
    (tmp_path / "url").mkdir()
    url = written(tmp_path / "url", "postgresql://loyalty:secret@db.internal/loyalty\n")

    shown = run("-c", SHOW, SECRET_KEY_FILE=written(tmp_path, SECRET), DATABASE_URL_FILE=url, PIN_PEPPER="pepper")

    assert (shown.stdout, shown.stderr) == (f"{SECRET} db.internal\n", "")


@pytest.mark.parametrize(
    "program",
    [["manage.py", "check"], ["-m", "celery", "-A", "loyalty_site", "beat"], ["-m", "gunicorn", "loyalty_site.wsgi"]],
    ids=["command", "beat", "web"],
)
def test_a_file_that_cannot_be_used_ends_the_process_with_a_sentence(tmp_path, program):
    bind = ["--bind=127.0.0.1:0", "--no-control-socket"] if "gunicorn" in program else []

    ended = run(*program, *bind, SECRET_KEY_FILE=str(tmp_path / "missing"))

    assert ended.returncode == 3
    assert f"SECRET_KEY_FILE names {tmp_path / 'missing'}, which cannot be read" in ended.stderr
    assert "Traceback" not in ended.stderr
