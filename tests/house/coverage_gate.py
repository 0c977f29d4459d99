"""A pytest plugin: the whole suite fails when it takes too few branches of the verbs and of the tasks.

It works on what pytest-cov has combined from all workers and from the processes that tests start, so it wraps the
test loop outside pytest-cov. It rests in runs of a part of the suite, which could only fail.
"""

import json
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

GATED = ["*/services/**/*.py", "*/services.py", "*/tasks.py"]
REQUIRED_PERCENT = 90
# Tests of doors and of the house: what they reach of the verbs, tests of the verbs have reached before, and they take
# twice as long when they are measured.
UNMEASURED = ("browser", "fuzz", "house", "loyalty/admin", "loyalty/api", "wallet/admin", "wallet/api")
IN_PROCESSES = "COVERAGE_PROCESS_CONFIG"  # by which coverage measures what a test starts
# Options that leave tests out.
NARROWING = ("keyword", "markexpr", "lf", "stepwise", "deselect", "ignore", "ignore_glob", "collectonly")


class Branches(NamedTuple):
    """How many branches there are and were taken, and the files with the most that were not."""

    taken: int
    of: int
    missing: list[tuple[str, int]]

    @property
    def suffice(self) -> bool:
        return self.of > 0 and self.taken * 100 >= self.of * REQUIRED_PERCENT

    @property
    def sentence(self) -> str:
        percent = self.taken * 100 / self.of if self.of else 0
        sentence = f"Branches of services and tasks: {self.taken} of {self.of} taken, {percent:.1f} %"
        if self.suffice:
            return sentence
        files = ", ".join(f"{count} in {name}" for name, count in self.missing[:10])
        return f"{sentence}, which is below {REQUIRED_PERCENT} %. Not taken: {files or 'nothing was measured'}."


found = pytest.StashKey[Branches]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    result = yield
    if _is_whole(session.config) and (measured := _measured(session.config)):
        branches = session.config.stash[found] = _count(measured)
        if not branches.suffice:
            # pytest looks at this number when it chooses its exit status.
            session.testsfailed += 1
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    # Workers are measured by pytest-cov. As processes that are started here they would be by coverage itself as well.
    os.environ.pop(IN_PROCESSES, None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let a worker measure once: pytest-cov begins a second measurement there on top of its first, which would go on
    whenever the second rests."""
    if hasattr(session.config, "workerinput") and (controller := _controller(session.config)):
        controller.cov.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    controller = _controller(item.config)
    if controller is None or not _is_unmeasured(item):
        return (yield)
    controller.pause()
    for_processes = os.environ.pop(IN_PROCESSES, None)
    try:
        return (yield)
    finally:
        if for_processes:
            os.environ[IN_PROCESSES] = for_processes
        controller.resume()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if branches := config.stash.get(found, None):
        colour = {"green": True} if branches.suffice else {"red": True, "bold": True}
        terminalreporter.write_line(branches.sentence, **colour)


def _is_whole(config: pytest.Config) -> bool:
    """Whether this process leads a run of all tests, not a worker's share or a choice of them."""
    # What every run leaves out is no choice of this one.
    always = config.getini("addopts")
    asked_for = [config.getoption(name, None) for name in NARROWING]
    if hasattr(config, "workerinput") or any(value and value not in always for value in asked_for):
        return False
    asked = {(config.invocation_params.dir / argument).resolve() for argument in config.args}
    return asked == {(config.rootpath / folder).resolve() for folder in config.getini("testpaths")}


def _measured(config: pytest.Config) -> coverage.Coverage | None:
    """The combined data of pytest-cov, or nothing when it was told not to measure."""
    controller = _controller(config)
    return controller.cov if controller else None


def _controller(config: pytest.Config) -> Any:
    return getattr(config.pluginmanager.getplugin("_cov"), "cov_controller", None)


def _is_unmeasured(item: pytest.Item) -> bool:
    [tests] = item.config.getini("testpaths")
    return any(item.path.is_relative_to(item.config.rootpath / tests / folder) for folder in UNMEASURED)


def _count(measured: coverage.Coverage) -> Branches:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        try:
            measured.json_report(outfile=str(report), include=GATED, ignore_errors=True)
        except coverage.exceptions.NoDataError:
            return Branches(0, 0, [])
        measures = json.loads(report.read_text())
    totals = measures["totals"]
    if "num_branches" not in totals:  # no line of the product ran
        return Branches(0, 0, [])
    missing = [(name, file["summary"]["missing_branches"]) for name, file in measures["files"].items()]
    return Branches(
        totals["covered_branches"],
        totals["num_branches"],
        sorted((pair for pair in missing if pair[1]), key=lambda pair: (-pair[1], pair[0])),
    )
