from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import FINDING, PARTIAL, REFUSED, LoyaltyCommand, actor, moment, positive, usage
from loyalty.models import ExpirationRun, Merchant
from loyalty.services import expiration
from loyalty.services.expiration import ExpirationReport
from loyalty.services.merchants import find_merchant
from notifications.tasks import wake_sender

EXIT_CODES = {
    ExpirationRun.Status.PARTIAL: PARTIAL,
    ExpirationRun.Status.REFUSED: REFUSED,
    ExpirationRun.Status.FAILED: FINDING,
}


class Command(LoyaltyCommand):
    help = (
        "Warn about and expire idle points. The last line is `Expired N cards, P points, W warnings`. "
        "Exit codes: 0 done, 1 failed, 2 usage, 3 some cards failed, 4 refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--merchant", metavar="ID|SLUG", help="only this merchant")
        parser.add_argument("--dry-run", action="store_true", help="tell what would happen, write nothing")
        parser.add_argument("--as-of", metavar="ISO", help="decide for this moment instead of now")
        parser.add_argument("--batch-size", type=positive, default=expiration.CHUNK, help="cards per commit")
        parser.add_argument(
            "--confirm", type=positive, metavar="N", help="let up to N cards go without a timely notice"
        )
        parser.add_argument("--without-notice", action="store_true", help="older than the limit goes, just this once")
        parser.add_argument("--reason", default="", help="why; kept with the run")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        as_of = moment(options["as_of"]) if options["as_of"] else now
        self._check(options)
        merchant = find_merchant(options["merchant"]) if options["merchant"] else None
        report = self._report(merchant, as_of=as_of, now=now, options=options)
        if options["json"]:
            self.print_json(report.as_json())
        else:
            self._tell(report, merchant, options)
        if not options["dry_run"] and not wake_sender():
            self.stderr.write("The broker is away; the mails are kept and leave when a worker is back.")
        if code := EXIT_CODES.get(ExpirationRun.Status(report.status)) if not options["dry_run"] else None:
            raise SystemExit(code)

    def _check(self, options: dict[str, Any]) -> None:
        if options["as_of"] and not options["dry_run"] and not settings.LOYALTY_ALLOW_AS_OF:
            raise usage("A real run with --as-of needs LOYALTY_ALLOW_AS_OF=1; with --dry-run it is always allowed.")
        if options["confirm"] and not options["merchant"]:
            raise usage("--confirm goes with --merchant: a number is confirmed for one merchant at a time.")
        if options["without_notice"] and not (options["merchant"] and options["reason"].strip()):
            raise usage("--without-notice goes with --merchant and --reason.")

    def _report(
        self, merchant: Merchant | None, *, as_of: datetime, now: datetime, options: dict[str, Any]
    ) -> ExpirationReport:
        if options["dry_run"]:
            return expiration.preview_expiration(
                as_of=as_of,
                merchant=merchant,
                confirmed_cards=options["confirm"] or 0,
                without_notice=options["without_notice"],
                batch_size=options["batch_size"],
            )
        return expiration.expire_points(
            as_of=as_of,
            at=now,
            trigger=ExpirationRun.Trigger.COMMAND,
            merchant=merchant,
            initiated_by=actor(),
            confirmed_cards=options["confirm"] or 0,
            without_notice=options["without_notice"],
            reason=options["reason"].strip(),
            batch_size=options["batch_size"],
        )

    def _tell(self, report: ExpirationReport, merchant: Merchant | None, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was written.")
        if merchant and not report.programs and not report.errors:
            self.stdout.write(f"{merchant.slug} has no active program with expiry, or its expiry is paused.")
        for line in [*(refusal.sentence for refusal in report.refusals), *report.errors]:
            self.stdout.write(line)
        if report.failed_card_ids:
            self.stdout.write(f"Failed cards: {', '.join(map(str, report.failed_card_ids))}")
        if report.skipped_locked:
            self.stdout.write(f"{report.skipped_locked} cards were in use and wait for the next run.")
        self._tell_past_limit(report, merchant)
        self.stdout.write(report.sentence)

    def _tell_past_limit(self, report: ExpirationReport, merchant: Merchant | None) -> None:
        past = report.tally.past_limit
        if not past.cards:
            return
        days = (
            f"on {past.first_day}" if past.first_day == past.last_day else f"from {past.first_day} to {past.last_day}"
        )
        self.stdout.write(
            f"{past.cards} cards with {past.points} points were past their limit and had never been warned. "
            f"They are warned now and keep their points to the end of their notice, {days}. To expire them without "
            f"one: manage.py expire_points --merchant {merchant.slug if merchant else 'SLUG'} "
            "--without-notice --reason TEXT"
        )
