from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand
from loyalty.services.explaining import explain
from loyalty.services.merchants import find_card


class Command(LoyaltyCommand):
    help = (
        "Tell a card's story: what it holds, until when and why, warnings and mails, and its latest ledger rows. "
        "Names nobody. Changes nothing. Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("card", metavar="CARD", help="the card's number (12 digits) or id")
        parser.add_argument("--rows", type=int, default=20, metavar="N", help="ledger rows, newest first (default 20)")

    def handle(self, *args: Any, **options: Any) -> None:
        card = find_card(options["card"])
        rows = max(options["rows"], 0)
        story = explain(merchant=card.program.merchant, card_id=card.pk, at=timezone.now(), movements=rows)
        self.stdout.write(f"Card {story.card_id}, number {story.card_number}, of {card.program.merchant.slug}.")
        for sentence in story.sentences:
            self.stdout.write(sentence)
        for row in story.movements:
            self.stdout.write(
                f"{row.happened_on}  {row.points_delta:+} = {row.points_balance_after}  "
                f"{row.sentence}  (transaction {row.transaction_id})"
            )
