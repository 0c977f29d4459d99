"""Dockerfile and compose.yaml hold what they promise, and their commands make an installation, as plain processes."""

import json
import re
import shlex
import subprocess
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

from loyalty_site.queues import QUEUES
from loyalty_site.secret_files import NAMES
from tests.fakes.celery_process import ROOT
from tests.house.installation import (
    A_MERCHANT,
    PRODUCTION,
    codes,
    copied_by_the_image,
    free_port,
    installation,
    seconds_of,
)
from tests.house.test_configuration import example_lines, read_by_compose

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("loyalty:")}
LASTING = {name: service for name, service in SERVICES.items() if name != "migrate"}
WORKERS = {name: service for name, service in OURS.items() if "worker" in service["command"]}
MONITORING = {"prometheus", "grafana", "flower"}


def option(command: list[str], name: str) -> str:
    [value] = [word.partition("=")[2] for word in command if word.startswith(f"--{name}=")]
    return value


class TestTheImage:
    def test_is_built_in_two_stages_from_a_version(self):
        stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

        assert len(stages) == 2
        assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", stage) for stage in stages)

    def test_takes_only_wheels_whose_hashes_are_known(self):
        [install] = re.findall(r"pip install .*", DOCKERFILE)

        assert "--require-hashes" in install
        assert "--only-binary=:all:" in install
        assert install.endswith("requirements.txt")

    def test_runs_as_nobody_in_particular(self):
        *_, user = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)

        assert user == "10001:10001"
        assert DOCKERFILE.index("collectstatic") < DOCKERFILE.index("USER ")

    def test_is_given_what_it_copies_and_nothing_else(self):
        let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

        assert let_in == {*copied_by_the_image(), "requirements.txt"}
        assert "\n*\n" in (ROOT / ".dockerignore").read_text()

    def test_is_not_given_secrets_that_lie_inside_what_it_copies(self):
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        last_let_in = max(number for number, line in enumerate(lines) if line.startswith("!"))

        assert {"**/.*", "**/*.pem", "**/*.key", "**/*.p12"} <= set(lines[last_let_in:])

    def test_may_be_read_by_its_user_whatever_the_checkout_was_made_with(self):
        assert "chmod -R u=rwX,go=rX /opt/loyalty" in DOCKERFILE

    def test_is_a_web_server_unless_told_otherwise(self):
        [command] = re.findall(r"^CMD (.*)", DOCKERFILE, re.MULTILINE)

        assert json.loads(command) == OURS["web"]["command"]

    def test_has_the_client_of_the_database_that_compose_starts(self):
        [version] = re.findall(r"postgresql-client-(\d+)", DOCKERFILE)

        assert SERVICES["db"]["image"] == f"postgres:{version}"


