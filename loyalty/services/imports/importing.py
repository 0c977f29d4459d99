"""Cards and balances come in from a file of another system."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from loyalty.errors import EnrolmentClosed, ImportRefused, InvalidInput
from loyalty.models import CardImport, CardImportRow, Merchant, Program
from loyalty.models.contact import normalised_email, normalised_phone
from loyalty.services import staging
from loyalty.services.csv_files import Problems
from loyalty.services.imports import checking
from loyalty.services.imports.issuing import Issue, issue_cards

log = structlog.get_logger()
Progress = Callable[[str, int, int], None]
COLUMNS = [*checking.CHECKS]
IMPORT_LOCK = 0x10A2  # tells our advisory locks from those of other programs on the same database


class Outcome(StrEnum):
    CHECKED = "checked"
    IMPORTED = "imported"
    ALREADY_IMPORTED = "already imported"


@dataclass
class ImportReport:
    """What an import did, or for a preview would do. `skipped` counts lines, which may have several problems.

    `imported` includes the `imported_before` an interruption.
    """

    outcome: Outcome
    rows: int
    imported: int
    skipped: int
    imported_before: int = 0
    import_id: int | None = None
    finished_at: datetime | None = None
    problems: Problems = field(default_factory=Problems)


def import_cards(
    *,
    path: Path,
    merchant: Merchant,
    skip_bad: bool,
    actor: str,
    at: datetime,
    progress: Progress = lambda _step, _done, _total: None,
) -> ImportReport:
    """Create a customer and a card with its balance for each line of a CSV file. Nobody is written to.

    The lines wait in a table, checked, until they are cards; they become cards in chunks. After an interruption
    the same file continues where it stopped, whatever its name, as it was begun (`skip_bad` is not asked again).
    A file that was imported to its end is not imported again. Lines with problems refuse the file before anything
    is created, or are left out with `skip_bad`. Activity counts from noon of the imported local date.

    `progress` is told a step ("reading" in bytes, "checking", "importing" in lines), and how much of it is done.

    Raises:
        InvalidInput: the file is missing, not a file, or closed to us.
        ImportRefused: the file has problems, which `problems` names, or no lines to import; or another process is
            importing for this merchant.
        EnrolmentClosed: the merchant has no program.
    """
    program = _program(merchant)
    sha256 = staging.fingerprint(path)
    with _alone(merchant):
        card_import = CardImport.objects.filter(merchant=merchant, sha256=sha256).first()
        if card_import and card_import.finished_at:
            return _report(card_import, Outcome.ALREADY_IMPORTED)
        imported_before = card_import.imported if card_import else 0
        if card_import is None:
            with transaction.atomic():
                card_import = _begin(path, program, sha256, actor=actor, at=at, progress=progress)
                _refuse_problems(card_import, skip_bad=skip_bad)
        rows = card_import.rows
        done_before = rows - CardImportRow.objects.waiting(card_import).count()
        issue_cards(Issue(card_import, program, at), lambda done: progress("importing", done_before + done, rows))
        return _finish(card_import, imported_before)


def preview_import(
    *,
    path: Path,
    merchant: Merchant,
    skip_bad: bool,
    at: datetime,
    progress: Progress = lambda _step, _done, _total: None,
) -> ImportReport:
    """What `import_cards` would do with a file at this moment, refusals included. Changes nothing."""
    program = _program(merchant)
    sha256 = staging.fingerprint(path)
    with _alone(merchant), transaction.atomic():
        card_import = CardImport.objects.filter(merchant=merchant, sha256=sha256).first()
        if card_import and card_import.finished_at:
            return _report(card_import, Outcome.ALREADY_IMPORTED)
        imported_before = card_import.imported if card_import else 0
        if card_import is None:
            card_import = _begin(path, program, sha256, actor="preview", at=at, progress=progress)
            _refuse_problems(card_import, skip_bad=skip_bad)
        report = _report(card_import, Outcome.CHECKED)
        report.imported_before = imported_before
        transaction.set_rollback(True)
    return report


def _program(merchant: Merchant) -> Program:
    program = Program.objects.select_related("merchant").filter(merchant=merchant).first()
    if program is None:
        raise EnrolmentClosed(f"{merchant.name} has no program yet; cards belong to one. Create it first.")
    return program


@contextmanager
def _alone(merchant: Merchant) -> Iterator[None]:
    """Hold the merchant's import lock. PostgreSQL lets go of it when the process dies."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [IMPORT_LOCK, merchant.pk])
        if not cursor.fetchone()[0]:
            raise ImportRefused(
                f"Another process is importing cards for {merchant.name} at this moment. Wait until it has finished."
            )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [IMPORT_LOCK, merchant.pk])


