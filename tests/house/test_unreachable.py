"""What a person reads who starts the product without its neighbours: one sentence, no traceback."""

import os
import subprocess
import sys

import psycopg
import pytest
from django.db import OperationalError

from loyalty_site.unreachable import (
    explain_broker,
    explain_database,
    first_line,
    is_refused,
    is_unreachable,
)
from tests.fakes.celery_process import ROOT, database_url, environment

NOWHERE = "postgresql://till:secret-word@127.0.0.1:1/loyalty"


def manage(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run manage.py as a person would, with these variables in the environment."""
    command = [sys.executable, "manage.py", *arguments]
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "loyalty_site.settings", **variables}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", ["migrate", "install_schedules", "createsuperuser"])
def test_a_missing_database_is_one_sentence(command):
    done = manage(command, DATABASE_URL=NOWHERE)

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("PostgreSQL cannot be reached at 127.0.0.1:1/loyalty (")
    assert last_line.endswith("). Start it, or put right what DATABASE_URL or DATABASE_URL_FILE says.")


def test_the_sentence_keeps_the_password_to_itself():
    assert "secret-word" not in manage("migrate", DATABASE_URL=NOWHERE).stderr


def test_a_database_that_does_not_exist_is_named():
    url = database_url().rpartition("/")[0] + "/no_such_database"

    done = manage("migrate", DATABASE_URL=url)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no_such_database" in done.stderr.splitlines()[-1]
    assert "does not exist" in done.stderr.splitlines()[-1]


def test_check_health_reports_both_neighbours():
    done = manage("check_health", DATABASE_URL=NOWHERE, REDIS_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == ["database_unreachable", "broker_unreachable"]
    assert "Traceback" not in done.stderr


def test_a_missing_broker_is_one_sentence():
    send = "from loyalty_site.tasks import heartbeat; heartbeat.delay()"

    done = manage("shell", "--no-imports", "-c", send, REDIS_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("The broker (Valkey or Redis) cannot be reached at 127.0.0.1:1 (")
    assert "Nothing is lost" in last_line


def test_a_database_that_is_not_postgresql_is_refused(tmp_path):
    done = manage("check", DATABASE_URL=f"sqlite:///{tmp_path}/loyalty.sqlite3")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("DATABASE_URL has to be an address such as postgresql://")
    assert not list(tmp_path.iterdir())


@pytest.mark.django_db
def test_the_error_of_a_statement_keeps_its_traceback():
    slow = "from django.db import connection as c; c.cursor().execute('SET statement_timeout = 1; SELECT pg_sleep(9)')"

    done = manage("shell", "--no-imports", "-c", slow, **environment())

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "statement timeout" in done.stderr.splitlines()[-1]


def test_a_reason_is_one_line_without_the_password(settings, monkeypatch):
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "secret-word")

    assert first_line(OperationalError("refused for secret-word\nand more")) == "refused for ..."


def test_a_development_installation_hears_of_the_engines_that_come_with_it(settings):
    settings.DEVELOPMENT = True

    assert explain_database(OperationalError()).endswith(", or use `make shell`, which starts one for you.")
    assert "make shell" in explain_broker(ConnectionError())


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ('FATAL:  password authentication failed for user "till"', True),
        ('FATAL:  Peer authentication failed for user "till"', True),
        ("fe_sendauth: no password supplied", True),
        ('FATAL:  role "till" does not exist', True),
        ('FATAL:  role "till" is not permitted to log in', True),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "till", database "loyalty", no encryption', True),
        ('FATAL:  database "loyalty" does not exist', True),
        ("FATAL:  no such database: loyalty", True),
        ("FATAL:  no such user: till", True),
        ("Connection refused", False),
        ("FATAL:  the database system is starting up", False),
        ("FATAL:  sorry, too many clients already", False),
        ("", False),
    ],
)
def test_a_login_that_is_refused_is_told_from_a_database_that_is_away(said, refused):
    assert is_refused(OperationalError(f"connection failed: {said}")) is refused


@pytest.mark.parametrize(
    ("cause", "refused"),
    [
        (psycopg.errors.InvalidPassword, True),
        (psycopg.errors.InvalidCatalogName, True),
        (psycopg.errors.UndefinedObject, False),
    ],
)
def test_a_sqlstate_counts_more_than_words(cause, refused):
    error = OperationalError('role "till" does not exist' if not refused else "")
    error.__cause__ = cause()

    assert is_refused(error) is refused


def test_an_error_without_words_is_explained_too(settings):
    settings.CELERY_BROKER_URL = "redis://"

    assert is_unreachable(OperationalError())
    assert "(no reason given)" in explain_database(OperationalError())
    assert "at localhost:6379 (gone)." in explain_broker(ConnectionError("gone."))
