import argparse
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError
from django.utils import timezone

from loyalty.management.base import FINDING, ReasonedCommand, actor
from loyalty.services.adjustments import adjust
from loyalty.services.merchants import find_card


class Command(ReasonedCommand):
    help = (
        "Add points to a card or, with a minus sign, take some, by a ledger row of its own. More points count as "
        "activity. Changes data. Exit codes: 0 done, 1 the card's balance and its ledger differ, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("card", metavar="CARD", help="the card's number (12 digits) or id")
        parser.add_argument("points", type=_points, metavar="POINTS", help="such as 20, or -20")

    def handle(self, *args: Any, **options: Any) -> None:
        card = find_card(options["card"])
        try:
            row = adjust(
                merchant=card.program.merchant,
                card_id=card.pk,
                points=options["points"],
                reason=options["reason"],
                actor=actor(),
                at=timezone.now(),
            )
        except IntegrityError as error:
            if "does not continue the one before it" not in str(error):
                raise
            raise CommandError(
                f"Card {card.pk} cannot move: its balance is not what its ledger says. Run manage.py check_ledger.",
                returncode=FINDING,
            ) from None
        self.stdout.write(
            f"Adjusted card {card.card_number} by {options['points']:+} points; "
            f"it now holds {row.points_balance_after}. Transaction {row.pk}."
        )


def _points(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!a} is not a whole number") from None
