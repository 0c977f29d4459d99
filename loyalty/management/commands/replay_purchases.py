import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import LoyaltyCommand
from loyalty.services import replaying
from loyalty.services.replaying import Progress, ReplayPlan

SECONDS_BETWEEN_LINES = 5
LABELS = {"expired_cards": "expiries"}  # a card whose points expired twice counts twice


def decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-03-31") from None


class Command(LoyaltyCommand):
    help = (
        "Replay a purchase log for a new merchant: points for every purchase, the real expiry every night. Shows what "
        "a policy would have done to your own history. The file is CSV with the columns customer, date and amount "
        "(or amount_usd). Exit codes: 0 done, 1 the file has problems (named by line), 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--merchant", required=True, metavar="SLUG", help="the new merchant's slug")
        parser.add_argument("--points-per-unit", type=decimal, default=Decimal(1), metavar="R")
        parser.add_argument("--expiration-days", type=int, default=180, metavar="D", help="0: never (default 180)")
        parser.add_argument("--warning-days", type=int, default=14, metavar="W", help="(default 14)")
        parser.add_argument("--until", type=day, metavar="DATE", help="last night (default: after the last purchase)")
        parser.add_argument("--last-day", type=day, metavar="DATE", help="move all dates so that the last is this one")
        parser.add_argument("--email-domain", default="", help="give each customer an address at this domain")
        parser.add_argument("--json", action="store_true", help="print the totals as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        plan = ReplayPlan(
            path=options["file"],
            slug=options["merchant"],
            points_per_unit=options["points_per_unit"],
            expiration_days=options["expiration_days"],
            warning_days=options["warning_days"],
            until=options["until"],
            last_day=options["last_day"],
            email_domain=options["email_domain"],
        )
        logging.disable(logging.INFO)  # an event per purchase would bury the progress
        totals = replaying.replay_purchases(
            plan=plan, today=timezone.now().date(), clock=timezone.now, progress=shown(sys.stderr)
        )
        if sys.stderr.isatty():
            self.stderr.write("")  # the totals begin on a line of their own
        if options["json"]:
            self.print_json(asdict(totals))
            return
        for name, value in asdict(totals).items():
            self.stdout.write(f"{LABELS.get(name, name.replace('_', ' ')):<20}{value:>12,}")


def shown(stream: TextIO) -> Callable[[Progress], None]:
    """A callback that shows progress: one line rewritten on a terminal, a line now and then elsewhere."""
    pause = 0.2 if stream.isatty() else SECONDS_BETWEEN_LINES
    last = monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if monotonic() - last < pause:
            return
        last = monotonic()
        line = (
            f"{progress.day}  {progress.purchases:,} of {progress.of_purchases:,} purchases, {progress.cards:,} cards"
        )
        stream.write(f"\r{line}" if stream.isatty() else f"{line}\n")
        stream.flush()

    return show
