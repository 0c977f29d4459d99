"""What ends a process at its start, before it takes work that it cannot do."""

import sys
from typing import Any

from celery.signals import worker_init
from django.db import DatabaseError, connections

from loyalty_site.unusable import CANNOT_START
from wallet.errors import SecretUnreadable
from wallet.services.credentials import require_usable_files


def require_what_is_configured() -> None:
    """Go on only if the files of all credentials in use can be read. Else say in one sentence which cannot, and why.

    A database that is away, or not migrated yet, is no reason to stop: it may come back.
    """
    try:
        require_usable_files()
    except SecretUnreadable as error:
        sys.stderr.write(f"{error.sentence}\n")
        raise SystemExit(CANNOT_START) from None
    except DatabaseError:
        return
    finally:
        # The processes that are forked from this one open connections of their own.
        connections.close_all()


@worker_init.connect
def worker_starts(**_: Any) -> None:
    require_what_is_configured()
