"""What a look at the installation may find, and the words that several looks share."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.migrations.recorder import MigrationRecorder

DAILY = timedelta(hours=26)  # a day, and time for a late or long run


@dataclass(frozen=True)
class Finding:
    """Something a person has to look at: a code for machines, and a sentence that says what to do."""

    code: str
    text: str


def is_older(newest: datetime | None, age: timedelta, at: datetime) -> bool:
    """Whether the last time is too long ago; what never happened is as old as this installation."""
    return (newest or _installed_at()) < at - age


def _installed_at() -> datetime:
    applied: datetime = MigrationRecorder.Migration.objects.get(
        app="loyalty_site", name="0002_install_schedules"
    ).applied
    return applied


def in_words(moment: datetime | None) -> str:
    """A moment for a sentence with "since"; what never happened did not since the installation."""
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "the installation"
