"""A backup becomes a database again, which is compared with the one that it came from before anybody uses it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from loyalty_site.backup import clients, erasures, files, unproven, verifying
from loyalty_site.backup.fingerprints import has_tables
from loyalty_site.backup.refusals import DatabaseNotEmpty, DatabaseUnproven, FileRefused

log = structlog.get_logger()


@dataclass
class RestoreReport:
    """What a restore did. With any problem the database must not be used, and stays marked; a finding can be mended."""

    made_at: str
    tables: int
    rows: int
    migrations_applied: list[str] = field(default_factory=list)
    erased_again: list[int] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def restore(*, file: Path, erased: Sequence[erasures.Erasure], reason: str, actor: str, at: datetime) -> RestoreReport:
    """Fill an empty database from a backup, prove that it is whole, and bring it to this moment.

    Rows are compared table by table with the manifest first. Then migrations of this release that the backup does not
    know are applied, customers of `erased` who are back are erased again, with this reason, and triggers, sequences
    and the ledger are checked.

    The dump is restored in one transaction: when that fails, the database has no table but the mark of `unproven`. That
    is there until all is proven, whatever happens to this process.

    Raises:
        FileRefused: the file or its manifest is missing, cut, changed, foreign, or of a newer release.
        DatabaseNotEmpty: the database has tables.
        DatabaseUnproven: they are those of a restore that was not proven.
        ClientFailed: pg_restore is missing, too old, or failed.
    """
    manifest = files.read_manifest(file)
    missing = _missing_migrations(manifest)
    _require_empty()
    unproven.mark()
    clients.run("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(file))
    report = RestoreReport(manifest.made_at, len(manifest.tables), sum(t.rows for t in manifest.tables.values()))
    report.problems += verifying.rows_that_differ(manifest.tables)
    # Rows that are those of the backup have balances that were wrong before it, so an older one is no better.
    of_the_ledger = report.problems if report.problems else report.findings
    if missing:
        call_command("migrate", verbosity=0)
        report.migrations_applied = missing
    with connection.cursor() as cursor:
        # A dump brings no statistics, and the first tills would wait for plans made without any.
        cursor.execute("ANALYZE")
    report.erased_again, not_erased = erasures.erase_again(erased, reason=reason, actor=actor, at=at)
    report.problems += not_erased
    for look in (verifying.triggers_that_rest, verifying.sequences_behind):
        report.problems += look()
    of_the_ledger += verifying.balances_that_are_wrong()
    if not report.problems:
        unproven.take_away()
    say = log.error if report.problems else log.info
    say(
        "loyalty_site.database_restored",
        reason=reason,
        rows=report.rows,
        erased_again=report.erased_again,
        problems=len(report.problems),
    )
    return report


def _require_empty() -> None:
    """Raises: DatabaseNotEmpty, DatabaseUnproven."""
    if not has_tables():
        return
    if unproven.is_marked():
        raise DatabaseUnproven(unproven.SENTENCE)
    raise DatabaseNotEmpty(
        "This database has tables. A backup is restored into an empty one only: make one, and name it in DATABASE_URL."
    )


def _missing_migrations(manifest: files.Manifest) -> list[str]:
    """Migrations that this release has and the backup has not.

    Raises:
        FileRefused: the backup has one that this release has not, so it knows columns that this code does not.
    """
    loader = MigrationLoader(None)
    known = {f"{app}.{name}" for app, name in loader.disk_migrations}
    unknown = sorted(set(manifest.migrations) - known)
    if unknown:
        raise FileRefused(
            f"The backup was made by a newer release: this one does not know {unknown[0]}. Install the release that "
            "made it."
        )
    return sorted({f"{app}.{name}" for app, name in loader.graph.nodes} - set(manifest.migrations))
