"""A dump of everything, and what its rows come to, both of one moment."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from loyalty_site.backup import clients, files, unproven
from loyalty_site.backup.fingerprints import fingerprints, snapshot
from loyalty_site.backup.refusals import DatabaseUnproven, FileRefused

log = structlog.get_logger()


@dataclass(frozen=True)
class BackupReport:
    """What was written."""

    file: str
    dump_bytes: int
    tables: int
    rows: int


def back_up(*, file: Path, at: datetime) -> BackupReport:
    """Write the whole database to a file, and its manifest beside it.

    Tills and workers go on: dump and row hashes look at one snapshot, and lock nothing against writers. Both files
    can be read by their owner only. The dump gets its name last, so a file of that name is a whole backup.

    Raises:
        FileRefused: there is such a file already, or it cannot be written.
        DatabaseUnproven: the database was restored and not proven, so it would be no backup to rely on.
        ClientFailed: pg_dump is missing, too old, or failed.
    """
    if unproven.is_marked():
        raise DatabaseUnproven(unproven.SENTENCE)
    if file.exists():
        raise FileRefused(f"{file} is there already; a backup overwrites nothing.")
    with files.written_whole(file) as dump:
        with snapshot() as moment:
            tables = fingerprints()
            migrations = sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations())
            clients.run("pg_dump", "--format=custom", f"--snapshot={moment}", f"--file={dump}")
        size, digest = files.describe(dump)
        version = connection.pg_version  # type: ignore[attr-defined]  # of PostgreSQL's backend only
        files.write_manifest(files.Manifest(at.isoformat(), version, size, digest, migrations, tables), file)
    report = BackupReport(str(file), size, len(tables), sum(table.rows for table in tables.values()))
    log.info("loyalty_site.database_backed_up", dump_bytes=size, tables=report.tables, rows=report.rows)
    return report
