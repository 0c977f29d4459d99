"""The pages name what there is, and nothing else: links, commands, options, exit codes, targets, tasks, words."""

import argparse
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from django.core.management import BaseCommand, get_commands, load_command_class

from loyalty.management import base
from loyalty.management.commands.replay_purchases import LABELS
from loyalty.models import Cycle, ExpirationPolicy, ExpirationRun, Transaction, TransactionType
from loyalty.services.replaying import ReplayTotals
from loyalty_site.schedules import JOBS
from notifications.models import Message

ROOT = Path(__file__).resolve().parents[2]
OURS = {"loyalty_site", "loyalty", "wallet", "notifications"}
PLACEHOLDERS = {
    "RUN": "7",
    "CARD": "7",
    "CUSTOMER": "7",
    "N": "7",
    "POINTS": "7",
    "DATE": "2026-03-31",
    "FILE": "file.csv",
}
LONGEST_LINE = 120
# A comment, a pipe (escaped in tables), a file for the output, or the next command.
SHELL_GOES_ON = re.compile(r"  #| (?:\\?\||>|;|&&) ?")
LEFT_BEHIND = {"__pycache__", "staticfiles"}
# In pieces, or this file would name them.
REGISTRIES = re.compile("py" r"pi\.org|python" r"hosted\.|npm" r"js\.org|deb\." "debian|crates" r"\.io|docker" r"\.io")
MACHINES = re.compile(r"(?<![\w.$)}])/(?:ro" r"ot|ho" r"me/\w+|Us" r"ers|wo" r"rk|fa" r"rm|mnt|srv)/")


@cache
def pages() -> dict[Path, str]:
    """Every page of the project, by its path."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    assert len(found) > 20
    return {path: path.read_text() for path in sorted(found)}


def all_text() -> str:
    return "\n".join(pages().values())


def below_docs() -> str:
    """The manual, without the pages of the root, which tell what the manual explains."""
    return "\n".join(text for path, text in pages().items() if path.is_relative_to(ROOT / "docs"))


def page(name: str) -> str:
    return pages()[ROOT / "docs" / name]


def code(text: str) -> list[str]:
    """Pieces of code: the lines of blocks, without a prompt, and what stands in backticks."""
    fence = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    lines = [line for block in fence.findall(text) for line in block.splitlines()[1:-1]]
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", fence.sub("", text))]
    return [re.sub(r"^\$ ", "", piece.strip()) for piece in [*lines, *spans]]


def own_files() -> Iterator[Path]:
    """What belongs to the project: not what tools and people leave beside it."""
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if not name.startswith(".") or name == ".ci"]
        subfolders[:] = [name for name in subfolders if name not in LEFT_BEHIND]
        yield from (Path(folder) / name for name in names if not name.startswith((".env", ".coverage")))


@cache
def command(name: str) -> BaseCommand:
    app = get_commands()[name]
    return app if isinstance(app, BaseCommand) else load_command_class(app, name)


def our_commands() -> set[str]:
    return {name for name, app in get_commands().items() if app in OURS}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def documented_commands() -> list[tuple[str, str]]:
    """Every command line of manage.py on a page, with the page's name; prose such as `manage.py` alone is none."""
    found = []
    for path, text in pages().items():
        for piece in code(text):
            match = re.match(r"(?:\S*python )?manage\.py ([a-z].*)", piece)
            if match and "..." not in piece:
                found.append((path.name, SHELL_GOES_ON.split(match[1])[0].rstrip()))
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", pages()[path]):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        if not linked.exists() or (anchor and anchor not in anchors(linked.read_text())):
            dead.append(target)

    assert not dead


def test_every_file_of_code_that_is_named_exists():
    named = {piece for piece in code(all_text()) if re.fullmatch(r"[\w-]+(/[\w-]+)*\.py", piece)}
    assert len(named) > 10
    folders = [ROOT, ROOT / "tests", *(ROOT / package for package in OURS)]

    missing = {name for name in named if not any((folder / name).exists() for folder in folders)}
    assert missing == {"utils.py"}  # which the pages name as what is not done


