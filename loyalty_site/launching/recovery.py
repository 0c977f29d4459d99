"""Whether somebody makes backups."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from loyalty_site.findings import Finding, backup_findings


def recovery_findings(at: datetime, folder: Path | None) -> Iterator[Finding]:
    if folder is None:
        yield Finding(
            "backups_unseen",
            "Nobody said where backups are. Name their folder with --backups, or say --without backups if your "
            "provider makes them and you have restored one.",
        )
        return
    yield from backup_findings(at, folder)
