import sys
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from loyalty.errors import ImportRefused
from loyalty.management.base import FINDING, INTERRUPTED, PARTIAL, LoyaltyCommand, actor, named_problems
from loyalty.management.progress import ProgressBar
from loyalty.services.imports import ImportReport, Outcome, import_cards, preview_import
from loyalty.services.merchants import find_merchant


class Command(LoyaltyCommand):
    help = (
        "Import customers, cards and balances from a CSV file with the columns external_id and points, and if you like "
        "first_name, last_name, email, phone, birth_date, locale, stamps and last_activity_on. Dates are YYYY-MM-DD. "
        "Changes data. Interrupted, the same command continues. Exit codes: 0 done, 1 the file has problems (named by "
        "line), 2 usage, 3 done, but lines were left out, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--merchant", required=True, metavar="SLUG|ID")
        parser.add_argument("--dry-run", action="store_true", help="tell what would happen, change nothing")
        parser.add_argument("--skip-bad", action="store_true", help="leave out lines with problems, import the others")
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        began_at = monotonic()
        try:
            report = self._report(options)
        except ImportRefused as error:
            if not options["json"]:
                raise
            self.print_json({"outcome": "refused", "detail": error.sentence, **_problems(error)})
            raise SystemExit(FINDING) from None
        except KeyboardInterrupt:
            sentence = "Interrupted. The same command continues where this one stopped."
            raise CommandError(sentence, returncode=INTERRUPTED) from None
        seconds = monotonic() - began_at
        if options["json"]:
            self.print_json(_as_json(report, seconds))
        else:
            self.stdout.write(named_problems(report.problems.refusal("")) + _sentence(report, seconds))
        if report.skipped and report.outcome != Outcome.ALREADY_IMPORTED:
            raise SystemExit(PARTIAL)

    def _report(self, options: dict[str, Any]) -> ImportReport:
        bar = ProgressBar(sys.stderr)
        asked = {"path": options["file"], "skip_bad": options["skip_bad"], "at": timezone.now(), "progress": bar}
        merchant = find_merchant(options["merchant"])
        try:
            if options["dry_run"]:
                return preview_import(merchant=merchant, **asked)
            return import_cards(merchant=merchant, actor=actor(), **asked)
        finally:
            bar.close()


def _problems(error: ImportRefused) -> dict[str, Any]:
    return {"problem_count": error.details.get("problem_count", 0), "problems": error.details.get("problems", [])}


def _as_json(report: ImportReport, seconds: float) -> dict[str, Any]:
    return {
        **asdict(report),
        "finished_at": report.finished_at.isoformat() if report.finished_at else None,
        "problem_count": report.problems.count,
        "problems": report.problems.as_json(),
        "seconds": round(seconds, 1),
    }


def _sentence(report: ImportReport, seconds: float) -> str:
    cards = f"{report.imported:,} cards, {report.skipped:,} lines left out"
    if report.outcome == Outcome.ALREADY_IMPORTED:
        return f"This file was imported on {report.finished_at:%Y-%m-%d at %H:%M} UTC: {cards}. Nothing to do."
    if report.outcome == Outcome.CHECKED:
        return f"Dry run, nothing was changed. An import would give {cards}."
    before = f" {report.imported_before:,} of them were there from before." if report.imported_before else ""
    rate = (report.imported - report.imported_before) / max(seconds, 0.001)
    return f"Imported {cards}.{before} It took {seconds:,.0f} s, {rate:,.0f} cards/s."
