"""Real workers and beats, on the database and the Valkey database of the test that starts them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent.parent
QUEUES = "default,notifications,wallet"


@dataclass
class CeleryProcess:
    """A process and the file it logs to."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def events(self) -> list[dict[str, Any]]:
        """Its structured log lines so far; a line that is still being written is left out."""
        events = []
        for line in self.log.read_text().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        return [event for event in events if isinstance(event, dict)]

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def wait_until_it_says(self, text: str, *, seconds: float = 20) -> None:
        wait_until(lambda: self.said(text), seconds=seconds, unless=self._why_it_ended)

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def _why_it_ended(self) -> str:
        return "" if self.process.poll() is None else self.log.read_text()[-3000:]


@contextmanager
def worker(folder: Path, *, queues: str = QUEUES, concurrency: int = 1, **changes: str) -> Iterator[CeleryProcess]:
    """A worker with a pool of processes, ready for work."""
    arguments = ["worker", "--queues", queues, "--concurrency", str(concurrency)]
    with _running(folder, *arguments, "--without-gossip", "--without-mingle", **changes) as process:
        process.wait_until_it_says("ready.")
        yield process


@contextmanager
def beat(folder: Path) -> Iterator[CeleryProcess]:
    """A beat that looks at its schedule every second."""
    with _running(folder, "beat", "--max-interval", "1") as process:
        process.wait_until_it_says("beat: Starting...")
        yield process


@contextmanager
def _running(folder: Path, *arguments: str, **changes: str) -> Iterator[CeleryProcess]:
    log = folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "celery", "--app", "loyalty_site", "--quiet", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(**changes), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    running = CeleryProcess(process, log)
    try:
        yield running
    finally:
        running.stop()


def environment(**changes: str) -> dict[str, str]:
    """What a process of the product needs to work on the database and the broker of this test."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "loyalty_site.settings",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "INFO",
        **changes,
    }


def database_url() -> str:
    database = connection.settings_dict
    password = f":{database['PASSWORD']}" if database["PASSWORD"] else ""
    return f"postgresql://{database['USER']}{password}@{database['HOST']}:{database['PORT']}/{database['NAME']}"


def broker() -> "redis.Redis":
    return redis.Redis.from_url(os.environ["REDIS_URL"])


def queued(queue: str = "default") -> list[str]:
    """Names of the tasks that wait in a queue, oldest first."""
    with broker() as client:
        messages: Any = client.lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["task"] for message in reversed(messages)]


def wait_until(true: Callable[[], bool], *, seconds: float = 10, unless: Callable[[], str] = str) -> None:
    """Raises: AssertionError, when it does not come true in time, or when `unless` tells why it never will."""
    deadline = time.monotonic() + seconds
    while not true():
        if reason := unless():
            raise AssertionError(reason)
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {seconds} s")
        time.sleep(0.05)
