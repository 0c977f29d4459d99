"""Every command of the page about backups, in its order, against a system that is backed up, lost and restored."""

import os
from contextlib import ExitStack

import pytest
from django.db import connection
from django.utils import timezone

from loyalty_site.backup import clients
from notifications.models import Message
from tests.factories import make_cards, make_merchant
from tests.fakes.celery_process import database_url
from tests.house.runbook_pages import Command, Section, pattern, sections
from tests.house.runbook_runner import filled, run
from tests.house.runbook_stages.staging import NEARLY_IDLE, Stage, expire, well
from tests.house.test_backup import Elsewhere, erase
from tests.loyalty.personal import live

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "backup-and-restore.md"


@pytest.fixture
def values(tmp_path):
    backups = tmp_path / "backups"
    backups.mkdir()
    place = Elsewhere()
    return {
        "BACKUPS": str(backups),
        "FILE": "loyalty-2026-03-31.dump",
        # The role of the tests may create databases, and there is no sudo.
        "sudo -u postgres psql": f"psql {database_url()}",
        "points": connection.settings_dict["USER"],
        "RESTORED": place.url,
        "NEWNAME": place.name,
    }


def follow(command: Command, values: dict[str, str]) -> None:
    """Do as the page says, and compare what comes with what the page shows."""
    output, code = run(filled(command.text, values))

    assert code == command.exit_code, output
    assert pattern(filled(command.output or "", values)).fullmatch(output), output


def section(name: str) -> Section:
    return next(one for one in sections(PAGE) if one.heading == name)


@pytest.fixture
def psql(transactional_db, monkeypatch):
    """The reader has PostgreSQL's client programs; a machine for development may have them in a wheel only."""
    monkeypatch.setenv("PATH", f"{clients._fitting('psql').parent}{os.pathsep}{os.environ['PATH']}")


def test_the_commands_of_the_page(values, psql, request, settings, monkeypatch, tmp_path):
    well(Stage(request, settings, monkeypatch, tmp_path, ExitStack()))
    life = live()
    make_cards(make_merchant(), 1, at=timezone.now() - NEARLY_IDLE)
    expire()
    values["KIND"] = Message.objects.waiting().get().kind
    done = set()
    for name in ("Back up", "Look first", "Restore", "Check it worked", "Undo"):
        for command in section(name).commands:
            follow(command, values)
            done.add(command)
        if name == "Back up":
            # Between the backup and the loss, as somebody who follows the second step of a restore would find it.
            erase(life.customer)
            follow(section("Back up").commands[1], values)

    assert done == {command for one in sections(PAGE) for command in one.commands}
