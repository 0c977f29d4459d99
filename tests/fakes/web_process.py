"""The real web server, several processes of it, on the database of the test that starts it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.celery_process import ROOT, environment

START_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What came back over the wire."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class WebProcess:
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """The processes that serve requests."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def kill_a_worker(self) -> None:
        os.kill(self.workers()[0], signal.SIGKILL)


@contextmanager
def web(folder: Path, port: int = 0, /, *, workers: int = 3, threads: int = 4, **extra: str) -> Iterator[WebProcess]:
    """A web server that answers, on any free port unless one is named. `extra` goes into its environment."""
    port = port or free_port()
    log = folder / f"web-{port}.log"
    arguments = [f"--workers={workers}", f"--threads={threads}", f"--bind=127.0.0.1:{port}", "--timeout=60"]
    arguments.append("--no-control-socket")  # it would lie below the home of whoever runs the tests
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "loyalty_site.wsgi", *arguments],
            cwd=ROOT,
            env={**environment(), **extra},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    found = WebProcess(port, process, log)
    try:
        _wait_until_it_answers(found)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(found: WebProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found.process.poll() is not None:
            break
        try:
            if found.ask("GET", "/readyz").status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(found.log.read_text()[-3000:])
