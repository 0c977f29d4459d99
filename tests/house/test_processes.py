"""The site of `make run` ends with what it cannot be without, and with nothing else."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest

from loyalty_site import processes
from loyalty_site.management.commands.run import Command
from loyalty_site.processes import Site, child, running_site
from tests.fakes.celery_process import ROOT

SHOW = "from loyalty_site import settings; print(settings.PUBLIC_URL)"


@pytest.fixture(autouse=True)
def _data_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "LOCAL", tmp_path)
    monkeypatch.delenv("PORT", raising=False)


def start(site: Site, stack: ExitStack, name: str, program: str) -> None:
    command = [sys.executable, "-c", program]
    site._processes[name] = stack.enter_context(child(command, dict(os.environ), site.logs / f"{name}.log"))


@pytest.mark.parametrize("name", ["wallet-platforms", "mail"])
def test_a_stand_in_that_ends_is_told_of_and_the_site_goes_on(name, tmp_path):
    told: list[str] = []
    with ExitStack() as stack:
        site = Site(stack)
        start(site, stack, name, "")
        start(site, stack, "web", "import time; time.sleep(2)")

        assert site.wait(told.append) == "web"

    log = tmp_path / "logs" / f"{name}.log"
    assert told == [f"{name} has ended; {log} says why. The site goes on without it."]


def test_stand_ins_that_do_not_start_do_not_keep_the_site_from_it(tmp_path, capsys):
    (tmp_path / "wallet").mkdir()
    (tmp_path / "wallet" / "phone").write_text("no folder")

    with running_site() as site:
        Command()._start_wallet_platforms(site)

    log = tmp_path / "logs" / "wallet-platforms.log"
    sentence = f"The stand-ins of Apple and Google did not start; {log} says why. The site goes on without them.\n"
    assert capsys.readouterr().out == sentence


def test_the_stand_ins_say_where_the_site_is_while_it_runs(tmp_path):
    written = tmp_path / "wallet" / "environment"
    with running_site() as site:
        site.start_wallet_platforms()
        assert f"PUBLIC_URL={site.address}\n" in written.read_text()
        assert written.stat().st_mode & 0o777 == 0o600

    assert not written.exists()


def test_what_another_site_has_put_there_stays(tmp_path):
    written = tmp_path / "wallet" / "environment"
    with running_site() as site:
        site.start_wallet_platforms()
        written.write_text("PUBLIC_URL=http://127.0.0.1:8318\n")

    assert written.exists()


def test_commands_of_a_development_installation_know_where_the_site_is(tmp_path):
    shutil.copytree(ROOT / "loyalty_site", tmp_path / "loyalty_site")
    written = tmp_path / ".local" / "wallet" / "environment"
    written.parent.mkdir(parents=True)
    written.write_text("PUBLIC_URL=http://127.0.0.1:8317\n")

    def shown(**changes: str) -> str:
        others = {name: value for name, value in os.environ.items() if name != "PUBLIC_URL"}
        environment = {**others, "DEVELOPMENT": "true", **changes}
        return subprocess.check_output([sys.executable, "-c", SHOW], cwd=tmp_path, env=environment, text=True).strip()

    assert shown() == "http://127.0.0.1:8317"
    assert shown(PUBLIC_URL="https://loyalty.example.com") == "https://loyalty.example.com"
    assert shown(DEVELOPMENT="false", SECRET_KEY="x" * 50) == "http://localhost:8000"