class TestCompose:
    def test_takes_from_the_environment_what_the_example_names(self):
        assert read_by_compose() <= example_lines().keys()

    @pytest.mark.parametrize("name", OURS)
    def test_gives_our_processes_variables_that_there_are(self, name):
        given = {re.sub(r"_FILE$", "", variable) for variable in OURS[name]["environment"]}

        assert given <= example_lines().keys() | set(NAMES)
        assert OURS[name]["env_file"] == ".env"

    @pytest.mark.parametrize("name", SERVICES)
    def test_names_images_with_their_version(self, name):
        _, _, tag = SERVICES[name]["image"].partition(":")

        assert tag == "local" if name in OURS else re.search(r"\d", tag)

    @pytest.mark.parametrize("name", LASTING)
    def test_starts_again_what_falls_and_gives_it_time_to_end(self, name):
        assert LASTING[name]["restart"] == "unless-stopped"
        assert seconds_of(LASTING[name]["stop_grace_period"]) >= 30

    @pytest.mark.parametrize("name", LASTING)
    def test_asks_each_for_its_health(self, name):
        assert "test" in LASTING[name]["healthcheck"] or name == "beat"

    def test_migrates_once_before_anything_of_ours_starts(self):
        assert SERVICES["migrate"]["restart"] == "no"
        for name in OURS.keys() - {"migrate"}:
            assert OURS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}

    def test_has_a_worker_for_each_queue_and_one_beat(self):
        assert sorted(option(worker["command"], "queues") for worker in WORKERS.values()) == sorted(QUEUES)
        assert [name for name, service in OURS.items() if "beat" in service["command"]] == ["beat"]

    def test_has_one_name_for_the_database_everywhere(self):
        name = "${POSTGRES_DATABASE:-loyalty}"

        assert SERVICES["db"]["environment"]["POSTGRES_DB"] == name
        assert f"--dbname={name}" in SERVICES["db"]["healthcheck"]["test"]
        assert all(service["environment"]["DATABASE_URL"].endswith(f"/{name}") for service in OURS.values())

    def test_asks_the_database_where_only_the_one_that_stays_listens(self):
        assert "--host=127.0.0.1" in SERVICES["db"]["healthcheck"]["test"]

    def test_has_a_broker_that_keeps_what_it_is_given(self):
        words = shlex.join(SERVICES["broker"]["command"])

        assert "--maxmemory-policy noeviction" in words
        assert "--appendonly yes" in words

    def test_opens_ports_to_this_host_alone(self):
        ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

        assert len(ports) == 4
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_has_what_watches_in_a_profile(self):
        assert {name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]} == MONITORING

    @pytest.mark.parametrize(
        ("name", "variable", "refused", "taken"),
        [
            ("grafana", "GF_SECURITY_ADMIN_PASSWORD", ["", None], "secret"),
            ("flower", "FLOWER_LOGIN", ["", None, "ana", "ana:", ":secret"], "ana:secret"),
        ],
    )
    def test_starts_nothing_that_has_no_password(self, tmp_path, name, variable, refused, taken):
        (tmp_path / "started").write_text("#!/bin/sh\necho started\n")
        (tmp_path / "started").chmod(0o755)
        script = [word.replace("$$", "$").replace("/run.sh", "./started") for word in SERVICES[name]["entrypoint"]]

        def ends_with(password: str | None) -> tuple[int, bool]:
            given = {} if password is None else {variable: password}
            done = subprocess.run([*script, "./started"], cwd=tmp_path, env=given, capture_output=True, check=False)
            return done.returncode, done.stdout == b"started\n"

        assert {ends_with(password) for password in refused} == {(1, False)}
        assert ends_with(taken) == (0, True)
        assert variable in SERVICES[name]["environment"]

    def test_gives_our_processes_no_rights(self):
        for service in OURS.values():
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["read_only"] is True

    def test_keeps_data_in_volumes_that_are_declared(self):
        named = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}

        assert {name for name in named if not name.startswith("./")} == COMPOSE["volumes"].keys()
        assert all((ROOT / name).is_dir() for name in named if name.startswith("./"))

    def test_configures_prometheus_as_the_alerts_expect(self):
        config = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])

        [job] = config["scrape_configs"]
        assert (job["job_name"], job["static_configs"]) == ("loyalty", [{"targets": ["web:8000"]}])
        assert config["rule_files"] == ["/etc/prometheus/loyalty/*.yml"]


class TestSecretsAsFiles:
    PAGE = (ROOT / "docs" / "deployment.md").read_text().partition("## One host with compose")[2].partition("\n## ")[0]

    def block(self, kind: str) -> str:
        [found] = re.findall(rf"^```{kind}\n(.*?)^```", self.PAGE, re.MULTILINE | re.DOTALL)
        return str(found)

    def test_reach_each_of_our_processes(self):
        services = yaml.safe_load(self.block("yaml"))["services"]
        mount = "/etc/loyalty/secrets:/run/secrets/loyalty:ro"

        assert services == {name: {"volumes": [mount]} for name in OURS}

    def test_are_all_secrets_that_compose_does_not_give_itself(self):
        files = dict(line.split("=", 1) for line in self.block("ini").splitlines())
        given = {name for service in OURS.values() for name in service["environment"]} | read_by_compose()
        needed = {"SECRET_KEY", "PIN_PEPPER", "EMAIL_URL", "WALLET_TOKEN_KEYS", "WALLET_ENCRYPTION_KEYS"}

        assert {name.removesuffix("_FILE") for name in files} == needed
        assert needed <= set(NAMES) - given
        assert all(path.startswith("/run/secrets/loyalty/") for path in files.values())


