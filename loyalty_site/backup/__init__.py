"""Backups that can be proven: made, restored, compared. The verbs: `back_up`, `restore`."""

from loyalty_site.backup.making import BackupReport, back_up
from loyalty_site.backup.restoring import RestoreReport, restore

__all__ = ["BackupReport", "RestoreReport", "back_up", "restore"]
