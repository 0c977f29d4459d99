from datetime import date
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.errors import NothingToChange
from loyalty.management.base import ReasonedCommand, actor, usage
from loyalty.services.merchants import find_merchant
from loyalty.services.policies import pause_expiry


class Command(ReasonedCommand):
    help = (
        "Let nobody be warned and nothing expire at a merchant, up to and including a day. An earlier end is set in "
        "the admin, which shows first what it means. Changes data. Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("merchant", metavar="MERCHANT", help="slug or id")
        parser.add_argument("--until", required=True, metavar="DATE", help="the last day of the pause")

    def handle(self, *args: Any, **options: Any) -> None:
        merchant, until = find_merchant(options["merchant"]), _day(options["until"])
        at = timezone.now()
        pause = {"program_id": merchant.program.pk, "until": until, "reason": options["reason"], "actor": actor()}
        try:
            pause_expiry(**pause, at=at)
        except NothingToChange:
            self.stdout.write(f"Expiry of {merchant.slug} is paused until {until} already.")
            return
        self.stdout.write(f"Expiry of {merchant.slug} is paused until the end of {until}.")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise usage(f"{text!a} is not a date such as 2026-03-31.") from None
