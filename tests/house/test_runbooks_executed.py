"""Every command of every runbook, run in the situation that its section is about, prints what the page shows."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.fakes.celery_process import broker
from tests.house.runbook_pages import INDEX, OURS, Section, pattern, sections
from tests.house.runbook_runner import asks_a_worker, filled, needs_processes, run
from tests.house.runbook_stages import STAGES, Stage, set_the_stage
from tests.wallet.conftest import (  # noqa: F401  what the stages of the wallet's pages take
    apns,
    apple_credential,
    google,
    google_credential,
    intermediate,
    pki,
    wallet_settings,
)


def cases() -> Iterator[object]:
    for page in (INDEX.name, *OURS):
        for section in sections(page):
            if section.commands:
                commits = any(needs_processes(command.text) for command in section.commands)
                marks = pytest.mark.django_db(transaction=commits)
                yield pytest.param(section, marks=marks, id=section.name)


@pytest.fixture
def scene(request, settings, monkeypatch, tmp_path) -> Iterator[Stage]:
    with broker() as client:
        client.flushdb()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with ExitStack() as stack:
        yield Stage(request, settings, monkeypatch, tmp_path, stack)


@pytest.mark.parametrize("section", list(cases()))
def test_a_section_does_what_it_shows(section: Section, scene: Stage):
    set_the_stage(section.page, section.heading, scene)

    for command in section.commands:
        if scene.between:
            scene.between()
        output, code = run(filled(command.text, scene.values))

        assert command.output is not None
        shown = filled(command.output, scene.values)
        assert pattern(shown).fullmatch(output), f"{command.text}\n--- printed\n{output}--- the page shows\n{shown}"
        assert code == command.exit_code, command.text
        if scene.before_next and asks_a_worker(command.text):
            scene.before_next()


def test_each_stage_belongs_to_a_section():
    headings = {(section.page, section.heading) for page in OURS for section in sections(page)}

    assert {where for where in STAGES if where[1]} <= headings
