"""Rules that are wrong in one place: a mutant that no unit test notices is a missing test."""

import copy
import re
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.house import prometheus, tools
from tests.house.prometheus import Rule, rule_files, unit_tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLED_AT_LEAST = 0.95
LABELS = r"\{[^}]*\}"
NUMBER = re.compile(rf"vector\(1\)|{LABELS}|\[[^]]*\]|offset \w+|[a-z_:][\w:]*|(\d+(?:\.\d+)?)")
# What an operator is replaced with.
SWAPPED = {
    r" >= ": (" > ",),
    r" > ": (" >= ", " < "),
    r" < ": (" <= ", " > "),
    r" == ": (" != ",),
    r"\band\b": ("or", "unless"),
    r"\bor\b": ("and",),
    r"\bunless\b": ("and", "or"),
    r"\bmax\b": ("min",),
    r"\bmin\b": ("max",),
    r"\bsum\b": ("max",),
    r" - ": (" + ",),
    r" / ": (" * ",),
    r"\[5m\]": ("[20m]",),
    r"\[30m\]": ("[1h]",),
    r"\[1h\]": ("[30m]", "[2h]"),
    r"\[6h\]": ("[3h]", "[12h]"),
    r"min_over_time\b": ("max_over_time",),
    r"offset 1h": ("offset 30m", "offset 2h", ""),
}


class Mutant(NamedTuple):
    """A file of rules with one mistake in it."""

    path: Path
    rule: str
    mistake: str
    groups: list[dict[str, Any]]


def mutants() -> Iterator[Mutant]:
    for path, groups in rule_files().items():
        for number, group in enumerate(groups):
            for place, rule in enumerate(group["rules"]):
                for mistake, wrong in mistakes(rule):
                    mutated = copy.deepcopy(groups)
                    mutated[number]["rules"][place] = wrong
                    yield Mutant(path, rule.get("alert") or rule["record"], mistake, mutated)


def mistakes(rule: Rule) -> Iterator[tuple[str, Rule]]:
    for mistake, expression in wrong_expressions(rule["expr"]):
        yield mistake, {**rule, "expr": expression}
    if "for" in rule:
        yield "without for", {name: value for name, value in rule.items() if name != "for"}
        number, unit = re.fullmatch(r"(\d+)(\w)", rule["for"]).groups()  # type: ignore[union-attr]
        yield "for twice as long", {**rule, "for": f"{int(number) * 2}{unit}"}
    elif "alert" in rule:
        yield "for a minute", {**rule, "for": "1m"}
    for label, value in rule.get("labels", {}).items():
        yield f"{label} another", {**rule, "labels": {**rule["labels"], label: f"not {value}"}}
        yield f"{label} missing", {**rule, "labels": {k: v for k, v in rule["labels"].items() if k != label}}


def wrong_expressions(expression: str) -> Iterator[tuple[str, str]]:
    for found in NUMBER.finditer(expression):
        if found[1]:
            for wrong in near(float(found[1])):
                yield changed(expression, found.span(1), f"{wrong:g}")
    for pattern, replacements in SWAPPED.items():
        for found in re.finditer(pattern, expression):
            for replacement in replacements:
                yield changed(expression, found.span(), replacement)
    for labels in re.finditer(LABELS, expression):
        for matcher in re.finditer(r'\w+=~?"[^"]*",?', labels[0]):
            begin = labels.start() + matcher.start()
            yield changed(expression, (begin, begin + len(matcher[0])), "")


def near(number: float) -> tuple[float, ...]:
    """A little more and a little less. What is counted in ones is wrong by one."""
    return (number + 1, number - 1) if number in range(10) else (number * 1.1, number * 0.9)


def changed(expression: str, span: tuple[int, int], replacement: str) -> tuple[str, str]:
    begin, end = span
    wrong = expression[:begin] + replacement + expression[end:]
    shown = f"{expression[max(0, begin - 30) : begin]}[{expression[begin:end]} -> {replacement}]{expression[end:][:20]}"
    return " ".join(shown.split()), wrong


def survives(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "rules.yml").write_text(yaml.safe_dump({"groups": mutant.groups}))
        for number, tests in enumerate(unit_tests_for(mutant)):
            tested = Path(folder, f"tests{number}.yml")
            tested.write_text(yaml.safe_dump({**tests, "rule_files": ["rules.yml"]}))
            command = [tools.tool("promtool"), "test", "rules", str(tested)]
            if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode:
                return False
    return True


def unit_tests_for(mutant: Mutant) -> Iterator[dict[str, Any]]:
    """The unit tests that ask about an alert of the mutated file, questions about others left out."""
    there = [rule["alert"] for group in mutant.groups for rule in group["rules"] if "alert" in rule]
    concerned = [mutant.rule] if mutant.rule in there else there
    for tests in unit_tests().values():
        chosen = []
        for test in tests["tests"]:
            asked = [q for q in test["promql_expr_test"] if any(prometheus.asks_about(q, name) for name in concerned)]
            if asked:
                chosen.append({**test, "promql_expr_test": asked})
        if chosen:
            yield {**tests, "tests": chosen}


def test_a_rule_that_is_wrong_in_one_place_fails_a_test():
    tools.tool("promtool")
    made = list(mutants())
    with ThreadPoolExecutor(2) as pool:
        survivors = [mutant for mutant, alive in zip(made, pool.map(survives, made), strict=True) if alive]
    killed = len(made) - len(survivors)
    print(f"\nAlerts: {killed} of {len(made)} mutants killed, {killed / len(made):.1%}")
    for mutant in survivors:
        print(f"  alive: {mutant.path.name} {mutant.rule}: {mutant.mistake}")
    assert killed >= KILLED_AT_LEAST * len(made)