def environment_of(name: str, **ours: str) -> dict[str, str]:
    """What compose would give to a service, with our engines in place of its own."""
    values = {**PRODUCTION, "POSTGRES_PASSWORD": "secret", "POSTGRES_DATABASE": "loyalty"}
    given = {
        variable: re.sub(r"\$\{([A-Z_]+)[^}]*\}", lambda match: values[match[1]], value)
        for variable, value in OURS[name]["environment"].items()
    }
    return {**given, **ours}


def here(command: list[str], port: int) -> list[str]:
    return [
        word.replace("0.0.0.0:8000", f"127.0.0.1:{port}").replace("localhost:8000", f"localhost:{port}")
        for word in command
    ]


def test_the_commands_of_compose_make_an_installation_that_is_ready_for_customers(tmp_path, smtp_server):
    port = free_port()
    sealing = Fernet.generate_key().decode()
    with installation(tmp_path, **PRODUCTION, WALLET_ENCRYPTION_KEYS=sealing) as site:
        engines = {name: site.environment[name] for name in ("DATABASE_URL", "REDIS_URL")}
        given = {name: environment_of(name, **engines) for name in OURS}
        given["web"]["EMAIL_URL"] = f"smtp://{smtp_server.host}:{smtp_server.port}"
        given["web"]["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "metrics")

        [collect] = re.findall(r"python manage\.py collectstatic --noinput", DOCKERFILE)
        site.succeed(collect.split(), SECRET_KEY="not-kept", PIN_PEPPER="not-kept")
        site.succeed(OURS["migrate"]["command"], **given["migrate"])
        for name in OURS.keys() - {"migrate"}:
            site.start(name, here(OURS[name]["command"], port), **given[name])
        site.send_the_heartbeat_soon()
        # What an operator does meanwhile.
        site.succeed(
            ["python", "manage.py", "createsuperuser", "--noinput", "--username=staff", "--email=staff@bakery.test"],
            DJANGO_SUPERUSER_PASSWORD="correct-horse-battery",
        )
        site.succeed(["python", "manage.py", "shell", "-c", A_MERCHANT])
        backups = tmp_path / "backups"
        backups.mkdir()
        site.succeed(["python", "manage.py", "backup_database", str(backups / "loyalty.dump")])

        health = SERVICES["web"]["healthcheck"]["test"]
        site.wait("the health check of web", lambda: site.run(here(health[1:], port), **given["web"]).returncode == 0)
        site.wait("the heartbeat", site.has_a_heartbeat)
        asked = SERVICES["worker-wallet"]["healthcheck"]["test"][1].replace("$$", "$")
        site.succeed(["sh", "-c", asked], **given["worker-wallet"])
        token = {"Host": "web:8000", "Authorization": f"Bearer {PRODUCTION['METRICS_TOKEN']}"}
        status, metrics = site.ask(port, "/metrics", **token)
        assert (status, b"loyalty_job_last_success_timestamp_seconds{" in metrics) == (200, True)

        check = ["python", "manage.py", "launch_check", "--backups", str(backups)]
        checked = site.run(check, **given["web"])
        assert (checked.returncode, codes(checked.stdout)) == (1, {"apple_off", "google_off"}), checked.stdout
        ready = site.run([*check, "--without=apple", "--without=google"], **given["web"])
        assert (ready.returncode, ready.stdout) == (0, "Ready.\n")
        assert site.succeed(["python", "manage.py", "check_health"], **given["web"]) == "Healthy.\n"

        for name in site.processes:
            assert site.stop(name, seconds=seconds_of(SERVICES[name]["stop_grace_period"])) == 0
