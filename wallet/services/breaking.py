"""The breaker of a credential: after an outage is clear, calls stop, and a probe now and then finds its end."""

from datetime import datetime, timedelta
from typing import Any

import structlog

from wallet.models import Breaker, Platform
from wallet.outcomes import Outcome

log = structlog.get_logger(__name__)

FIRST_PROBE_AFTER = timedelta(minutes=1)
LONGEST_BETWEEN_PROBES = timedelta(minutes=10)
FAILURES_TO_OPEN = 20


def breaker_of(platform: Platform, identifier: str) -> Breaker:
    breaker, _ = Breaker.objects.get_or_create(platform=platform, identifier=identifier)
    return breaker


def open_breaker(breaker: Breaker, cause: Outcome, *, at: datetime, probe_after: timedelta = FIRST_PROBE_AFTER) -> None:
    """Stop all calls with this credential until a probe succeeds."""
    breaker.opened_at, breaker.code, breaker.reason = at, cause.code[:60], cause.reason[:500]
    breaker.next_probe_at, breaker.probes = at + probe_after, 0
    breaker.save()
    log.error("wallet.breaker_opened", platform=breaker.platform, identifier=breaker.identifier, reason=breaker.code)


def note_failed_probe(breaker: Breaker, cause: Outcome, *, at: datetime) -> None:
    """Wait twice as long as before for the next one, ten minutes at most."""
    breaker.code, breaker.reason = cause.code[:60], cause.reason[:500]
    breaker.probes += 1
    doubled = FIRST_PROBE_AFTER * 2 ** min(breaker.probes, 8)  # an outage of days would leave the calendar
    breaker.next_probe_at = at + min(doubled, LONGEST_BETWEEN_PROBES)
    breaker.save()


def close_breaker(*, platform: str, identifier: str) -> None:
    """Let calls through again, and forget what failed."""
    closed = Breaker.objects.filter(platform=platform, identifier=identifier, opened_at__isnull=False).update(
        opened_at=None, code="", reason="", next_probe_at=None, probes=0, failures_in_a_row=0
    )
    if closed:
        log.info("wallet.breaker_closed", platform=platform, identifier=identifier)


def note_failures(breaker: Breaker) -> None:
    """Carry over to the next run how many calls in a row have failed."""
    Breaker.objects.filter(pk=breaker.pk).update(failures_in_a_row=breaker.failures_in_a_row)


def is_probe_due(breaker: Breaker, *, at: datetime) -> bool:
    return breaker.next_probe_at is None or breaker.next_probe_at <= at


def told(breaker: Breaker) -> dict[str, Any]:
    """An open breaker, for the record of a run."""
    return {
        "identifier": breaker.identifier,
        "code": breaker.code,
        "reason": breaker.reason,
        "open_since": breaker.opened_at.isoformat() if breaker.opened_at else None,
    }
