from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from loyalty.errors import ConfirmationRequired, NothingToChange
from loyalty.management.base import REFUSED, ReasonedCommand, actor, usage
from loyalty.services.merchants import find_merchant
from loyalty.services.policies import pause_expiry


class Command(ReasonedCommand):
    help = (
        "Let nobody be warned and nothing expire at a merchant, up to and including a day. An earlier end than "
        "before takes points sooner: it is told what that means, and is confirmed by --confirm. Changes data. Exit "
        "codes: 0 done, 2 usage, 4 not confirmed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("merchant", metavar="MERCHANT", help="slug or id")
        parser.add_argument("--until", required=True, metavar="DATE", help="the last day of the pause")
        parser.add_argument(
            "--confirm", type=int, metavar="N", help="end it earlier, with up to N cards past the limit"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        merchant, until = find_merchant(options["merchant"]), _day(options["until"])
        at = timezone.now()
        pause = {"program_id": merchant.program.pk, "until": until, "reason": options["reason"], "actor": actor()}
        try:
            pause_expiry(**pause, at=at, confirmed_cards=options["confirm"])
        except NothingToChange:
            self.stdout.write(f"Expiry of {merchant.slug} is paused until {until} already.")
            return
        except ConfirmationRequired as error:
            cards = error.details["impact"]["cards_past_limit"]
            raise CommandError(
                f"{error.sentence} Nothing was changed. If that is meant, run: manage.py pause_expiry {merchant.slug} "
                f"--until {until} --reason TEXT --confirm {cards}",
                returncode=REFUSED,
            ) from None
        self.stdout.write(f"Expiry of {merchant.slug} is paused until the end of {until}.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise usage(f"{text!a} is not a date such as 2026-03-31.") from None
