"""Secrets from files: NAME_FILE in place of NAME, for systemd's credentials, Docker's and Kubernetes' secrets.

A process's environment is read by whoever may look at the process, and ends up in reports of crashes.
"""

from collections.abc import Mapping
from pathlib import Path
from stat import S_IMODE

from loyalty_site.unusable import SettingsUnusable, sentence_or_end

NAMES = (
    "SECRET_KEY",
    "PIN_PEPPER",
    "DATABASE_URL",
    "REDIS_URL",
    "EMAIL_URL",
    "WALLET_ENCRYPTION_KEYS",
    "WALLET_TOKEN_KEYS",
    "METRICS_TOKEN",
    "SENTRY_DSN",
    "JOB_PING_URLS",
)
OTHERS = 0o007  # a group is allowed: it is how systemd and Kubernetes give a file to one service


class SecretFileUnusable(SettingsUnusable):
    """A file that is to hold a secret is missing, empty, open to others, or not the only place that is named."""


def secrets_from_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The secrets whose NAME_FILE is set, without white space at the ends.

    Raises:
        SecretFileUnusable: with a sentence that names the variable, the file and the remedy.
    """
    return {name: _secret(name, environ) for name in NAMES if environ.get(f"{name}_FILE")}


@sentence_or_end()
def secrets_or_end(environ: Mapping[str, str]) -> dict[str, str]:
    """The same for settings: a sentence and no traceback, and the process ends."""
    return secrets_from_files(environ)


def _secret(name: str, environ: Mapping[str, str]) -> str:
    path = Path(environ[f"{name}_FILE"])
    if environ.get(name):
        raise SecretFileUnusable(f"{name} and {name}_FILE are both set. Take one of them away.")
    try:
        mode = S_IMODE(path.stat().st_mode)
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise SecretFileUnusable(f"{name}_FILE names {path}, which cannot be read: {why}.") from None
    if mode & OTHERS:
        raise SecretFileUnusable(
            f"{name}_FILE names {path}, which has mode {mode:o}, so others can read it. Run chmod o= {path}."
        )
    if not secret:
        raise SecretFileUnusable(f"{name}_FILE names {path}, which is empty.")
    return secret
