"""Runs a command of a runbook as its reader would, and tells what it printed and how it ended."""

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from django.core.management import CommandError, get_commands, load_command_class

from tests.fakes.celery_process import ROOT, environment
from tests.wallet.sync_process import wallet_environment

COLOURS = re.compile(r"\x1b\[\d+m")
MANAGE = "python manage.py "


def filled(text: str, values: dict[str, str]) -> str:
    """The text with every placeholder, a whole word, replaced."""
    for word in sorted(values, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", lambda _, word=word: values[word], text)  # type: ignore[misc]
    return text


def asks_a_worker(command: str) -> bool:
    """Whether it goes to a worker and is not waited for."""
    return command.startswith(("celery", f"{MANAGE}jobs --run "))


def needs_processes(command: str) -> bool:
    """Whether something other than this process looks into the database."""
    return (
        asks_a_worker(command)
        or "pg_stat_activity" in command
        or not command.startswith((MANAGE, "openssl", "umask", "unzip"))
    )


def run(command: str) -> tuple[str, int]:
    """Output and exit code. manage.py runs in this process, which is where the test has set the stage."""
    output, code = _run(command)
    output = COLOURS.sub("", output)
    return output if output.endswith("\n") or not output else f"{output}\n", code


def _run(command: str) -> tuple[str, int]:
    if not command.startswith(MANAGE):
        return run_in_shell(command, "")
    line, piped, rest = command.partition(" | ")
    line, _, file = line.partition(" > ")
    output, complaints, code = manage(shlex.split(line.removeprefix(MANAGE)))
    if file:
        Path(file).write_text(output)
        output = ""
    output += spoken(complaints)
    return run_in_shell(rest, output) if piped else (output, code)


def manage(words: list[str]) -> tuple[str, str, int]:
    """manage.py as its process would end, its output, complaints and exit code: a refusal is a line on stderr."""
    output, complaints = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(output), redirect_stderr(complaints):
        try:
            _execute(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except CommandError as error:
            complaints.write(f"{error}\n")
            code = error.returncode
    return output.getvalue(), complaints.getvalue(), code


def _execute(words: list[str]) -> None:
    command = load_command_class(get_commands()[words[0]], words[0])
    vars(command)["_called_from_command_line"] = True  # so that a wrong option is a line and an exit code
    options = vars(command.create_parser("manage.py", words[0]).parse_args(words[1:]))
    arguments = options.pop("args", ())
    command.execute(*arguments, **{**options, "no_color": True})


def run_in_shell(command: str, given: str) -> tuple[str, int]:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment(
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            LOG_LEVEL="ERROR",
            **wallet_environment(),
        ),
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + spoken(done.stderr), done.returncode


def spoken(text: str) -> str:
    """What is said to a person: without log events, which are for machines."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("{"))
