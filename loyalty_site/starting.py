"""What ends a process at its start, before it takes work that it cannot do."""

import os
from pathlib import Path
from typing import Any

import structlog
from celery.signals import beat_init, worker_init
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.db import DatabaseError, OperationalError, connections

from loyalty_site.unreachable import first_line, is_refused, is_unreachable
from loyalty_site.unusable import SettingsUnusable, sentence_or_end
from wallet.errors import SecretUnreadable
from wallet.services.credentials import require_usable_files

log = structlog.get_logger()


@sentence_or_end()
def require_what_is_configured() -> None:
    """Go on only if a web server or a worker can do its work with these settings. Else say in a sentence why not."""
    require_no_errors()
    require_a_folder_for_counts()
    require_files_of_credentials()


@sentence_or_end()
def require_no_errors() -> None:
    """Go on only if `manage.py check` would find no error. Else say each in a line."""
    if errors := [message for message in run_checks() if message.is_serious() and not message.is_silenced()]:
        raise SettingsUnusable("\n".join(map(_sentence, errors)))


def require_a_folder_for_counts() -> None:
    """Make the folder in which the processes of a host count together. Commands count nothing and do without.

    Raises:
        SettingsUnusable: it cannot be made, or not be written to.
    """
    require_room_for_counts()
    if not settings.PROMETHEUS_MULTIPROC_DIR:
        return
    try:
        Path(settings.PROMETHEUS_MULTIPROC_DIR).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(f"cannot be made: {error.strerror}") from None


def require_room_for_counts() -> None:
    """Look whether that folder can be used, without making it: it would belong to whoever only looks.

    Raises:
        SettingsUnusable: it cannot be made, or not be written to.
    """
    if not settings.PROMETHEUS_MULTIPROC_DIR:
        return
    folder = Path(settings.PROMETHEUS_MULTIPROC_DIR)
    nearest = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not nearest.is_dir():
        raise _no_folder("cannot be made: Not a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _no_folder("cannot be written to" if nearest == folder else "cannot be made: Permission denied")


def require_files_of_credentials() -> None:
    """The files of all credentials in use can be read.

    A database that is away, or not migrated yet, is no reason to stop: it may come back. Its absence is logged.

    Raises:
        SettingsUnusable: with a sentence that names the file.
    """
    try:
        require_usable_files()
    except SecretUnreadable as error:
        raise SettingsUnusable(error.sentence) from None
    except OperationalError as error:
        _log_absence(error)
    except DatabaseError:
        return
    finally:
        # The processes that are forked from this one open connections of their own.
        connections.close_all()


def _log_absence(error: OperationalError) -> None:
    """A worker that cannot sign in is "ready" too, and takes tasks away from those that can."""
    refused = is_refused(error)
    if refused or is_unreachable(error):
        (log.error if refused else log.warning)("loyalty_site.database_unreachable", reason=first_line(error))


def _sentence(message: CheckMessage) -> str:
    return " ".join(f"{message.msg} {message.hint or ''}".split())


def _no_folder(why: str) -> SettingsUnusable:
    return SettingsUnusable(
        f"PROMETHEUS_MULTIPROC_DIR names {settings.PROMETHEUS_MULTIPROC_DIR}, which {why}. "
        "Make it for the user of this process, or take the variable away."
    )


@worker_init.connect
def worker_starts(**_: Any) -> None:
    require_what_is_configured()


@beat_init.connect
def beat_starts(**_: Any) -> None:
    require_no_errors()
