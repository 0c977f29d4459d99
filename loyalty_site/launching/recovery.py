"""Whether somebody makes backups."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loyalty_site.backup.files import SUFFIX
from loyalty_site.findings import Finding

OLDEST = timedelta(hours=26)


def backup_findings(at: datetime, folder: Path | None) -> Iterator[Finding]:
    """A backup is a dump and its manifest; the newest is to be of last night."""
    if folder is None:
        yield Finding(
            "backups_unseen",
            "Nobody said where backups are. Name their folder with --backups, or say --without backups if your "
            "provider makes them and you have restored one.",
        )
        return
    if why := _unreadable(folder):
        yield Finding("backups_unseen", f"The folder of backups, {folder}, cannot be read: {why}.")
        return
    newest = max((_made_at(manifest) for manifest in folder.glob(f"*{SUFFIX}")), default=None)
    if newest is None or newest < at - OLDEST:
        since = f"since {newest:%Y-%m-%d %H:%M} UTC" if newest else "at all"
        yield Finding(
            "backups_missing", f"{folder} has had no backup {since}. Run manage.py backup_database each night."
        )


def _unreadable(folder: Path) -> str | None:
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        return error.strerror
    return None


def _made_at(manifest: Path) -> datetime:
    return datetime.fromtimestamp(manifest.stat().st_mtime, UTC)
