"""manage.py ends without a traceback when a person interrupts it, or stops reading."""

import signal
import subprocess
import sys

import pytest

from tests.fakes.celery_process import ROOT, environment

INTERRUPTED = "Interrupted. What was committed stays."
MUCH = "print('line\\n' * 100_000)"


def shell(command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        env=environment(PYTHON=sys.executable, LOG_LEVEL="ERROR", **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.django_db
@pytest.mark.parametrize("loaded", ["django.utils", "kombu.exceptions"])
def test_an_interruption_is_one_sentence_while_it_still_loads_too(loaded):
    endless = ["shell", "--no-imports", "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "manage.py", *endless],
        cwd=ROOT,
        env=environment(LOG_LEVEL="ERROR"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        while not process.stderr.readline().endswith(f" {loaded}\n"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)

    spoken = [line for line in said.splitlines() if not line.startswith("import time:")]
    assert (process.returncode, spoken) == (130, [INTERRUPTED])


@pytest.mark.django_db
@pytest.mark.parametrize("program", [MUCH, "print('one')", f"{MUCH}; raise SystemExit(1)"])
def test_a_reader_who_has_seen_enough_is_no_traceback(program):
    done = shell('"$PYTHON" manage.py shell --no-imports -v 0 -c "$PROGRAM" | true', PROGRAM=program)

    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.django_db
def test_another_pipe_that_breaks_is_none_of_that():
    program = "raise BrokenPipeError"

    done = shell('"$PYTHON" manage.py shell --no-imports -v 0 -c "$PROGRAM" | cat', PROGRAM=program)

    assert done.stdout == "1\n"
    assert done.stderr.splitlines()[-1].startswith("BrokenPipeError")


def test_without_either_it_ends_as_its_command_does():
    done = shell('"$PYTHON" manage.py shell --no-imports -v 0 -c "print(7); raise SystemExit(3)"')

    assert (done.stdout, done.stderr) == ("7\n3\n", "")
