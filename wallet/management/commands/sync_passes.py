from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.errors import CardNotFound, MerchantNotFound
from loyalty.management.base import FINDING, PARTIAL, LoyaltyCommand, actor
from loyalty.models import Card, Merchant
from wallet.models import SyncRun
from wallet.services import syncing
from wallet.services.claiming import Selection
from wallet.services.passes import sync_again
from wallet.services.syncing import SyncReport


class Command(LoyaltyCommand):
    help = (
        "Tell phones about cards that changed since they were last told. Exit codes: 0 done, 1 a breaker is open and "
        "passes wait, 2 usage, 3 some cards failed, or have no pass."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--card", nargs="+", default=[], metavar="CARD", help="only these, by number or id")
        parser.add_argument("--merchant", metavar="ID|SLUG", help="only this merchant")
        parser.add_argument("--dead", action="store_true", help="try again what was given up")
        parser.add_argument("--force", action="store_true", help="tell again what was told already")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        selection = Selection(
            card_ids=list(map(_card_id, options["card"])), merchant=self._merchant(options["merchant"])
        )
        self._mark(selection, options, now)
        without_pass = self._without_pass(selection)
        self._explain(selection, without_pass, options)
        report = syncing.sync_passes(at=now, trigger=SyncRun.Trigger.COMMAND, selection=selection, initiated_by=actor())
        if options["json"]:
            self.print_json(report.as_json())
        else:
            self._tell(report)
        if report.failed_card_ids or without_pass:
            raise SystemExit(PARTIAL)
        if report.deferred:
            raise SystemExit(FINDING)

    def _merchant(self, name: str | None) -> Merchant | None:
        if name is None:
            return None
        if found := Merchant.objects.called(name):
            return found
        raise MerchantNotFound(f"There is no merchant {name!a}.")

    def _mark(self, selection: Selection, options: dict[str, Any], now: datetime) -> None:
        passes = selection.passes()
        if options["force"]:
            sync_again(passes=passes if options["dead"] else passes.filter(dead_at=None), at=now)
        elif options["dead"]:
            sync_again(passes=passes.filter(dead_at__isnull=False), at=now)

    def _without_pass(self, selection: Selection) -> list[int]:
        """Cards that were named and that the run has nothing to do with."""
        known = selection.passes().values_list("card_id", flat=True) if selection.card_ids else ()
        return sorted(set(selection.card_ids) - set(known))

    def _explain(self, selection: Selection, without_pass: list[int], options: dict[str, Any]) -> None:
        """Say which of the chosen passes are not told, and why."""
        if options["json"]:
            return
        for card_id in without_pass:
            self.stdout.write(f"Card {card_id} has no pass.")
        if given_up := selection.passes().filter(dead_at__isnull=False).count():
            self.stdout.write(
                f"{given_up} passes were given up; they are tried again when their card changes, or now with --dead."
            )

    def _tell(self, report: SyncReport) -> None:
        for platform, lane in report.by_platform.items():
            if lane["status"] == "off":
                self.stdout.write(f"{platform}: no credential is active, so it is switched off.")
            if lane["status"] == "busy":
                self.stdout.write(f"{platform}: another run is telling phones right now, and takes this along.")
        for platform, breaker in report.breaker.items():
            self.stdout.write(f"{platform}: no calls since {breaker['open_since']}. {breaker['reason']}")
        if report.failed_card_ids:
            self.stdout.write(f"Failed cards: {', '.join(map(str, report.failed_card_ids))}")
        self.stdout.write(report.sentence)


def _card_id(name: str) -> int:
    if found := Card.objects.called(name):
        return found.pk
    raise CardNotFound(f"There is no card {name!a}.")
