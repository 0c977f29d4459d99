"""docs/monitoring.md names every metric, alert and log event that there is, and no other."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from loyalty_site.findings.ledger import LAST_RUN
from loyalty_site.metrics import counters
from loyalty_site.metrics.collecting import STATES
from tests.house.prometheus import ROOT, alerts

PAGE = (ROOT / "docs" / "monitoring.md").read_text()
PACKAGES = ("loyalty_site", "loyalty", "wallet", "notifications")
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
EVENT = re.compile(r"(?:loyalty_site|loyalty|wallet|notifications)\.[a-z0-9]+(?:_[a-z0-9]+)+")
# What our processes say through libraries, which the page explains beside the table.
OF_LIBRARIES = {"request_started", "request_finished", "request_failed", "task_succeeded", "task_failed"}


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the table below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def words(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


class TestMetrics:
    def test_are_those_of_the_code(self):
        on_page = {
            words(name)[0]: (kind, words(labels), meaning) for name, kind, labels, meaning, _ in table("Metrics")
        }
        of_code = {
            **{s.name: ("counter" if s.counts else "gauge", tuple(s.labels), s.help) for s in STATES},
            **{
                m._name + ("" if m._type == "histogram" else "_total"): (m._type, m._labelnames, m._documentation)
                for m in counters.COUNTED
            },
        }

        assert on_page == of_code

    def test_say_how_they_are_read(self):
        assert all(len(how) > 10 for *_, how in table("Metrics"))


class TestAlerts:
    def test_are_those_of_the_rules(self):
        on_page = [
            (words(name)[0], severity, lasting, words(page)) for name, severity, _, lasting, page in table("Alerts")
        ]
        of_rules = [
            (
                rule["alert"],
                rule["labels"]["severity"],
                rule.get("for", ""),
                (rule["annotations"]["runbook_url"].removeprefix("docs/runbooks/").partition("#")[0],),
            )
            for rule in alerts()
        ]

        assert sorted(on_page) == sorted(of_rules)

    def test_say_when_they_fire(self):
        assert all(len(when) > 10 for _, _, when, _, _ in table("Alerts"))


class TestFindings:
    def test_stand_beside_each_alert(self):
        on_page = [words(name)[0] for name, _ in finding_rows() if "Loyalty" in name]

        assert sorted(on_page) == sorted({rule["alert"] for rule in alerts()})

    def test_are_those_of_the_code(self):
        on_page = {code for row in finding_rows() for cell in row for code in words(cell) if CODE.fullmatch(code)}

        assert on_page == {code for path in FINDINGS for code in codes_in(ast.parse(path.read_text()))}

    def test_are_missing_for_a_reason(self):
        assert all(words(found) or found.startswith("none: ") for name, found in finding_rows() if "Loyalty" in name)


FINDINGS = sorted((ROOT / "loyalty_site" / "findings").glob("*.py"))
CODE = re.compile(r"[a-z]+(?:_[a-z]+)+")


def finding_rows() -> list[list[str]]:
    return [row for row in table("Without Prometheus") if len(row) == 2]


def codes_in(module: ast.Module) -> Iterator[str]:
    """The first argument of each Finding: one name, one of two, or one for each status of an expiration run."""
    for call in ast.walk(module):
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "Finding":
            continue
        if isinstance(call.args[0], ast.JoinedStr):
            yield from (f"expiration_{status}" for status in LAST_RUN)
        else:
            yield from (str(part.value) for part in ast.walk(call.args[0]) if isinstance(part, ast.Constant))


class Said(NamedTuple):
    """A call of a logger: the events it may be about, at which levels, with which fields."""

    events: frozenset[str]
    levels: frozenset[str]
    fields: frozenset[str]
    has_more_fields: bool
    where: str


@cache
def everything_said() -> list[Said]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [said for path in paths for said in said_in(path, ast.parse(path.read_text()))]


def said_in(path: Path, module: ast.Module) -> Iterator[Said]:
    loggers = {
        target.id
        for node in ast.walk(module)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("structlog.get_logger(")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    functions = [node for node in ast.walk(module) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for scope in functions:
        for call in ast.walk(scope):
            if isinstance(call, ast.Call) and (levels := levels_of(call.func, scope, loggers)):
                yield Said(
                    frozenset(events_of(call.args[0], scope, module)),
                    frozenset(LEVELS[level] for level in levels),
                    frozenset(keyword.arg for keyword in call.keywords if keyword.arg),
                    any(keyword.arg is None for keyword in call.keywords),
                    f"{path.relative_to(ROOT)}:{call.lineno}",
                )


Scope = ast.FunctionDef | ast.AsyncFunctionDef


def levels_of(function: ast.expr, scope: Scope, loggers: set[str]) -> set[str]:
    """The methods of a logger that a call may mean; none when it is no call of a logger."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in loggers:
        return {function.attr} & LEVELS.keys()
    if isinstance(function, ast.IfExp):
        return levels_of(function.body, scope, loggers) | levels_of(function.orelse, scope, loggers)
    if isinstance(function, ast.Name):
        return {level for value in assigned(function.id, scope) for level in levels_of(value, scope, loggers)}
    return set()


