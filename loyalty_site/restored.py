"""What keeps web, workers and beat from a database that was restored and not proven."""

from typing import Any

from celery.signals import beat_init, worker_init
from django.db import DatabaseError, connections

from loyalty_site.backup import unproven
from loyalty_site.unusable import SettingsUnusable, sentence_or_end


@sentence_or_end()
def require_proven() -> None:
    """Go on only if no restore has left its mark. A database that is away is no reason to stop: it may come back."""
    try:
        marked = unproven.is_marked()
    except DatabaseError:
        return
    finally:
        # The processes that are forked from this one open connections of their own.
        connections.close_all()
    if marked:
        raise SettingsUnusable(unproven.SENTENCE)


@worker_init.connect
@beat_init.connect
def process_starts(**_: Any) -> None:
    require_proven()
