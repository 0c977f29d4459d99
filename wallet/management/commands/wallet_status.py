from datetime import datetime
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from loyalty.management.base import FINDING, LoyaltyCommand
from wallet.models import SyncRun
from wallet.services.status import CredentialStatus, PlatformStatus, wallet_status

FAILURES_SHOWN = 20


class Command(LoyaltyCommand):
    help = (
        "Say how both wallets do: what is on, passes behind, calls that rest, days left, and the last run with its "
        "failed cards and why. Calls nobody. Exit codes: 0 all well, 1 calls rest, passes fail or were given up, or "
        "the last run failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--failures", type=int, default=FAILURES_SHOWN, metavar="N", help="of the last run")

    def handle(self, *args: Any, **options: Any) -> None:
        status = wallet_status(at=timezone.now())
        for platform in (status.apple, status.google):
            self._tell(platform, status.at)
        if status.last_run:
            self._tell_run(status.last_run, max(options["failures"], 0))
        if status.needs_somebody:
            raise SystemExit(FINDING)

    def _tell(self, status: PlatformStatus, at: datetime) -> None:
        name = str(status.platform)
        self.stdout.write(
            f"{name}: {'on' if status.is_configured else 'off'}, {status.passes_behind} passes behind, "
            f"{status.passes_failing} failing, {status.passes_given_up} given up"
        )
        for breaker in status.breakers:
            self.stdout.write(f"{name}: no calls since {breaker.opened_at:%F %T} UTC: {breaker.reason or breaker.code}")
        for credential in status.credentials:
            self.stdout.write(f"{name}: {_line(credential, at)}")

    def _tell_run(self, run: SyncRun, failures: int) -> None:
        self.stdout.write(
            f"last run {run.pk}: {run.started_at:%F %T} UTC, {run.status}, {_seconds(run)}, examined {run.examined}, "
            f"told {run.pushed}, unchanged {run.unchanged}, deferred {run.deferred}, to be tried again {run.retrying}, "
            f"given up {run.dead}"
        )
        if run.status == SyncRun.Status.FAILED:
            self.stdout.write(f"last run {run.pk} failed: {run.error or 'it left no reason'}")
        for failure in run.failures.order_by("card_id", "platform")[:failures]:
            ending = "given up" if failure.terminal else "tried again by itself"
            self.stdout.write(f"card {failure.card_id}: {failure.platform} {failure.code}, {ending}. {failure.reason}")


def _line(status: CredentialStatus, at: datetime) -> str:
    credential = status.credential
    error = f"; its last check failed: {credential.check_error}" if credential.check_error else ""
    return f"number {credential.pk}, {credential}, {credential.lasts(at)}, {status.days_old} days old{error}"


def _seconds(run: SyncRun) -> str:
    return f"{(run.finished_at - run.started_at).total_seconds():.1f} s" if run.finished_at else "not ended"
