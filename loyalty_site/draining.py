"""A web server that is told to end says so for a while before it stops listening, so that nobody is turned away.

What stands in front of it asks /readyz, and sends its requests elsewhere from the first 503 on. A connection that
comes at the moment at which a socket is closed would be refused otherwise.
"""

import mmap
import os
import signal
import time
from pathlib import Path
from typing import Any

import environ

from loyalty_site.unusable import sentence_or_end
from loyalty_site.variables import parsed

ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
ENVIRONMENT = Path(__file__).resolve().parent.parent / ".env"
# Shared with the processes that are forked from the one that reads this first, which is gunicorn's own.
_flag = mmap.mmap(-1, 1)


def is_draining() -> bool:
    """Whether this server is about to stop listening."""
    return _flag[0] != 0


def before_ending(server: Any) -> None:
    """Let gunicorn's own process drain for WEB_DRAIN_SECONDS after SIGTERM, before it does what it does anyway: let
    requests finish, and end. A second signal ends the wait.
    """
    seconds, end = _seconds(), server.handle_term

    def drain_and_end() -> None:
        _flag[0] = 1
        _serve(server, until=time.monotonic() + seconds)
        end()

    server.handle_term = drain_and_end


def _serve(server: Any, *, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        if ENDING & set(server.wait_for_signals(timeout=min(left, 0.5))):
            return
        server.reap_workers()
        server.manage_workers()


@sentence_or_end()
def _seconds() -> float:
    # Not from the settings: they would be read once, and workers that start later would go on with them.
    if ENVIRONMENT.exists():
        environ.Env.read_env(ENVIRONMENT)
    return float(parsed("WEB_DRAIN_SECONDS", os.environ.get("WEB_DRAIN_SECONDS", "0"), float))
