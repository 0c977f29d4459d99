from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import ReasonedCommand, actor
from loyalty.services.mending import mend_balance
from loyalty.services.merchants import find_card


class Command(ReasonedCommand):
    help = (
        "Set a balance that check_ledger named back to what the card's ledger says. The ledger stays as it is, and "
        "the reason goes to the log, so it must not name the customer. "
        "Changes data. Exit codes: 0 done, 2 usage, or the balance is right or missing, or the ledger itself "
        "is broken."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("card", metavar="CARD", help="the card's number (12 digits) or id")

    def handle(self, *args: Any, **options: Any) -> None:
        card = find_card(options["card"])
        balance = mend_balance(
            merchant=card.program.merchant,
            card_id=card.pk,
            reason=options["reason"],
            actor=actor(),
            at=timezone.now(),
        )
        self.stdout.write(
            f"The balance of card {card.pk} is {balance.points_balance} points and {balance.stamp_count} stamps, "
            "as its ledger says."
        )
