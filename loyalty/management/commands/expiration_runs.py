from typing import Any

from django.core.management.base import CommandParser

from loyalty.management.base import LoyaltyCommand, positive, usage
from loyalty.models import ExpirationRun


class Command(LoyaltyCommand):
    help = (
        "List the newest runs of expiry with what each did, or with RUN one of them with the cards that failed. "
        "Changes nothing. Exit codes: 0 done, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", nargs="?", type=int, metavar="RUN", help="the run's number")
        parser.add_argument("--last", type=positive, default=10, metavar="N", help="how many (default 10)")

    def handle(self, *args: Any, **options: Any) -> None:
        runs = ExpirationRun.objects.select_related("merchant")
        if options["run"] is None:
            newest = runs.order_by("-started_at")[: options["last"]]
            self.stdout.write("\n".join(map(_line, newest)) or "There is no expiration run yet.")
            return
        found = runs.filter(pk=options["run"]).first()
        if found is None:
            raise usage(f"There is no expiration run {options['run']}.")
        self._tell(found)

    def _tell(self, run: ExpirationRun) -> None:
        self.stdout.write(_line(run))
        begun_by = f", by {run.initiated_by}" if run.initiated_by else ""
        self.stdout.write(
            f"Started by {run.get_trigger_display().lower()}{begun_by}. Decided for {run.as_of:%F %T} UTC."
        )
        if run.reason:
            self.stdout.write(f"Reason: {run.reason}")
        if run.failed_card_ids:
            self.stdout.write(f"Failed cards: {', '.join(map(str, run.failed_card_ids))}")
        if run.error:
            self.stdout.write(run.error)


def _line(run: ExpirationRun) -> str:
    whose = run.merchant.slug if run.merchant else "all merchants"
    took = f"{(run.finished_at - run.started_at).total_seconds():.1f} s" if run.finished_at else "not ended"
    return (
        f"run {run.pk}  {run.started_at:%F %T} UTC  {whose}  {run.status}  {run.cards_expired} cards, "
        f"{run.points_expired} points, {run.warnings} warnings, {run.failed} failed  {took}"
    )
