"""Real runs of `manage.py expire_points`, to be watched, interrupted and killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from django.db import connection

from loyalty.models import ExpirationRun
from tests.fakes.celery_process import environment, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent


class ExpiryProcess:
    """One `manage.py expire_points` as of a moment, on the database of this test."""

    def __init__(self, as_of: datetime, *, batch_size: int = 500) -> None:
        self.as_of = as_of
        command = [sys.executable, "manage.py", "expire_points", "--as-of", as_of.isoformat()]
        self.process = subprocess.Popen(
            [*command, "--batch-size", str(batch_size)],
            cwd=ROOT,
            env=environment(LOYALTY_ALLOW_AS_OF="1", LOG_LEVEL="ERROR"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "ExpiryProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody."""
        self.process.kill()
        self.process.communicate()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def is_running(self) -> bool:
        return self.process.poll() is None

    def end(self, *, seconds: float = 60) -> tuple[int, str, str]:
        """Wait for its end: exit code, standard output, standard error."""
        output, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, output, errors

    def wait_for_progress(self, *, cards: int = 1) -> None:
        """Until a run as of this moment has taken points from so many cards."""

        def has_progressed() -> bool:
            return ExpirationRun.objects.filter(as_of=self.as_of, cards_expired__gte=cards).exists()

        wait_until(has_progressed, seconds=60, unless=self._why_it_ended)

    def _why_it_ended(self) -> str:
        return "" if self.is_running() else f"the run ended: {self.process.communicate()}"


def two_runs_at_once(as_of: datetime, *, batch_size: int) -> list[tuple[int, str, str]]:
    """Let two runs begin at the same moment, and return how each ended."""
    with ExitStack() as stack:
        with held_back(runs=2):
            runs = [stack.enter_context(ExpiryProcess(as_of, batch_size=batch_size)) for _ in range(2)]
        return [run.end() for run in runs]


@contextmanager
def held_back(runs: int) -> Iterator[None]:
    """Hold back what starts inside, and let it go together once so many runs stand ready."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE loyalty_cardbalance IN ACCESS EXCLUSIVE MODE")
        try:
            yield
            wait_until(lambda: blocked_sessions() >= runs, seconds=60)
        finally:
            cursor.execute("COMMIT")


def blocked_sessions() -> int:
    # Not pg_stat_activity: inside a transaction it shows what it showed first.
    return _count(
        "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND relation = 'loyalty_cardbalance'::regclass"
    )


def wait_until_nobody_else_is_connected() -> None:
    """A killed process is gone at once; its session in the database ends a moment later."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    wait_until(lambda: _count(others) == 0, seconds=30)


def _count(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])