def events_of(argument: ast.expr, scope: Scope, module: ast.Module) -> set[str]:
    """The names that an argument may have: written here, chosen between two, or given by callers in the module."""
    if isinstance(argument, ast.Constant):
        return {str(argument.value)}
    if isinstance(argument, ast.IfExp):
        return events_of(argument.body, scope, module) | events_of(argument.orelse, scope, module)
    if not isinstance(argument, ast.Name):
        return set()
    values = assigned(argument.id, scope) + given(argument.id, scope, module)
    return {event for value in values for event in events_of(value, scope, module)}


def assigned(name: str, scope: Scope) -> list[ast.expr]:
    nodes = [node for node in ast.walk(scope) if isinstance(node, ast.Assign)]
    return [node.value for node in nodes if any(isinstance(t, ast.Name) and t.id == name for t in node.targets)]


def given(name: str, scope: Scope, module: ast.Module) -> list[ast.expr]:
    """What callers pass as this argument of the function."""
    names = [argument.arg for argument in scope.args.args]
    if name not in names:
        return []
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and ast.unparse(node.func) == scope.name]
    return [call.args[names.index(name)] for call in calls if len(call.args) > names.index(name)]


class TestLogEvents:
    @pytest.mark.parametrize("said", everything_said(), ids=lambda said: said.where)
    def test_have_names_that_can_be_read_in_the_code(self, said):
        assert said.events
        assert not [event for event in said.events if not EVENT.fullmatch(event)]

    def test_are_those_of_the_code(self):
        on_page = [words(event)[0] for event, *_ in table("Log events")]
        in_code = {event for said in everything_said() for event in said.events}

        assert sorted(on_page) == sorted(in_code)

    @pytest.mark.parametrize("row", table("Log events"), ids=lambda row: words(row[0])[0])
    def test_have_the_level_and_the_fields_of_the_page(self, row):
        event, levels, fields, meaning = row
        said = [said for said in everything_said() if words(event)[0] in said.events]

        assert set(levels.split(", ")) == set().union(*(one.levels for one in said))
        named = set().union(*(one.fields for one in said))
        if any(one.has_more_fields for one in said):
            assert set(words(fields)) > named
        else:
            assert set(words(fields)) == named
        assert meaning.endswith(".")
        assert len(meaning) > 15

    def test_stand_in_the_order_of_their_names(self):
        named = [words(event)[0] for event, *_ in table("Log events")]

        assert named == sorted(named)

    def test_never_carry_what_names_a_person(self):
        fields = set().union(*(said.fields for said in everything_said()))

        assert not fields & {"name", "email", "phone", "pin", "token", "payload", "recipient", "display_name", "secret"}

    def test_of_libraries_are_explained(self):
        assert {name for name in OF_LIBRARIES if f"`{name}`" not in PAGE} == set()
