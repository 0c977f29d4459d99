from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand, usage
from loyalty.models import Card
from wallet.services.issuing import hand_out


class Command(LoyaltyCommand):
    help = (
        "Sign a card's Apple pass and write it to a file, as its link would give it out: to look at, or to send to a "
        "phone. Makes the pass if the card has none yet. Changes data. Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("card", metavar="CARD", help="the card's number (12 digits) or id")
        parser.add_argument("file", type=Path, metavar="FILE", help="such as pass.pkpass; it is overwritten")

    def handle(self, *args: Any, **options: Any) -> None:
        card, path = _card(options["card"]), options["file"]
        package = hand_out(card=card, at=timezone.now())
        try:
            path.write_bytes(package.content)
            path.chmod(0o600)
        except OSError as error:
            raise usage(f"{str(path)!a} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"Wrote the pass of card {card.pk} to {path}, {len(package.content)} bytes.")


def _card(name: str) -> Card:
    found = Card.objects.filter(card_number=name).first()
    if found is None and name.isascii() and name.isdigit() and len(name) < 19:
        found = Card.objects.filter(pk=int(name)).first()
    if found is None:
        raise usage(f"There is no card {name!a}.")
    return found
