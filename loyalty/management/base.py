"""What the commands of loyalty share: exit codes, actors, and refusals as one clear line."""

import argparse
import getpass
import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from loyalty.errors import ImportRefused, LoyaltyError

FINDING, USAGE, PARTIAL, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130
PROBLEMS_SHOWN = 100


class LoyaltyCommand(BaseCommand):
    """A command whose refusals are one line on stderr. Exit codes: 0 ok, 1 finding or failure, 2 usage."""

    requires_migrations_checks = True

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except ImportRefused as error:
            raise CommandError(f"{named_problems(error)}{error.sentence}", returncode=FINDING) from None
        except LoyaltyError as error:
            raise CommandError(error.sentence, returncode=USAGE) from None

    def print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2))


class ReasonedCommand(LoyaltyCommand):
    """A command that changes something by hand and keeps why."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True, help="why; it is kept with the change")


def named_problems(refusal: ImportRefused) -> str:
    """The first problems of a file, a line each."""
    problems = refusal.details.get("problems", [])[:PROBLEMS_SHOWN]
    lines = [
        " ".join(filter(None, [f"line {problem['line']}:", problem.get("column"), problem["reason"]]))
        for problem in problems
    ]
    left = refusal.details.get("problem_count", 0) - len(lines)
    return "".join(f"{line}\n" for line in [*lines, *([f"... and {left:,} more"] if left > 0 else [])])


def usage(sentence: str) -> CommandError:
    return CommandError(sentence, returncode=USAGE)


def positive(text: str) -> int:
    """Read an argument that is a number from 1 on."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def actor() -> str:
    """Who runs the command, as the ledger names it."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):
        return "command line"


def moment(text: str) -> datetime:
    """Read an ISO date or moment; without a zone it is UTC.

    Raises:
        CommandError: it is none, or so far away that no calendar of ours reaches it.
    """
    try:
        value = datetime.fromisoformat(text)
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise usage(f"{text!r} is not a moment such as 2026-03-31 or 2026-03-31T02:00:00+00:00.") from None
    if not 1980 <= value.year <= 2200:
        raise usage(f"{text} is out of range; years from 1980 to 2200 are understood.")
    return value
