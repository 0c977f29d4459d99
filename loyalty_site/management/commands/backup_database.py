from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from loyalty.management.base import FINDING, REFUSED, USAGE, LoyaltyCommand
from loyalty_site.backup import back_up
from loyalty_site.backup.refusals import ClientFailed, DatabaseUnproven, FileRefused


class Command(LoyaltyCommand):
    help = (
        "Write the whole database to a new FILE, and what is in it to FILE.manifest.json. Tills and workers may go on. "
        "Exit codes: 0 written, 1 pg_dump is missing or failed, 2 usage, 4 the database was restored and not proven."
    )
    # A new release is installed first, then comes the backup, then its migrations.
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="a file that does not exist yet")
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = back_up(file=options["file"], at=timezone.now())
        except FileRefused as error:
            raise CommandError(str(error), returncode=USAGE) from None
        except DatabaseUnproven as error:
            raise CommandError(str(error), returncode=REFUSED) from None
        except ClientFailed as error:
            raise CommandError(str(error), returncode=FINDING) from None
        if options["json"]:
            self.print_json(asdict(report))
        else:
            self.stdout.write(
                f"Backed up {report.rows:,} rows of {report.tables} tables to {report.file}, "
                f"{report.dump_bytes:,} bytes."
            )
