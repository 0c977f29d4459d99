import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command

from loyalty.management.progress import ProgressBar
from loyalty.models import Merchant
from loyalty.services.imports.checking import CHECKS
from tests.factories import make_merchant
from tests.fakes.celery_process import ROOT, environment
from tests.loyalty.imports import all_tables, balances, write

pytestmark = pytest.mark.django_db


class Answer(NamedTuple):
    """What a command wrote, and the status with which it would have ended."""

    status: int
    out: str
    error: str


@pytest.fixture
def merchant():
    return make_merchant()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "customers.csv"


@pytest.fixture
def import_cards(capsys) -> Callable[..., Answer]:
    def call(*words: Any) -> Answer:
        out = io.StringIO()
        try:
            call_command("import_cards", *map(str, words), stdout=out)
        except CommandError as error:
            return Answer(error.returncode, out.getvalue(), str(error))
        except SystemExit as exit_:
            return Answer(int(str(exit_.code)), out.getvalue(), "")
        return Answer(0, out.getvalue(), "")

    return call


def test_a_good_file_is_imported_by_slug_or_id(import_cards, file, merchant):
    other = make_merchant()
    write(file, ["C1,1,", "C2,2,2026-01-01"])
    by_slug, by_id = import_cards(file, "--merchant", merchant.slug), import_cards(file, "--merchant", other.pk)

    assert (by_slug.status, by_id.status) == (0, 0)
    assert by_slug.out.startswith("Imported 2 cards, 0 lines left out. It took ")
    assert balances(merchant) == balances(other) == {"C1": 1, "C2": 2}


def test_an_unknown_merchant_is_a_usage_error_in_one_line(import_cards, file):
    for words in (["--merchant", "nobody"], ["--merchant", "nobody", "--json"], ["--merchant", "9" * 30]):
        answer = import_cards(write(file, ["C1,1,"]), *words)
        assert answer == (2, "", f"There is no merchant {words[1]!r}.")


def test_a_file_that_cannot_be_read_is_a_usage_error_in_one_line(import_cards, merchant, tmp_path):
    assert import_cards(tmp_path / "gone.csv", "--merchant", merchant.slug) == (
        *(2, ""),
        f"{tmp_path}/gone.csv cannot be read: No such file or directory.",
    )
    assert import_cards(tmp_path, "--merchant", merchant.slug) == (2, "", f"{tmp_path} is not a file.")


def test_problems_are_listed_with_their_lines_and_nothing_is_imported(import_cards, file, merchant):
    write(file, ["C1,1,", "C2,-2,", "C3,1,2099-01-01"])
    before = all_tables()
    answer = import_cards(file, "--merchant", merchant.slug)
    assert answer == (
        *(1, ""),
        'line 3: points "-2" is negative\n'
        'line 4: last_activity_on "2099-01-01" is in the future\n'
        "2 problems in 2 of 3 lines; nothing was imported. "
        "Correct the file, or leave these lines out (skip-bad).",
    )
    assert all_tables() == before


def test_of_many_problems_the_first_hundred_are_listed(import_cards, file, merchant):
    lines = import_cards(write(file, [f"C{n},x," for n in range(250)]), "--merchant", merchant.slug).error.splitlines()
    assert len(lines) == 102
    assert lines[99:101] == ['line 101: points "x" is not a whole number, such as 1250', "... and 150 more"]


def test_left_out_lines_are_listed_and_end_with_status_3(import_cards, file, merchant):
    answer = import_cards(write(file, ["C1,1,", "C2,-2,"]), "--merchant", merchant.slug, "--skip-bad")
    assert answer.status == 3
    assert answer.out.startswith('line 3: points "-2" is negative\nImported 1 cards, 1 lines left out.')
    assert balances(merchant) == {"C1": 1}


def test_a_dry_run_changes_nothing(import_cards, file, merchant):
    write(file, ["C1,1,", "C2,x,"])
    before = all_tables()
    refused = import_cards(file, "--merchant", merchant.slug, "--dry-run")
    told = import_cards(file, "--merchant", merchant.slug, "--dry-run", "--skip-bad")
    assert all_tables() == before
    assert refused.status == 1
    assert told.status == 3
    assert told.out == (
        'line 3: points "x" is not a whole number, such as 1250\n'
        "Dry run, nothing was changed. An import would give 1 cards, 1 lines left out.\n"
    )


def test_a_file_that_was_imported_is_not_imported_again(import_cards, file, merchant):
    write(file, ["C1,1,", "C2,x,"])
    import_cards(file, "--merchant", merchant.slug, "--skip-bad")
    for words in ([], ["--dry-run"], ["--skip-bad"]):
        answer = import_cards(file, "--merchant", merchant.slug, *words)
        assert answer.status == 0
        assert answer.out.startswith("This file was imported on 2")
        assert answer.out.endswith(" UTC: 1 cards, 1 lines left out. Nothing to do.\n")