def _begin(path: Path, program: Program, sha256: str, *, actor: str, at: datetime, progress: Progress) -> CardImport:
    """Put the lines of the file where they wait, and note what is wrong with them."""
    merchant = program.merchant
    name = staging.shown(Path(path.name))[:255]
    card_import = CardImport.objects.create(merchant=merchant, file_name=name, sha256=sha256, actor=actor)
    staged = staging.stage(
        path,
        table=CardImportRow._meta.db_table,
        columns={column: column for column in COLUMNS},
        required=["external_id", "points"],
        constants={"card_import_id": card_import.pk},
        convert={"email": _email, "phone": partial(_phone, country=merchant.country)},
        problems_column="problems",
        progress=partial(progress, "reading"),
    )
    if staged.sha256 != sha256:
        raise ImportRefused("The file was changed while it was read. Import it again when it rests.")
    if not staged.rows:
        raise ImportRefused(f"{staging.shown(path)} has a header and no lines: there is nothing to import.")
    progress("checking", 0, staged.rows)
    checking.find_problems(card_import, today=program.policy.local_date(at))
    card_import.rows = staged.rows
    card_import.save(update_fields=["rows"])
    return card_import


def _email(raw: str) -> str:
    try:
        return normalised_email(raw)
    except InvalidInput:
        raise InvalidInput("is not an e-mail address, such as ana@example.com") from None


def _phone(raw: str, *, country: str) -> str:
    try:
        return normalised_phone(raw, country=country)
    except InvalidInput:
        raise InvalidInput("is not a phone number, such as +352 621 123 456") from None


def _refuse_problems(card_import: CardImport, *, skip_bad: bool) -> None:
    bad = CardImportRow.objects.with_problems(card_import).count()
    if not bad or (skip_bad and bad < card_import.rows):
        return
    problems = checking.problems_of(card_import)
    found = f"{problems.count:,} problems in {bad:,} of {card_import.rows:,} lines; nothing was imported."
    advice = "Correct the file, or leave these lines out (skip-bad)."
    raise problems.refusal(f"{found} {advice if bad < card_import.rows else 'No line is good.'}")


def _report(card_import: CardImport, outcome: Outcome) -> ImportReport:
    card_import.refresh_from_db()
    skipped, imported = card_import.skipped, card_import.imported
    if outcome != Outcome.ALREADY_IMPORTED:
        skipped = CardImportRow.objects.with_problems(card_import).count()
    return ImportReport(
        outcome=outcome,
        rows=card_import.rows,
        imported=card_import.rows - skipped if outcome == Outcome.CHECKED else imported,
        skipped=skipped,
        import_id=None if outcome == Outcome.CHECKED else card_import.pk,
        finished_at=card_import.finished_at,
        problems=checking.problems_of(card_import),
    )


def _finish(card_import: CardImport, imported_before: int) -> ImportReport:
    with transaction.atomic():
        report = _report(card_import, Outcome.IMPORTED)
        CardImport.objects.filter(pk=card_import.pk).update(finished_at=Now(), skipped=report.skipped)
        CardImportRow.objects.filter(card_import=card_import).delete()
    report.imported_before = imported_before
    log.info(
        "loyalty.cards_imported",
        import_id=card_import.pk,
        merchant_id=card_import.merchant_id,
        imported=report.imported,
        skipped=report.skipped,
    )
    return report
