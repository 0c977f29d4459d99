"""An installation as it would be on a host: a copy of what the image holds, engines of its own, plain processes."""

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from loyalty_site import embedded
from tests.fakes.celery_process import ROOT, wait_until

BIN = Path(sys.executable).parent
# Nobody's address; mail to it waits in rows.
MAIL = "smtp://127.0.0.1:9"
PRODUCTION = {
    "SECRET_KEY": "kR7-not-used-anywhere-else-3vQ9-0123456789-tUwXyZ-abcdef",
    "PIN_PEPPER": "pV2-not-used-anywhere-else-8sD1-0123456789-tUwXyZ-abcdef",
    "METRICS_TOKEN": "mT5-not-used-anywhere-else-0123456789",
    "WALLET_TOKEN_KEYS": "1:wT9-not-used-anywhere-else-0123456789-abcdef",
    "ALLOWED_HOSTS": "points.bakery.test",
    "PUBLIC_URL": "https://points.bakery.test",
    "EMAIL_URL": MAIL,
    "DEFAULT_FROM_EMAIL": "points@bakery.test",
    "DEVELOPMENT": "false",
}
A_MERCHANT = """
from loyalty.models import Merchant, Program
bakery = Merchant.objects.create(
    name="Bakery", slug="bakery", currency="EUR", country="LU", support_email="help@bakery.test"
)
Program.objects.create(
    merchant=bakery, name="Points", terms_url="https://bakery.test/terms", privacy_url="https://bakery.test/privacy"
)
"""


def copied_by_the_image() -> list[str]:
    """What the Dockerfile copies of the checkout into the image that runs."""
    last_stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    copies = [line.split()[1:-1] for line in last_stage.splitlines() if line.startswith("COPY ")]
    return [name for names in copies if not names[0].startswith("--") for name in names]


@dataclass
class Installation:
    """`folder` holds the code; `environment` is all that its processes are given."""

    folder: Path
    environment: dict[str, str]
    logs: Path
    _stack: ExitStack
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def run(self, command: Sequence[str], **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **changes},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def succeed(self, command: Sequence[str], **changes: str) -> str:
        done = self.run(command, **changes)
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, command: Sequence[str], **changes: str) -> None:
        with (self.logs / f"{name}.log").open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.environment, **changes},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes[name] = process
        self._stack.callback(_end, process)

    def stop(self, name: str, *, seconds: float) -> int:
        """SIGTERM, and the exit code that follows in time."""
        process = self.processes[name]
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds)

    def wait(self, what: str, true: Callable[[], bool], *, seconds: float = 60) -> None:
        try:
            wait_until(true, seconds=seconds, unless=self._ended)
        except AssertionError as error:
            logs = {path.name: path.read_text()[-1500:] for path in self.logs.iterdir()}
            raise AssertionError(f"{what}: {error} {json.dumps(logs, indent=1)}") from None

    def ask(self, port: int, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.environment["DATABASE_URL"], autocommit=True) as session:
            cursor = session.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def send_the_heartbeat_soon(self) -> None:
        """A new entry is due after its first minute; this one is as if it had been there for some."""
        self.sql(
            "UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '10 minutes' "
            "WHERE task = 'loyalty_site.heartbeat'"
        )

    def has_a_heartbeat(self) -> bool:
        found = self.sql(
            "SELECT 1 FROM loyalty_site_jobrun WHERE task = 'loyalty_site.heartbeat' AND status = 'succeeded'"
        )
        return bool(found)

    def _ended(self) -> str:
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        return f"ended: {', '.join(ended)}" if ended else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def installation(folder: Path, **environment: str) -> Iterator[Installation]:
    """What the image holds, in `folder`, with a PostgreSQL and a Valkey of its own that forget nothing."""
    code, logs = folder / "app", folder / "logs"
    code.mkdir()
    logs.mkdir()
    for name in copied_by_the_image():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, code / name)
    with ExitStack() as stack:
        engines = folder / "engines"
        engines.mkdir()
        urls = {
            "DATABASE_URL": stack.enter_context(embedded._postgres(engines, durable=True)),
            "REDIS_URL": stack.enter_context(embedded._valkey(engines, durable=True)),
        }
        path = f"{BIN}:{os.environ['PATH']}"
        yield Installation(code, {"PATH": path, "HOME": "/nonexistent", **environment, **urls}, logs, stack)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def codes(output: str) -> set[str]:
    """The codes of the findings that a command printed."""
    return set(re.findall(r"^(\w+): ", output, re.MULTILINE))


def seconds_of(text: str) -> float:
    """How long `30s` or `2m` is."""
    return float(text[:-1]) * {"s": 1, "m": 60}[text[-1]]
