import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
# Of all plugins that are installed here, what these options belong to: loading the others takes seconds each time.
PLUGINS = "-p xdist -p pytest_cov -p timeout -p tests.house.coverage_gate"
SETTINGS = f"""
[tool.pytest.ini_options]
testpaths = {OURS["testpaths"]}
markers = {[*OURS["markers"], "quick"]}
addopts = "{OURS["addopts"]} {PLUGINS}"
[tool.coverage.run]
branch = true
parallel = true
patch = ["subprocess", "_exit"]
source = ["shop"]
"""
VERB = """
def sign(number):
    if number < 0:
        return -1
    return 1
"""
LOOSE = """
def unused(number):
    if number: return number
"""
ALL_BRANCHES = """
from shop.services.numbers.signs import sign
def test_signs(): assert (sign(3), sign(-3)) == (1, -1)
"""
HALF_OF_THEM = """
from shop.services.numbers.signs import sign
def test_signs(): assert sign(3) == 1
def test_more_signs(): assert sign(4) == 1
"""
IN_A_PROCESS = """
import subprocess, sys
from shop.services.numbers.signs import sign
def test_plus(): assert sign(3) == 1
def test_minus():
    program = "from shop.services.numbers.signs import sign; import os; print(sign(-3), flush=True); os._exit(0)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "-1\\n"
"""


@pytest.fixture
def shop(tmp_path):
    """A project of its own, with a verb, something that is none, and its tests still to be written."""
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    for folder in ("shop", "shop/services", "shop/services/numbers", "tests"):
        (tmp_path / folder).mkdir()
    for package in ("shop", "shop/services", "shop/services/numbers"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "shop/services/numbers/signs.py").write_text(VERB)
    (tmp_path / "shop/views.py").write_text(LOOSE)
    return tmp_path


def run_tests(project: Path, tests: str, *options: str, processes: int = 0) -> "subprocess.CompletedProcess[str]":
    (project / "tests" / "test_signs.py").write_text(tests)
    not_theirs = ("PYTEST_", "COVERAGE_", "DJANGO_", "COV_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(not_theirs)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", str(processes), *options],
        cwd=project,
        env={**environment, "PYTHONPATH": f"{project}{os.pathsep}{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("processes", [0, 2])
def test_a_suite_that_takes_too_few_branches_fails_and_says_where(shop, processes):
    done = run_tests(shop, HALF_OF_THEM, processes=processes)

    assert done.returncode == 1
    *_, sentence, closing = done.stdout.strip().splitlines()
    assert sentence == (
        "Branches of services and tasks: 1 of 2 taken, 50.0 %, which is below 90 %. "
        "Not taken: 1 in shop/services/numbers/signs.py."
    )
    assert closing.startswith("2 passed in ")


def test_branches_taken_by_workers_and_by_processes_of_theirs_count(shop):
    done = run_tests(shop, IN_A_PROCESS, processes=2)

    assert done.returncode == 0, done.stdout + done.stderr
    *_, sentence, closing = done.stdout.strip().splitlines()
    assert sentence == "Branches of services and tasks: 2 of 2 taken, 100.0 %"
    assert closing.startswith("2 passed in ")
    assert [path.name for path in shop.glob(".coverage*")] == [".coverage"]


@pytest.mark.parametrize(("folder", "passes"), [("loyalty/services", True), ("loyalty/api", False)])
def test_branches_that_only_a_test_of_a_door_takes_do_not_count(shop, folder, passes):
    (shop / "tests" / folder).mkdir(parents=True)
    (shop / "tests" / folder / "test_processes.py").write_text(IN_A_PROCESS)

    done = run_tests(shop, HALF_OF_THEM, processes=2)

    assert (done.returncode == 0) is passes, done.stdout + done.stderr
    assert "4 passed in " in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["-k", "more"], id="keyword"),
        pytest.param(["-m", "not (slow or quick)"], id="mark"),
        pytest.param(["--no-cov"], id="not measured"),
        pytest.param(["tests/test_signs.py"], id="file"),
        pytest.param(["--deselect", "tests/test_signs.py::test_signs"], id="deselected"),
    ],
)
def test_a_run_of_a_part_is_not_held_to_it(shop, options):
    done = run_tests(shop, HALF_OF_THEM, *options)

    assert (done.returncode, done.stderr) == (0, "")
    assert "Branches" not in done.stdout


def test_a_suite_that_measured_nothing_fails(shop):
    (shop / "shop/services/numbers/signs.py").rename(shop / "shop/signs.py")

    done = run_tests(shop, "def test_nothing(): assert True")

    assert done.returncode == 1
    assert "nothing was measured" in done.stdout


def test_a_suite_that_takes_all_branches_passes(shop):
    assert run_tests(shop, ALL_BRANCHES).returncode == 0
