"""Web server, workers, beat and a mail sink as child processes, for `make demo` and `make run`."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

LOCAL = Path(settings.BASE_DIR) / ".local"
START_SECONDS = 30
EXPENDABLE = ("wallet-platforms", "mail")


def free_port(wanted: int) -> int:
    """The wanted port of this machine, or any other when somebody has it."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CommandError("This machine has no free port on 127.0.0.1.")


def _wanted_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise CommandError(f"PORT is {text!r}; it is a number from 1 to 65535.")
    return int(text)


class Site:
    """The running installation: where its pages and its mails are."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.web_port = free_port(_wanted_port(os.environ.get("PORT", "8000")))
        self.mail_folder = LOCAL / "mail"
        self._smtp_port = free_port(0)
        self.environment = {
            **os.environ,
            "EMAIL_URL": f"smtp://127.0.0.1:{self._smtp_port}",
            "DEFAULT_FROM_EMAIL": "loyalty@example.com",
            "PUBLIC_URL": self.address,
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def wallet_folder(self) -> Path:
        return LOCAL / "wallet"

    @property
    def logs(self) -> Path:
        return LOCAL / "logs"

    def start_wallet_platforms(self) -> None:
        """Stand in for Apple, Google and a phone, unless this installation is set up for the real ones.

        Raises:
            CommandError: they did not start.
        """
        is_set_up = settings.APPLE_PASS_TYPE_ID or settings.GOOGLE_ISSUER_ID
        if is_set_up and not os.environ.get("LOYALTY_WALLET_STAND_INS"):
            return
        written = self.wallet_folder / "environment"
        written.unlink(missing_ok=True)
        self._start("wallet-platforms", ["tests.fakes.wallet_platforms", str(self.wallet_folder), self.address])
        self._wait("The stand-ins of Apple and Google", "wallet-platforms", written.exists)
        text = written.read_text()
        self._stack.callback(_remove, written, text)
        self.environment |= dict(line.split("=", 1) for line in text.splitlines())

    def manage(self, *arguments: str) -> str:
        """Run a command as an operator would, and return what it prints.

        Raises:
            CommandError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CommandError(f"manage.py {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout}")
        return done.stdout

    def start_web_and_workers(self) -> None:
        handler = ["-c", "aiosmtpd.handlers.Mailbox", str(self.mail_folder)]
        self._start("mail", ["aiosmtpd", "-n", "-l", f"127.0.0.1:{self._smtp_port}", *handler])
        web = ["gunicorn", "loyalty_site.wsgi", "--bind", f"127.0.0.1:{self.web_port}", "--threads", "4"]
        # The socket would lie below the home of whoever runs this, and nobody speaks to it.
        self._start("web", [*web, "--no-control-socket"])
        worker = ["celery", "-A", "loyalty_site", "worker", "--concurrency", "1", "--without-mingle"]
        self._start("worker", [*worker, "-Q", "default,wallet", "-n", "default@%h"])
        self._start("worker-notifications", [*worker, "-Q", "notifications", "-n", "notifications@%h"])
        self._wait("The web server", "web", self._answers)

    def start_beat(self) -> None:
        self._start("beat", ["celery", "-A", "loyalty_site", "beat", "--pidfile="])

    def wait(self, tell: Callable[[str], object]) -> str:
        """Wait until a process ends that the site cannot be without, and return its name; `tell` hears of others."""
        while True:
            for name in self._ended():
                if name not in EXPENDABLE:
                    return name
                del self._processes[name]
                tell(f"{name} has ended; {self.logs / name}.log says why. The site goes on without it.")
            time.sleep(0.5)

    def _ended(self) -> list[str]:
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def _start(self, name: str, module_and_arguments: Sequence[str]) -> None:
        self._processes[name] = self._stack.enter_context(
            child([sys.executable, "-m", *module_and_arguments], self.environment, self.logs / f"{name}.log")
        )

    def _wait(self, what: str, name: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if is_there():
                return
            if name in self._ended():
                break
            time.sleep(0.1)
        raise CommandError(f"{what} did not start; {self.logs / name}.log says why.")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=2):  # noqa: S310  our own address
                return True
        except (urllib.error.URLError, OSError):
            return False


def _remove(written: Path, text: str) -> None:
    """Take back what commands would read, unless another site has put its own there."""
    if written.exists() and written.read_text() == text:
        written.unlink()


@contextmanager
def running_site() -> Iterator[Site]:
    """A site whose processes end with the block, in the reverse order of their start."""
    with ExitStack() as stack:
        yield Site(stack)


@contextmanager
def child(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a session of its own, so that Ctrl-C reaches us and we end it in order."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
