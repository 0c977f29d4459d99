"""A variable that cannot be used ends the process with a sentence that names it, and no secret."""

import subprocess
import sys

import pytest

from loyalty_site.unusable import CANNOT_START
from loyalty_site.variables import Variables
from tests.fakes.celery_process import ROOT, environment

SECRET = "hush-hush"
IN_A_PASSWORD = (
    "What has a meaning in addresses is written in another way in a password: "
    "/ as %2F, @ as %40, : as %3A, # as %23, ? as %3F, % as %25."
)
DATABASE = "DATABASE_URL has to be an address such as postgresql://user:password@host:5432/name."
MAIL = "EMAIL_URL has to be an address such as smtp+tls://user:password@host:587."
BROKER = "REDIS_URL has to be an address such as redis://:password@host:6379/0."
SENTRY = "SENTRY_DSN has to be an address such as https://key@host/1."
PROGRAMS = {
    "command": ["manage.py", "check_health"],
    "web": ["-m", "gunicorn", "loyalty_site.wsgi", "--bind=127.0.0.1:0", "--workers=2", "--no-control-socket"],
    "worker": ["-m", "celery", "-A", "loyalty_site", "worker", "--pool=solo", "--without-mingle"],
    "beat": ["-m", "celery", "-A", "loyalty_site", "beat", "--pidfile="],
}


def variables(**values: str) -> Variables:
    found = Variables()
    found.ENVIRON = values
    return found


def run(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """A process of the product; a variable that is changed to nothing is not set."""
    env = {name: value for name, value in environment(**changes).items() if value or name not in changes}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )


def refusal(**setting: str) -> str:
    """What all of the settings say about one that cannot be used."""
    ended = run("-c", "from loyalty_site import settings", **setting)

    assert (ended.returncode, ended.stdout) == (CANNOT_START, "")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr.rstrip("\n")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("EMAIL_TIMEOUT", "ten", "EMAIL_TIMEOUT has to be a whole number, such as 10."),
        ("LOYALTY_THROTTLE_EARN", "many", "LOYALTY_THROTTLE_EARN has to be a whole number, such as 10."),
        ("DEBUG", "maybe", "DEBUG has to be true or false."),
        ("LOG_LEVEL", "verbose", "LOG_LEVEL has to be one of DEBUG, INFO, WARNING, ERROR."),
        ("LOG_FORMAT", "xml", "LOG_FORMAT has to be one of json, console."),
        ("PUBLIC_URL", "points.bakery.test", "PUBLIC_URL has to be an address such as https://points.example.com."),
        ("EMAIL_URL", "mail.bakery.test:587", MAIL),
        ("EMAIL_URL", "smtp://", MAIL),
        ("EMAIL_URL", f"smtp+tls://points:{SECRET}/x@mail.bakery.test:587", MAIL),
        ("REDIS_URL", "127.0.0.1:6379", BROKER),
        ("REDIS_URL", "amqp://127.0.0.1", BROKER),
        ("REDIS_URL", f"redis://:{SECRET}/x@127.0.0.1:6379/0", BROKER),
        ("SENTRY_DSN", "abc", SENTRY),
        ("SENTRY_DSN", "https://", SENTRY),
        ("DATABASE_URL", "not a url", DATABASE),
        ("DATABASE_URL", "postgresql://127.0.0.1:5432", DATABASE),
        ("DATABASE_URL", "postgresql://localhost:abc/x", DATABASE),
        ("DATABASE_URL", f"points:{SECRET}@127.0.0.1:5432/points", DATABASE),
        ("DATABASE_URL", f"postgresql://points:{SECRET}/x@127.0.0.1:5432/points", DATABASE),
        ("DATABASE_URL", "postgresql://points:12/x@127.0.0.1:5432/points", DATABASE),
        ("DATABASE_URL", f"postgresql://points:12#{SECRET}@127.0.0.1:5432/points", DATABASE),
        ("DATABASE_URL", f"postgresql://points:1?{SECRET}=1@127.0.0.1:5432/points", DATABASE),
        ("DATABASE_URL", f"mysql://points:{SECRET}@127.0.0.1/points", DATABASE),
        ("DATABASE_URL", "sqlite:///loyalty.sqlite3", DATABASE),
        (
            "DATABASE_URL",
            f"postgresql://points:{SECRET}@127.0.0.1/points?sslmod=require",
            "DATABASE_URL has an option behind its question mark that PostgreSQL has not: sslmod.",
        ),
    ],
)
def test_what_cannot_be_used_is_named_without_its_value(name, value, sentence):
    said = refusal(**{name: value})

    assert said in (sentence, f"{sentence} {IN_A_PASSWORD}")
    assert SECRET not in said


