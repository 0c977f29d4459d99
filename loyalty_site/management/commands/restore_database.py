from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection
from django.utils import timezone

from loyalty.management.base import FINDING, INTERRUPTED, PARTIAL, REFUSED, USAGE, ReasonedCommand, actor
from loyalty.services.adjustments import require_reason
from loyalty_site.backup import RestoreReport, erasures, restore, unproven
from loyalty_site.backup.refusals import ClientFailed, DatabaseNotEmpty, DatabaseUnproven, FileRefused


class Command(ReasonedCommand):
    help = (
        "Fill the empty database that DATABASE_URL names from the backup FILE, and prove that it is whole. Changes "
        "data. Exit codes: 0 restored and proven, 1 pg_restore failed or the result must not be used, 2 usage or no "
        "such backup, 3 restored with balances that were wrong in the backup already, 4 the database is not empty, 130 "
        "interrupted."
    )
    # An empty database has none, which is as it should be.
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", type=Path, help="what backup_database wrote")
        parser.add_argument(
            "--erasures", metavar="FILE", type=Path, help="what list_erasures wrote: erase again who of these is back"
        )
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        report = self._restore(options)
        if options["json"]:
            self.print_json(asdict(report))
        else:
            self.stdout.write(_sentences(report))
        if report.problems:
            self.stderr.write("Do not use this database.")
            raise SystemExit(FINDING)
        if report.findings:
            raise SystemExit(PARTIAL)

    def _restore(self, options: dict[str, Any]) -> RestoreReport:
        reason = require_reason(options["reason"])
        try:
            erased = erasures.read(options["erasures"]) if options["erasures"] else []
            return restore(file=options["file"], erased=erased, reason=reason, actor=actor(), at=timezone.now())
        except FileRefused as error:
            raise CommandError(str(error), returncode=USAGE) from None
        except (DatabaseNotEmpty, DatabaseUnproven) as error:
            raise CommandError(str(error), returncode=REFUSED) from None
        except ClientFailed as error:
            raise CommandError(str(error), returncode=FINDING) from None
        except KeyboardInterrupt:
            raise CommandError(_interrupted(), returncode=INTERRUPTED) from None


def _interrupted() -> str:
    """What is left. Only a restore makes the mark, so nobody is told to drop a database that was there before it."""
    connection.close()  # it was in the middle of something
    return f"Interrupted. {unproven.SENTENCE if unproven.is_marked() else 'Nothing was restored.'}"


def _sentences(report: RestoreReport) -> str:
    lines = [f"Restored {report.rows:,} rows of {report.tables} tables, as they were at {report.made_at}."]
    if report.migrations_applied:
        lines.append(f"Applied {len(report.migrations_applied)} migrations that are newer than the backup.")
    lines.append(f"Erased {len(report.erased_again)} customers again.")
    lines += report.problems or [
        f"Rows equal, triggers in force, sequences right{'' if report.findings else ', ledger clean'}."
    ]
    lines += report.findings
    if report.findings and not report.problems:
        lines.append("They were wrong when the backup was made. Mend them as docs/runbooks/ledger.md says.")
    return "\n".join(lines)
