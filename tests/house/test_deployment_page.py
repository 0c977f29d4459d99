"""Who follows docs/deployment.md with plain processes has a working installation at the end."""

import http.server
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from loyalty_site import embedded
from tests.fakes.celery_process import ROOT
from tests.house.installation import A_MERCHANT, BIN, Installation, codes, copied_by_the_image, free_port, installation
from tests.house.test_deployment import OURS
from tests.house.tools import tool

PAGE = (ROOT / "docs" / "deployment.md").read_text()
PLAIN = PAGE.partition("## One host with plain processes")[2].partition("\n## ")[0]
UNITS = dict(
    re.findall(r"`/etc/systemd/system/([\w@.-]+)`[^\n]*:\n\n```ini\n(.*?)```", PLAIN, re.DOTALL),
)

WRAPPERS = dict(re.findall(r"`/usr/local/bin/([\w-]+)`[^\n]*:\n\n```sh\n(.*?)```", PLAIN, re.DOTALL))


def block(title: str, kind: str) -> str:
    """The first block of a kind below a heading."""
    found = re.search(rf"^```{kind}\n(.*?)^```", PLAIN.partition(f"### {title}\n")[2], re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def settings_on_the_page() -> dict[str, str]:
    return dict(line.split("=", 1) for line in block("Secrets and settings", "ini").splitlines())


def starts(unit: str) -> list[str]:
    return re.findall(r"^ExecStart=(.*)$", UNITS[unit], re.MULTILINE)


class TestThePage:
    def test_shows_a_unit_for_every_process(self):
        assert {"loyalty-web.service", "loyalty-worker@.service", "loyalty-beat.service"} <= set(UNITS)

    @pytest.mark.parametrize("name", UNITS)
    def test_names_only_units_of_a_service_that_runs_as_nobody_in_particular(self, name):
        if not name.endswith(".service"):
            return
        assert "User=loyalty" in UNITS[name]
        assert ("EnvironmentFile=/etc/loyalty/environment" in UNITS[name]) == name.startswith("loyalty-")

    @pytest.mark.parametrize("name", [name for name in UNITS if re.fullmatch(r"loyalty-.*\.service", name)])
    def test_gives_each_process_what_its_settings_need_whichever_starts_first(self, name):
        lines = UNITS[name].splitlines()
        [after] = [line.removeprefix("After=").split() for line in lines if line.startswith("After=")]

        assert {"postgresql.service", "valkey-server.service", "redis-server.service"} <= set(after)
        assert {"RuntimeDirectory=loyalty", "RuntimeDirectoryPreserve=yes"} <= set(lines)

    def test_shows_what_tells_somebody_of_a_unit_that_failed(self):
        told = {name for name, unit in UNITS.items() if "OnFailure=tell-somebody@%n.service" in unit}

        assert told == {name.replace(".timer", ".service") for name in UNITS if name.endswith(".timer")}
        assert "tell-somebody@.service" in UNITS

    def test_tells_a_chat_which_unit_has_failed(self, tmp_path):
        told = []

        class Chat(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        [address] = re.findall(r"echo '(url = .*)' > /etc/loyalty/secrets/tell_somebody", PLAIN)
        with http.server.HTTPServer(("127.0.0.1", 0), Chat) as chat:
            config = tmp_path / "tell_somebody"
            config.write_text(address.replace("https://chat.example.com", f"http://127.0.0.1:{chat.server_port}"))
            [command] = starts("tell-somebody@.service")
            said = command.replace("%i", "loyalty-backup.service").replace("%H", "points")
            words = shlex.split(said.replace("/etc/loyalty/secrets/tell_somebody", str(config)))
            with subprocess.Popen(words) as curl:
                chat.handle_request()

        assert curl.returncode == 0
        assert told == [("/hooks/YOUR-HOOK", b'{"text": "loyalty-backup.service has failed on points"}')]

    def test_shows_units_that_systemd_understands(self, tmp_path):
        for name, unit in UNITS.items():
            (tmp_path / name).write_text(re.sub(r"(?<=^ExecStart=)/\S+", "/bin/true", unit, flags=re.MULTILINE))
        analyze = tool("systemd-analyze")
        paths = [tmp_path / name.replace("@.", "@one.") for name in UNITS]
        done = subprocess.run(
            [analyze, "verify", "--man=no", *paths], capture_output=True, text=True, timeout=60, check=False
        )

        assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, [])

    def test_starts_what_compose_starts(self):
        [web] = starts("loyalty-web.service")
        assert shlex.split(web)[1:] == [word.replace("0.0.0.0", "127.0.0.1") for word in OURS["web"]["command"][1:]]
        [worker] = starts("loyalty-worker@.service")
        shown = shlex.split(worker.replace("%%", "\0").replace("%i", "wallet").replace("\0", "%"))
        assert shown[1:] == OURS["worker-wallet"]["command"][1:]
        [beat] = starts("loyalty-beat.service")
        assert shlex.split(beat)[1:] == OURS["beat"]["command"][1:]

    def test_switches_on_every_timer_that_it_shows(self):
        timers = {name for name in UNITS if name.endswith(".timer")}
        [switched_on] = re.findall(r"systemctl enable --now (.*\.timer)$", PLAIN, re.MULTILINE)

        assert set(switched_on.split()) == timers
        assert {name.replace(".timer", ".service") for name in timers} <= set(UNITS)

    def test_writes_a_file_for_every_secret_that_it_names(self):
        named = {Path(path).name for name, path in settings_on_the_page().items() if name.endswith("_FILE")}
        script = block("Secrets and settings", "sh")

        assert {name for name in named if name not in script} == set()


class TestSeveralHosts:
    SECTION = PAGE.partition("## Several hosts\n")[2].partition("\n## ")[0]

    def test_serve_as_one_does_on_an_address_that_others_reach(self):
        [dropped_in] = re.findall(r"service\.d/address\.conf`:\n\n```ini\n(.*?)```", self.SECTION, re.DOTALL)
        section, emptied, start = dropped_in.splitlines()
        [of_one_host] = starts("loyalty-web.service")

        assert (section, emptied) == ("[Service]", "ExecStart=")
        words = shlex.split(start.removeprefix("ExecStart="))
        assert words.pop(2) == "--bind=10.0.0.11:8000"
        assert words == shlex.split(of_one_host)

    def test_answer_to_the_names_that_they_are_asked_by(self):
        [hosts] = re.findall(r"^ALLOWED_HOSTS=(.*)$", self.SECTION, re.MULTILINE)

        assert hosts.split(",") == ["points.example.com", "web1", "web2", "127.0.0.1"]
        example = (ROOT / "docs" / "alerts" / "examples" / "prometheus.yml").read_text()
        names = set(re.findall(r"([\w.]+):8000", example))
        assert {"web1", "web2"} < names
        assert names <= set(hosts.split(","))


class TestTheWrappers:
    @pytest.fixture
    def host(self, tmp_path):
        """A host whose Python and Celery say what they were given, and where."""
        programs = tmp_path / "opt" / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name in ("python", "celery"):
            (programs / name).write_text('#!/bin/sh\npwd; echo "$DEFAULT_FROM_EMAIL"; printf "%s\\n" "$@"\n')
            (programs / name).chmod(0o755)
        (tmp_path / "elsewhere").mkdir()
        return tmp_path

    def say(self, host: Path, wrapper: str, *words: str) -> list[str]:
        [quoted] = re.findall(r"`(DEFAULT_FROM_EMAIL='[^`]+)`", PLAIN)
        (host / "environment").write_text(f"{block('Secrets and settings', 'ini')}{quoted}\n")
        script = WRAPPERS[wrapper].replace("/etc/loyalty/environment", str(host / "environment"))
        script = script.replace("/opt/loyalty", str(host / "opt"))
        done = subprocess.run(
            ["sh", "-c", script, wrapper, *words], cwd=host / "elsewhere", capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    def test_look_for_files_where_the_caller_is(self, host):
        said = self.say(host, "loyalty", "import_cards", "our customers.csv")

        sender = "Points <points@example.com>"
        manage = str(host / "opt" / "manage.py")
        assert said == [str(host / "elsewhere"), sender, manage, "import_cards", "our customers.csv"]

    def test_ask_workers_from_where_the_code_is(self, host):
        said = self.say(host, "loyalty-celery", "inspect", "ping")

        assert said == [str(host / "opt"), "Points <points@example.com>", "-A", "loyalty_site", "inspect", "ping"]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Installation]:
    """Debian's servers if they are there, else those of the tests; the code as the image holds it."""
    if list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        monkeypatch.setattr(embedded, "_postgres_binaries", embedded._installed_postgres)
    if server := shutil.which("valkey-server") or shutil.which("redis-server"):
        monkeypatch.setattr(embedded, "_valkey_binary", lambda: Path(server))
    with installation(tmp_path) as found:
        yield found


@pytest.mark.slow
def test_the_page_leads_to_a_working_installation(site, tmp_path, smtp_server):
    port = free_port()
    places = {
        "/opt/loyalty/.venv/bin": str(BIN),
        "/opt/loyalty": str(site.folder),
        "/etc/loyalty": str(tmp_path / "etc"),
        "/run/loyalty": str(tmp_path / "run"),
        "/var/backups/loyalty": str(tmp_path / "backups"),
        "points.example.com": "points.bakery.test",
        "points@example.com": "points@bakery.test",
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "redis://127.0.0.1:6379/0": site.environment["REDIS_URL"],
        "127.0.0.1:5432": re.findall(r"@([^/]+)/", site.environment["DATABASE_URL"])[0],
        "'.venv/bin/python": f"'{BIN / 'python'}",
        "chgrp -R loyalty": ": no such group here:",
        "smtp+tls://": "smtp://",
        "mail.example.com:587": f"{smtp_server.host}:{smtp_server.port}",
        "A-PASSWORD": "qW8-eRt5-zUi2-mNb7",
    }

    def here(text: str) -> str:
        for there, place in places.items():
            text = text.replace(there, place)
        return text

    # PostgreSQL and Valkey
    with psycopg.connect(site.environment["DATABASE_URL"], autocommit=True) as superuser:
        for statement in here(block("PostgreSQL and Valkey", "sql")).strip().split(";\n"):
            superuser.execute(statement.rstrip(";"))
    # Secrets and settings
    site.succeed(["sh", "-euc", here(block("Secrets and settings", "sh"))])
    settings = {name: here(value) for name, value in settings_on_the_page().items()}
    environment, wrapper = tmp_path / "etc" / "environment", tmp_path / "loyalty"
    environment.write_text(here(block("Secrets and settings", "ini")))
    wrapper.write_text(here(WRAPPERS["loyalty"]))
    without_engines = {name: site.environment[name] for name in ("PATH", "HOME")}
    site.environment = {**without_engines, **settings}

    # Database, static files, first login
    manage = ["sh", str(wrapper)]
    site.succeed([*manage, "collectstatic", "--noinput"])
    site.succeed([*manage, "migrate", "--noinput"])
    assert "are there" in site.succeed([*manage, "install_schedules"])
    site.succeed(
        [*manage, "createsuperuser", "--noinput", "--username=staff", "--email=staff@bakery.test"],
        DJANGO_SUPERUSER_PASSWORD="correct-horse-battery",
    )

    # Units
    for unit in ("loyalty-web.service", "loyalty-beat.service"):
        site.start(unit, shlex.split(here(starts(unit)[0])))
    for queue in ("default", "wallet", "notifications"):
        [command] = starts("loyalty-worker@.service")
        said = here(command).replace("%%", "\0").replace("%i", queue).replace("\0", "%")
        site.start(f"loyalty-worker@{queue}", shlex.split(said))
    secret = tmp_path / "etc" / "secrets" / "database_url"
    site.environment["DATABASE_URL"] = secret.read_text().strip()  # for the tests' own questions
    site.send_the_heartbeat_soon()
    site.wait("/readyz", lambda: site.ask(port, "/readyz", Host="points.bakery.test")[0] == 200)
    site.wait("the heartbeat", site.has_a_heartbeat)
    del site.environment["DATABASE_URL"]

    # Backups
    for command in starts("loyalty-backup.service") + starts("loyalty-erasures.service"):
        site.succeed(shlex.split(here(command).replace("$$", "$").replace("%%", "%")))
    assert len(list((tmp_path / "backups").glob("loyalty-*.dump"))) == 1
    assert (tmp_path / "backups" / "erasures.csv").exists()

    # Before the first customer
    check = [*manage, "launch_check", "--backups", str(tmp_path / "backups")]
    before = site.run(check)
    assert codes(before.stdout) == {"merchant_missing", "apple_off", "google_off"}, before.stdout + before.stderr
    site.succeed([*manage, "shell", "-c", A_MERCHANT])
    after = site.run(check)
    assert (after.returncode, codes(after.stdout)) == (1, {"apple_off", "google_off"}), after.stdout
    assert site.succeed([*check, "--without=apple", "--without=google"]) == "Ready.\n"

    # Watching it
    [health] = starts("loyalty-health.service")
    assert site.succeed(shlex.split(here(health))) == "Healthy.\n"
    sign_in, page = site.ask(port, "/admin/login/", **{"Host": "points.bakery.test", "X-Forwarded-Proto": "https"})
    assert (sign_in, b"csrfmiddlewaretoken" in page) == (200, True)
    for name in list(site.processes):
        assert site.stop(name, seconds=60) == 0


def test_the_code_that_is_copied_is_all_that_a_host_needs():
    assert {"manage.py", "gunicorn.conf.py", "loyalty_site", "loyalty", "wallet", "notifications"} == set(
        copied_by_the_image()
    )


def test_no_process_loads_what_only_tests_need():
    sources = [path.read_text() for name in copied_by_the_image() for path in (ROOT / name).rglob("*.py")]

    assert len(sources) > 100
    assert not [source for source in sources if re.search(r"^\s*(import|from) _?pytest", source, re.MULTILINE)]