def test_every_page_of_the_manual_can_be_reached_from_its_index():
    seen, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        path = waiting.pop()
        if path not in seen and path.suffix == ".md":
            seen.add(path)
            waiting += [(path.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s:]+)", path.read_text())]

    assert {path for path in pages() if path.is_relative_to(ROOT / "docs")} <= seen


@pytest.mark.parametrize(("page_name", "line"), documented_commands())
def test_a_documented_command_is_understood(page_name, line):
    name, *words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
    parser = command(name).create_parser("manage.py", name)

    # In a sentence, a command may stand without its arguments.
    assert not words or parser.parse_args(words) is not None


def test_every_command_and_every_option_is_named():
    unnamed = our_commands() - {name.split()[0] for _, name in documented_commands()}

    assert not unnamed
    assert our_commands() == set(re.findall(r"^\| `manage\.py (\w+)", page("commands.md"), re.MULTILINE))
    options = {option for action in own_options("expire_points") for option in action.option_strings}
    assert options == set(re.findall(r"--[a-z][a-z-]+", expire_points_options()))


def own_options(name: str) -> list[argparse.Action]:
    """The options of a command, without those that every command of Django has."""
    everywhere = {option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings}
    parser = command(name).create_parser("manage.py", name)
    return [action for action in parser._actions if not everywhere & set(action.option_strings)]


def expire_points_options() -> str:
    """The first column of the table of options."""
    table = re.search(r"\| Option \|.*?\n\n", page("expiration.md"), re.DOTALL)
    assert table
    return "\n".join(row.split("|")[1] for row in table[0].strip().splitlines())


def test_the_exit_codes_are_those_of_the_code():
    table = page("commands.md").partition("## ")[0]
    known = {0, base.FINDING, base.USAGE, base.PARTIAL, base.REFUSED, base.INTERRUPTED}

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == known


@pytest.mark.parametrize("name", sorted(our_commands()))
def test_a_command_says_the_exit_codes_that_the_page_says(name):
    row = re.search(rf"^\| `manage\.py {name}\b.*\| ([\d, ]+) \|$", page("commands.md"), re.MULTILINE)
    assert row
    on_the_page = {int(code) for code in row[1].split(", ")}
    _, told, codes = command(name).help.partition("Exit codes: ")
    if not told:
        assert on_the_page <= {0, 1}
        return

    assert {int(code) for code in re.findall(r"\b(\d|130) ", codes)} == on_the_page


def test_each_status_of_a_run_has_its_exit_code():
    rows = dict(re.findall(r"^\| \d \| `(\w+)` \|()", page("expiration.md"), re.MULTILINE))

    assert set(rows) == set(ExpirationRun.Status.values) - {ExpirationRun.Status.RUNNING}


def test_every_target_of_make_that_is_named_exists():
    named = {match[1] for piece in code(all_text()) if (match := re.match(r"make ([a-z][a-z-]*)$", piece))}
    named |= {match[1] for piece in code(all_text()) if (match := re.match(r"make ([a-z][a-z-]*) +#", piece))}

    assert named <= make_targets()


def test_every_target_of_make_is_named():
    assert make_targets() == set(re.findall(r"^\| `make ([a-z-]+)` \|", page("development.md"), re.MULTILINE))


def test_the_page_of_commands_names_every_scheduled_task():
    named = re.findall(r"^\| `(\w+\.\w+)` \| ([^|]+) \|", page("commands.md"), re.MULTILINE)

    assert dict(named) == {job.task: when(job.when) for job in JOBS}


def when(moment: time | timedelta) -> str:
    if isinstance(moment, time):
        return f"{moment:%H:%M} UTC"
    seconds = int(moment.total_seconds())
    return {60: "every minute", 3600: "every hour"}.get(seconds, f"every {seconds} seconds")


