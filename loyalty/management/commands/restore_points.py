from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import ReasonedCommand, actor
from loyalty.services import restoring
from loyalty.services.merchants import find_card


class Command(ReasonedCommand):
    help = "Give points back to a card. Changes data. Exit codes: 0 done, 2 usage."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("card", help="the card's number (12 digits) or id")
        parser.add_argument("points", type=int)
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        card = find_card(options["card"])
        restored = restoring.restore_points(
            merchant=card.program.merchant,
            card_id=card.pk,
            points=options["points"],
            reason=options["reason"],
            actor=actor(),
            at=timezone.now(),
        )
        if options["json"]:
            self.print_json({**asdict(restored), "transaction": restored.transaction.pk})
            return
        if restored.warning:
            self.stdout.write(f"Please note: {restored.warning}")
        self.stdout.write(
            f"Restored {options['points']} points on card {card.card_number}; "
            f"it now holds {restored.points_balance}. Transaction {restored.transaction.pk}."
        )
