"""One sentence instead of a traceback when the settings cannot be used, and an exit code that says so."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gunicorn.errors import HaltServer

# Gunicorn takes it for a worker that will never start, and gives up instead of trying for ever.
CANNOT_START = 3


class SettingsUnusable(Exception):
    """What is configured cannot be used; the sentence names the variable and what to write, and no secret."""


@contextmanager
def sentence_or_end() -> Iterator[None]:
    """End the process with the sentence of what cannot be used, whichever process it is."""
    try:
        yield
    except SettingsUnusable as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(CANNOT_START) from None


def end_as_the_first_worker_said(server: Any) -> None:
    """Let gunicorn's own process end with that code when several of its workers cannot start.

    It would raise once more for each of them, in the middle of ending because of the first: a traceback, and code 1.
    """
    stop = server.stop

    def stop_all(graceful: bool = True) -> None:
        while True:
            with suppress(HaltServer):  # one worker fewer each time
                stop(graceful)
                return

    server.stop = stop_all