def test_the_glossary_names_every_type_of_transaction_and_what_counts_as_activity():
    rows = re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| (yes|no|only)", page("glossary.md"), re.MULTILINE)

    assert [name for name, _ in rows] == TransactionType.values
    assert {name for name, activity in rows if activity == "yes"} == Transaction.COUNTS_AS_ACTIVITY
    assert [name for name, activity in rows if activity == "only"] == [TransactionType.ADMIN_ADJUSTMENT]


@pytest.mark.parametrize(
    "words",
    [ExpirationRun.Status.values, Message.Status.values, Message.Kind.values],
    ids=["status of a run", "status of a message", "kind of a message"],
)
def test_the_glossary_knows_each(words):
    assert [word for word in words if f"`{word}`" not in page("glossary.md")] == []


def examples_of_expiry() -> list[list[date]]:
    table = re.search(r"\| Last used \|.*?\n\n", page("expiration.md"), re.DOTALL)
    assert table
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table[0].strip().splitlines()[2:]]
    assert len(rows) >= 4
    return [[date.fromisoformat(cell) for cell in row] for row in rows]


@pytest.mark.parametrize("row", examples_of_expiry(), ids=lambda row: str(row[0]))
def test_an_example_of_expiry_is_what_the_policy_says(row):
    last_used, night, warned_on, usable_to, gone_on = row
    policy = ExpirationPolicy(
        ZoneInfo("Europe/Luxembourg"), expires_after_days=180, warning_days=14, requires_notice=True
    )
    cycle = Cycle(datetime.combine(last_used, time(12), UTC), None, None)
    warnings = []

    while not policy.may_expire(cycle, night):
        if policy.must_warn(cycle, night):
            warnings.append(night)
            promised = policy.promise(cycle, night)
            cycle = cycle._replace(warned_at=datetime.combine(night, time(2), UTC), warned_for=promised)
        night += timedelta(days=1)

    assert (warnings, policy.keeps_until(cycle), night) == ([warned_on], usable_to, gone_on)


def test_decisions_are_numbered_listed_and_of_one_form():
    folder = ROOT / "docs" / "decisions"
    decisions = sorted(folder.glob("0*.md"))
    listed = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| (.+) \|$", page("decisions/README.md"), re.MULTILINE)

    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    assert [name for _, name, _ in listed] == [path.name for path in decisions]
    for path, (number, _, title) in zip(decisions, listed, strict=True):
        lines = path.read_text().splitlines()
        assert lines[0] == f"# {number}. {title}"
        assert [line for line in lines if line.startswith("## ")] == ["## Context", "## Decision", "## Consequences"]
        assert 25 <= len(lines) <= 40


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_of_prose_are_short(path):
    prose = re.sub(r"^```.*?^```", "", pages()[path], flags=re.MULTILINE | re.DOTALL)

    assert not [line for line in prose.splitlines() if len(line) > LONGEST_LINE and not line.startswith("|")]


def test_no_file_names_a_registry_or_a_place_of_one_machine():
    found = []
    for path in own_files():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path}: {line[:100]}" for line in lines if REGISTRIES.search(line) or MACHINES.search(line)]

    assert not found


def test_the_pages_tell_one_demo():
    counted = r"^Checked \d+ cards and (\d+) transactions"
    [readme] = [int(number) for number in re.findall(counted, pages()[ROOT / "README.md"], re.MULTILINE)]

    # The walk gives points back by hand after the demo, which is one row more.
    told = [int(number) for number in re.findall(counted, page("quickstart.md"), re.MULTILINE)]
    assert told == [readme, readme + 1]
    assert f"Transaction {readme + 1}." in page("quickstart.md")


def test_the_totals_of_a_replay_are_called_what_the_page_calls_them():
    shown = re.search(r"manage\.py replay_purchases purchases.*\n((?:[a-z ]+ +\d+\n)+)", page("quickstart.md"))
    assert shown

    names = [field.name for field in fields(ReplayTotals)]
    assert [line.rstrip(" 0123456789") for line in shown[1].splitlines()] == [
        LABELS.get(name, name.replace("_", " ")) for name in names
    ]
