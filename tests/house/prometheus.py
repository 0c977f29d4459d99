"""The rules in docs/alerts as data, and the tools of Prometheus that check them."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from loyalty_site.metrics import counters
from loyalty_site.metrics.collecting import STATES
from tests.house.tools import tool

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docs" / "alerts"
EXAMPLES = RULES / "examples"
UNIT_TESTS = Path(__file__).parent / "alerts"
Rule = dict[str, Any]


def run(name: str, *arguments: str | Path) -> str:
    """What a tool says when it is content.

    Raises:
        AssertionError: it is not; the message is what it says.
    """
    done = subprocess.run([tool(name), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def rule_files() -> dict[Path, list[dict[str, Any]]]:
    """The groups of each file."""
    return {path: yaml.safe_load(path.read_text())["groups"] for path in sorted(RULES.glob("*.yml"))}


def rules() -> list[Rule]:
    return [rule for groups in rule_files().values() for group in groups for rule in group["rules"]]


def alerts() -> list[Rule]:
    return [rule for rule in rules() if "alert" in rule]


@cache
def unit_tests() -> dict[Path, dict[str, Any]]:
    return {path: yaml.safe_load(path.read_text()) for path in sorted(UNIT_TESTS.glob("*.yml"))}


def asks_about(question: dict[str, Any], alert: str) -> bool:
    """Whether a question of a unit test covers an alert."""
    [(sign, named)] = re.findall(r'alertname(=|=~|!~)"([^"]+)"', question["expr"])
    is_named = re.fullmatch(named, alert) is not None
    return not is_named if sign == "!~" else is_named


@cache
def known_metrics() -> frozenset[str]:
    """Every name under which a series of ours can be asked for."""
    counted = {sample for metric in counters.COUNTED for sample in _samples(metric._name, metric._type)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return frozenset({state.name for state in STATES} | counted | recorded)


def _samples(name: str, kind: str) -> list[str]:
    return [f"{name}_bucket", f"{name}_sum", f"{name}_count"] if kind == "histogram" else [f"{name}_total"]


def named_metrics(expression: str) -> set[str]:
    """What an expression asks for, label names and values apart."""
    bare = re.sub(r"\{[^}]*\}|\b(?:by|on|without)\s*\([^)]*\)", "", expression)
    return set(re.findall(r"\bloyalty[_:][a-z0-9_:]+", bare))