@pytest.mark.parametrize("name", ["SECRET_KEY", "PIN_PEPPER"])
def test_a_secret_has_to_be_set(name):
    assert refusal(**{name: ""}) == (
        f"{name} is not set. Set it to 50 random characters or more, such as `openssl rand -hex 32` prints, or let "
        f"{name}_FILE name a file that holds them."
    )


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"SECRET_KEY": ""}, "SECRET_KEY is not set."), ({"EMAIL_TIMEOUT": "ten"}, "EMAIL_TIMEOUT has to be a whole")],
    ids=["missing", "unreadable"],
)
def test_every_process_ends_with_the_sentence(program, changes, sentence):
    ended = run(*program, **changes)

    assert ended.returncode == CANNOT_START
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_time_that_a_server_drains_is_named_too():
    ended = run(*PROGRAMS["web"], WEB_DRAIN_SECONDS="abc")

    assert ended.returncode == CANNOT_START
    assert ended.stderr.endswith("\nWEB_DRAIN_SECONDS has to be a number, such as 10.\n")


def test_an_address_that_is_none_of_a_project_is_named():
    ended = run("manage.py", "check", SENTRY_DSN=f"https://{SECRET}.test")

    assert (ended.returncode, ended.stdout) == (CANNOT_START, "")
    assert ended.stderr.startswith("SENTRY_DSN has to be an address of a project, such as https://key@host/1.")
    assert SECRET not in ended.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("True", True), ("1", True), ("on", True), ("false", False), ("0", False), ("no", False)],
)
def test_a_switch_is_on_or_off(text, value):
    assert variables(DEBUG=text).bool("DEBUG", default=not value) is value


def test_an_empty_switch_is_off_and_a_missing_one_is_as_it_comes():
    assert variables(DEBUG="").bool("DEBUG", default=True) is False
    assert variables().bool("DEBUG", default=True) is True


def test_a_list_is_separated_by_commas():
    assert variables(HOSTS="a,b,").list("HOSTS", default=[]) == ["a", "b"]


def test_a_secret_may_begin_with_a_dollar():
    assert variables(SECRET_KEY="$ecret").secret("SECRET_KEY", default="") == "$ecret"


def test_an_address_may_be_left_out_where_nothing_is_the_default():
    assert variables(SENTRY_DSN="").address("SENTRY_DSN", default="") == ""


def test_what_a_password_may_not_have_is_written_in_another_way():
    found = variables(DATABASE_URL="postgresql://points:a%2Fb%40c%3Ad@db.test:5432/points?sslmode=require")

    database = found.db_url("DATABASE_URL", default="", like="")

    assert (database["PASSWORD"], database["HOST"], database["NAME"]) == ("a/b@c:d", "db.test", "points")
    assert database["OPTIONS"] == {"sslmode": "require"}


@pytest.mark.parametrize(
    "url",
    ["postgresql:///points", "postgres://db.test/points", "postgresql://points:x@one.test:5432,two.test:5433/points"],
)
def test_a_socket_and_several_hosts_are_addresses_of_postgresql(url):
    assert variables(DATABASE_URL=url).db_url("DATABASE_URL", default="", like="")["NAME"] == "points"


def test_a_user_may_be_an_address_of_mail():
    found = variables(EMAIL_URL="smtp+ssl://points@bakery.test:word@mail.test:465").email_url(
        "EMAIL_URL", default="", like=""
    )

    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST"]) == ("points@bakery.test", "mail.test")
