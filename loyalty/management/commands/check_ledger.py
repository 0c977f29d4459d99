from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import FINDING, LoyaltyCommand
from loyalty.services import ledger_check


class Command(LoyaltyCommand):
    help = "Prove that every balance is what the ledger says. Exit codes: 0 clean, 1 mismatches (named)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        report = ledger_check.check_ledger()
        if options["json"]:
            self.print_json(asdict(report))
        else:
            for mismatch in report.mismatches:
                self.stdout.write(f"card {mismatch.card_id}: {mismatch.problem}")
            self.stdout.write(
                f"Checked {report.cards} cards and {report.transactions} transactions: "
                f"{report.mismatched_cards} mismatches"
            )
        if report.mismatched_cards:
            raise SystemExit(FINDING)
