from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from loyalty.errors import MoreThanExpired
from loyalty.management.base import REFUSED, ReasonedCommand, actor
from loyalty.models import Card
from loyalty.services import restoring
from loyalty.services.merchants import find_card


class Command(ReasonedCommand):
    help = (
        "Give points back to a card. Doing it twice gives twice; what comes to more than ever expired on the card has "
        "to be confirmed. Changes data. Exit codes: 0 done, 2 usage, 4 more than expired, and not confirmed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("card", help="the card's number (12 digits) or id")
        parser.add_argument("points", type=int)
        parser.add_argument("--confirm", type=int, metavar="N", help="the same number: also if that is too much")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        card, points = find_card(options["card"]), options["points"]
        try:
            restored = _restore(card, options)
        except MoreThanExpired as error:
            raise CommandError(
                f"{error.sentence} Nothing was restored. If that is meant, run: manage.py restore_points {card.pk} "
                f"{points} --reason TEXT --confirm {points}",
                returncode=REFUSED,
            ) from None
        if options["json"]:
            self.print_json({**asdict(restored), "transaction": restored.transaction.pk})
            return
        if restored.warning:
            self.stdout.write(f"Please note: {restored.warning}")
        self.stdout.write(
            f"Restored {points} points on card {card.card_number}; "
            f"it now holds {restored.points_balance}. Transaction {restored.transaction.pk}."
        )


def _restore(card: Card, options: dict[str, Any]) -> restoring.Restoration:
    return restoring.restore_points(
        merchant=card.program.merchant,
        card_id=card.pk,
        points=options["points"],
        reason=options["reason"],
        actor=actor(),
        at=timezone.now(),
        only_expired=options["confirm"] != options["points"],
    )
