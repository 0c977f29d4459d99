"""What is wrong with this installation right now, and what to do about it. Each function looks at one thing."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from loyalty_site.findings.addresses import address_findings
from loyalty_site.findings.backups import backup_findings
from loyalty_site.findings.finding import Finding
from loyalty_site.findings.jobs import heartbeat_findings, job_findings, schedule_findings
from loyalty_site.findings.ledger import expiration_findings, ledger_findings
from loyalty_site.findings.messages import message_findings
from loyalty_site.findings.servers import broker_findings, clock_findings, database_findings, queue_findings
from loyalty_site.findings.staff import staff_findings
from loyalty_site.findings.wallets import breaker_findings, credential_findings, google_key_findings, sync_findings

__all__ = [
    "LOOKS",
    "Finding",
    "address_findings",
    "backup_findings",
    "broker_findings",
    "database_findings",
    "findings",
]

LOOKS: tuple[Callable[[datetime], Iterator[Finding]], ...] = (
    expiration_findings,
    ledger_findings,
    heartbeat_findings,
    schedule_findings,
    job_findings,
    queue_findings,
    message_findings,
    credential_findings,
    google_key_findings,
    breaker_findings,
    sync_findings,
    staff_findings,
    clock_findings,
)


def findings(at: datetime, backups: Path | None = None) -> Iterator[Finding]:
    """All that is wrong; an unreachable database or missing migrations hide the rest. Backups if it knows where."""
    yield from address_findings()
    blocked = list(database_findings())
    yield from blocked
    if not blocked:
        for look in LOOKS:
            yield from look(at)
    yield from broker_findings()
    if backups:
        yield from backup_findings(at, backups)
