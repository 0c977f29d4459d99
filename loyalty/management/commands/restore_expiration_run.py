from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import PARTIAL, ReasonedCommand, actor
from loyalty.services import restoring


class Command(ReasonedCommand):
    help = (
        "Give back everything an expiration run took, once per card; repeating it does nothing. Changes data. "
        "Exit codes: 0 done, 2 usage, 3 some cards failed, or are closed, merged or erased and were skipped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", type=int, help="the run's number")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        report = restoring.restore_expiration_run(
            run_id=options["run"], reason=options["reason"], actor=actor(), at=timezone.now()
        )
        if options["json"]:
            self.print_json(asdict(report))
        else:
            for label, card_ids in (
                ("Already restored", report.already_restored_card_ids),
                ("Skipped, no longer in use", report.skipped_card_ids),
                ("Failed, see the log", report.failed_card_ids),
            ):
                if card_ids:
                    self.stdout.write(f"{label}: {len(card_ids)} cards ({', '.join(map(str, card_ids[:20]))})")
            self.stdout.write(f"Restored {report.restored_points} points on {report.restored_cards} cards")
        if report.skipped_card_ids or report.failed_card_ids:
            raise SystemExit(PARTIAL)
