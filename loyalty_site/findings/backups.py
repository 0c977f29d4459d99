"""Whether somebody makes backups, by what is in their folder."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from loyalty_site.backup.files import SUFFIX, made_at
from loyalty_site.backup.refusals import FileRefused
from loyalty_site.findings.finding import DAILY, Finding


def backup_findings(at: datetime, folder: Path) -> Iterator[Finding]:
    """A backup is a dump and its manifest; the newest is to be of last night, by its own words."""
    if why := _unreadable(folder):
        yield Finding("backups_unseen", f"The folder of backups, {folder}, cannot be read: {why}.")
        return
    moments = []
    for manifest in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            # The manifest is there a moment before the dump.
            if manifest.with_name(manifest.name.removesuffix(SUFFIX)).exists():
                moments.append(made_at(manifest))
        except FileRefused as error:
            yield Finding("backup_unreadable", f"{error} Do not rely on that backup; take another copy of it.")
    newest = max(moments, default=None)
    if newest is None or newest < at - DAILY:
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
