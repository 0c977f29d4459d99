"""Real runs of `manage.py sync_passes`, to be killed and to meet each other."""

import json
import subprocess
import sys
from typing import Any

from django.conf import settings

from tests.fakes.celery_process import ROOT, environment

PASSED_ON = (
    *("WALLET_ENCRYPTION_KEYS", "WALLET_TOKEN_KEYS", "WALLET_SYNC_SECONDS"),
    *("APPLE_PASS_TYPE_ID", "APPLE_TEAM_ID", "APPLE_PUSH_URL", "APPLE_PUSH_CA_FILE"),
    *("GOOGLE_ISSUER_ID", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_WALLET_URL", "GOOGLE_TOKEN_URL"),
)


def wallet_environment() -> dict[str, str]:
    """The wallet as the test has set it up, for a process of the product."""
    values = {name: getattr(settings, name) for name in PASSED_ON}
    return {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in values.items()}


class SyncProcess:
    """One `manage.py sync_passes` on the database of this test."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "sync_passes", "--json"],
            cwd=ROOT,
            env=environment(LOG_LEVEL="ERROR", **wallet_environment()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody."""
        self.process.kill()
        self.process.communicate()

    def report(self) -> dict[str, Any]:
        """What it did, once it has ended."""
        output, errors = self.process.communicate(timeout=120)
        assert self.process.returncode in (0, 1, 3), errors
        return dict(json.loads(output))
