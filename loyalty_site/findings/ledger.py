"""The expiry and the ledger: whether they are looked after every night, and what came of it."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import F, Max

from loyalty.models import ExpirationRun
from loyalty_site.findings.finding import DAILY, Finding, in_words, is_older
from loyalty_site.models import JobRun
from loyalty_site.schedules import LEDGER_CHECK

LAST_RUN: dict[str, str] = {
    ExpirationRun.Status.REFUSED: "was refused, and points wait to expire until a person decides.",
    ExpirationRun.Status.PARTIAL: "left cards out. Put them right, then run manage.py expire_points.",
    ExpirationRun.Status.FAILED: "ended before its time. Remove the cause, then run manage.py expire_points.",
}


def expiration_findings(at: datetime) -> Iterator[Finding]:
    """Whether whole runs succeed, night by night, and what became of the last one."""
    newest = ExpirationRun.objects.counting().aggregate(newest=Max("finished_at"))["newest"]
    if is_older(newest, DAILY, at):
        yield Finding(
            "expiration_stale",
            f"No whole expiration run has succeeded since {in_words(newest)}; one should every day. "
            "Check that beat and a worker run, then run manage.py expire_points.",
        )
    ended = ExpirationRun.objects.filter(merchant=None, as_of=F("started_at"), finished_at__isnull=False)
    last = ended.order_by("-started_at").first()
    if last is not None and last.status in LAST_RUN:
        yield Finding(f"expiration_{last.status}", f"Expiration run {last.pk} {LAST_RUN[last.status]} {_why(last)}")


def ledger_findings(at: datetime) -> Iterator[Finding]:
    last = JobRun.objects.last_success(LEDGER_CHECK)
    checked_at = last.finished_at if last else None
    if is_older(checked_at, DAILY, at):
        yield Finding(
            "ledger_check_stale",
            f"The ledger has not been checked since {in_words(checked_at)}; it should be every night. "
            "Check that beat and a worker run, then run manage.py jobs --run loyalty.check_ledger.",
        )
    if last is not None and last.result and last.result.get("mismatched_cards"):
        yield Finding(
            "ledger_mismatch",
            f"The ledger check found {last.result['mismatched_cards']} cards whose balance is not what their "
            "transactions say. Run manage.py check_ledger and do not change any balance before you know why.",
        )


def _why(run: ExpirationRun) -> str:
    cards = f"Cards: {', '.join(map(str, run.failed_card_ids[:10]))}. " if run.failed_card_ids else ""
    return cards + " ".join(run.error.split())
