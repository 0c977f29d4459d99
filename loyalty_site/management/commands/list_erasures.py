import csv
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from loyalty.management.base import USAGE, LoyaltyCommand, moment
from loyalty_site.backup import erasures
from loyalty_site.backup.refusals import FileRefused


class Command(LoyaltyCommand):
    help = (
        "List the erasures of customers, by numbers alone, for the day on which a backup brings them back. "
        "Exit codes: 0 listed, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", metavar="MOMENT", type=moment, help="only those from this moment on")
        parser.add_argument(
            "--append-to", metavar="FILE", type=Path, help="add those that are not in FILE yet, instead of printing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        found = erasures.list_erasures(options["since"])
        if options["append_to"] is None:
            csv.writer(self.stdout, lineterminator="\n").writerows(erasures.as_rows(found))
            return
        try:
            added = erasures.keep(found, options["append_to"])
        except FileRefused as error:
            raise CommandError(str(error), returncode=USAGE) from None
        self.stdout.write(f"Added {added} erasures to {options['append_to']}.")