def test_a_machine_reads_what_happened(import_cards, file, merchant):
    write(file, ["C1,1,", "C2,x,", "C3"])
    problems = [
        {"line": 3, "column": "points", "reason": '"x" is not a whole number, such as 1250'},
        {"line": 4, "reason": "it has 1 values, the header 3"},
    ]

    refused = import_cards(file, "--merchant", merchant.slug, "--json")
    assert (refused.status, refused.error) == (1, "")
    answer = json.loads(refused.out)
    assert (answer["outcome"], answer["problem_count"], answer["problems"]) == ("refused", 2, problems)
    assert answer["detail"].startswith("2 problems in 2 of 3 lines; ")

    done = import_cards(file, "--merchant", merchant.slug, "--skip-bad", "--json")
    assert done.status == 3
    answer = json.loads(done.out)
    assert (answer["outcome"], answer["rows"], answer["imported"], answer["skipped"]) == ("imported", 3, 1, 2)
    assert (answer["problem_count"], answer["problems"]) == (2, problems)
    assert set(answer) == {
        *("outcome", "rows", "imported", "skipped", "imported_before", "import_id", "finished_at", "seconds"),
        *("problem_count", "problems"),
    }

    again = json.loads(import_cards(file, "--merchant", merchant.slug, "--json").out)
    assert (again["outcome"], again["import_id"]) == ("already imported", answer["import_id"])
    assert again["finished_at"]


def test_a_merchant_without_a_program_is_told_so(import_cards, file):
    Merchant.objects.create(name="Bakery", slug="bakery", currency="EUR")
    answer = import_cards(write(file, ["C1,1,"]), "--merchant", "bakery")
    assert answer == (2, "", "Bakery has no program yet; cards belong to one. Create it first.")


def documented(containing: str) -> str:
    """A code block of the page about imports."""
    blocks: list[str] = re.findall(r"^```\w*\n(.*?)^```$", (ROOT / "docs/importing.md").read_text(), re.M | re.S)
    return next(block for block in blocks if containing in block)


def test_the_file_that_the_documentation_shows_can_be_imported(import_cards, file, merchant):
    file.write_text(documented("external_id,"))
    assert import_cards(file, "--merchant", merchant.slug).status == 0
    assert balances(merchant) == {"K-1001": 1250, "K-1002": 80, "K-1003": 0}


def test_the_documentation_names_every_column_and_shows_what_problems_look_like(import_cards, file, merchant):
    page = (ROOT / "docs/importing.md").read_text()
    assert set(documented("external_id,").partition("\n")[0].split(",")) == set(CHECKS)
    assert all(f"`{column}`" in page for column in CHECKS)

    lines = ["C1,1,,", "C2,-80,,", "C3,1,ana,2025-02-30", "C1,1,,", "C5,1,"]
    answer = import_cards(
        *(write(file, lines, header="external_id,points,email,last_activity_on"), "--merchant", merchant.slug)
    )
    assert f"{answer.error}\n" == documented("line 3:")


def test_without_a_database_there_is_one_sentence(file):
    nowhere = environment(DATABASE_URL="postgresql://loyalty@127.0.0.1:1/loyalty")
    command = [sys.executable, "manage.py", "import_cards", str(file), "--merchant", "bakery"]
    answer = subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith("PostgreSQL cannot be reached at 127.0.0.1:1/loyalty (")
    assert answer.stderr.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_for_each_step():
    terminal = Terminal()
    bar = ProgressBar(terminal)
    for step, done, total in [("reading", 0, 10), ("reading", 10, 10), ("importing", 500, 1000), ("empty", 0, 0)]:
        bar(step, done, total)
    bar.close()
    lines = terminal.getvalue().split("\n")
    assert [line.rpartition("\r")[2].partition("]")[0] for line in lines] == [
        "reading    [##############################",
        "importing  [###############               ",
        "empty      [##############################",
        "",
    ]
    assert "100%  10 of 10" in lines[0]
    assert " 50%  500 of 1,000" in lines[1]


def test_a_bar_is_not_drawn_more_often_than_eyes_follow():
    terminal = Terminal()
    bar = ProgressBar(terminal)
    for done in range(10_000):
        bar("reading", done, 100_000)
    assert terminal.getvalue().count("\r") < 50


def test_nothing_is_drawn_where_nobody_watches():
    stream = io.StringIO()
    bar = ProgressBar(stream)
    bar("reading", 1, 2)
    bar.close()
    assert stream.getvalue() == ""
