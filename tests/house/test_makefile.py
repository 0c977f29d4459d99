"""`make` is how everybody begins: its targets are described, and what CI asks for is there."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE)


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_every_target_is_described_and_no_file():
    assert re.findall(r"^([a-z][a-z-]*):.*## \S", MAKEFILE, re.MULTILINE) == TARGETS
    assert re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE) == TARGETS


def test_make_alone_lists_the_targets():
    assert re.findall(r"^  make (\S+)", make(), re.MULTILINE) == TARGETS


def test_the_targets_that_ci_asks_for_exist():
    asked = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)

    assert {"check", "demo", "test"} <= set(asked) <= set(TARGETS)


def test_every_target_but_those_two_installs_first():
    without = {target for target in TARGETS if not re.search(rf"^{target}: venv\b", MAKEFILE, re.MULTILINE)}

    assert without == {"help", "venv", "clean"}


def test_check_runs_everything_and_no_recipe_hides_a_failure():
    check = make("--dry-run", "--always-make", "check")
    tools = ("ruff check", "ruff format --check", "mypy", "lint-imports", "makemigrations --check", "manage.py check")
    recipes = re.findall(r"^\t(.*)$", MAKEFILE, re.MULTILINE)

    assert not [tool for tool in tools if tool not in check]
    assert not [line for line in recipes if line.lstrip("@+").startswith("-") or "|| true" in line]
