import os
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand, usage
from loyalty.models import Card
from wallet.services.issuing import hand_out

OWNER_ONLY = 0o600


class Command(LoyaltyCommand):
    help = (
        "Sign a card's Apple pass and write it to a file, as its link would give it out: to look at, or to send to a "
        "phone. Makes the pass if the card has none yet. Changes data. Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("card", metavar="CARD", help="the card's number (12 digits) or id")
        parser.add_argument("file", type=Path, metavar="FILE", help="such as pass.pkpass; a new file")

    def handle(self, *args: Any, **options: Any) -> None:
        card, path = _card(options["card"]), options["file"]
        package = hand_out(card=card, at=timezone.now())
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb") as file:
                file.write(package.content)
        except OSError as error:
            raise usage(f"{str(path)!a} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"Wrote the pass of card {card.pk} to {path}, {len(package.content)} bytes.")


def _card(name: str) -> Card:
    if found := Card.objects.called(name):
        return found
    raise usage(f"There is no card {name!a}.")
