"""What still stands between this installation and its first customer, as far as a machine can see it."""

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from loyalty_site.findings import Finding, broker_findings, database_findings
from loyalty_site.launching.configuration import configuration_findings
from loyalty_site.launching.machinery import machinery_findings
from loyalty_site.launching.people import people_findings
from loyalty_site.launching.recovery import recovery_findings
from loyalty_site.launching.wallets import wallet_findings

DISPENSABLE = ("apple", "google", "backups")


def launch_findings(*, at: datetime, without: Collection[str], backups: Path | None) -> Iterator[Finding]:
    """All that is missing. `without` names what is left out on purpose, `backups` the folder that they are in.

    A database or a broker that is away hides what can only be seen through it.
    """
    yield from configuration_findings()
    blocked = [*database_findings(), *broker_findings()]
    yield from blocked
    if not blocked:
        yield from machinery_findings(at)
        yield from people_findings()
        yield from wallet_findings(at, without)
    if "backups" not in without:
        yield from recovery_findings(at, backups)
