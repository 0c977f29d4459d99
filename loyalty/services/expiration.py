"""Idle points are warned about, and expire after the promised day. Never early, silent or twice."""

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfoNotFoundError

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now

from loyalty.models import ExpirationRun, Merchant, Program
from loyalty.services import expiring, guarding, idle_cards
from loyalty.services.adjustments import require_reason
from loyalty.services.expiring import Tally
from loyalty.services.guarding import Refusal
from loyalty.services.idle_cards import Term

log = structlog.get_logger()
Status = ExpirationRun.Status
Step = Callable[[Sequence[int], expiring.Terms, ExpirationRun], Tally]
CHUNK = 500
RUN_LOCK = 0x10A1  # tells our advisory locks from those of other programs on the same database


@dataclass
class ExpirationReport:
    """What a run did, or would do. The counts are of this run alone."""

    run_id: int | None = None
    status: str = "preview"
    programs: int = 0
    tally: Tally = field(default_factory=Tally)
    skipped_locked: int = 0
    failed_card_ids: list[int] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        done = self.tally
        return f"Expired {done.cards_expired} cards, {done.points_expired} points, {done.warnings} warnings"

    def as_json(self) -> dict[str, Any]:
        """The report in plain values, for `--json` and for the record of a task."""
        past = self.tally.past_limit
        return {
            "run_id": self.run_id,
            "status": str(self.status),
            "programs": self.programs,
            "cards_expired": self.tally.cards_expired,
            "points_expired": self.tally.points_expired,
            "warnings": self.tally.warnings,
            "skipped_locked": self.skipped_locked,
            "skipped_exempt": self.tally.skipped_exempt,
            "failed_card_ids": self.failed_card_ids,
            "warned_past_limit": {
                "cards": past.cards,
                "points": past.points,
                "first_day": past.first_day.isoformat() if past.first_day else None,
                "last_day": past.last_day.isoformat() if past.last_day else None,
            },
            "refusals": [asdict(refusal) for refusal in self.refusals],
            "errors": self.errors,
        }


class _Work(NamedTuple):
    """What every chunk of a run needs."""

    run: ExpirationRun
    terms: expiring.Terms
    report: ExpirationReport
    batch_size: int


def expire_points(
    *,
    as_of: datetime,
    at: datetime,
    trigger: ExpirationRun.Trigger,
    merchant: Merchant | None = None,
    initiated_by: str = "",
    confirmed_cards: int = 0,
    without_notice: bool = False,
    reason: str = "",
    batch_size: int = CHUNK,
) -> ExpirationReport:
    """Warn and expire what is due as of a moment, of one merchant or of all.

    `at` is this machine's clock, which must agree with the database's; ordinary runs have `as_of` equal to it.
    `confirmed_cards` lets a run take points from up to that many cards of a merchant without a timely notice.
    `without_notice` applies the plain rule once: older than the limit goes, promises apart.

    Several runs may work at the same time; they share the cards. Each chunk of `batch_size` cards is committed
    by itself with its ledger rows, messages and counts, so a run that is killed leaves whole chunks and the next
    one goes on. A card that fails is named in `failed_card_ids`; the others finish.

    Raises:
        ReasonRequired: points would go without a notice, and nobody says why.
        InvalidInput: the reason is too long, or no text.
    """
    reason = require_reason(reason) if reason or without_notice else ""
    _close_dead_runs()
    run = ExpirationRun(
        trigger=trigger,
        as_of=as_of,
        merchant=merchant,
        started_at=at,
        initiated_by=initiated_by,
        without_notice=without_notice,
        reason=reason,
    )
    report = ExpirationReport(status=Status.RUNNING)
    with _running(run, report):
        clock = guarding.database_clock()
        if refusal := guarding.clock_refusal(at, clock):
            report.refusals.append(refusal)
        else:
            # A clock that is a little ahead must not end anybody's day early.
            moment = as_of if as_of > at else min(as_of, clock)
            terms = _terms(moment, merchant=merchant, without_notice=without_notice, report=report)
            held = guarding.blast_refusals(terms, confirmed_cards=confirmed_cards)
            report.refusals += held.values()
            warnable, expirable = _candidates(terms, held)
            work = _Work(run, terms, report, batch_size)
            _through(warnable, expiring.warn, work)
            _through(expirable, expiring.expire, work)
    return report


def preview_expiration(
    *,
    as_of: datetime,
    merchant: Merchant | None = None,
    confirmed_cards: int = 0,
    without_notice: bool = False,
    batch_size: int = CHUNK,
) -> ExpirationReport:
    """Tell what a run as of this moment would do. It only reads: it writes nothing and locks nothing."""
    report = ExpirationReport()
    terms = _terms(as_of, merchant=merchant, without_notice=without_notice, report=report)
    held = guarding.blast_refusals(terms, confirmed_cards=confirmed_cards)
    report.refusals += held.values()
    for card_ids in _candidates(terms, held):
        for chunk in idle_cards.in_chunks(card_ids, batch_size):
            report.tally.add(expiring.preview(idle_cards.read(chunk), terms))
    return report


def _terms(
    as_of: datetime, *, merchant: Merchant | None, without_notice: bool, report: ExpirationReport
) -> dict[int, Term]:
    """The programs of this run by id. One that cannot be understood is named and does not stop the others."""
    programs = Program.objects.expiring().select_related("merchant").order_by("pk")
    terms = {}
    for program in programs if merchant is None else programs.filter(merchant=merchant):
        name, timezone = program.merchant.slug, program.merchant.timezone
        try:
            term = _term(program, as_of, without_notice=without_notice)
        except (ZoneInfoNotFoundError, OSError, ValueError):  # zoneinfo raises each of these, depending on the name
            report.errors.append(f"Merchant {name} has the unknown time zone {timezone}.")
        except OverflowError:
            report.errors.append(f"Merchant {name} lets points expire after more days than a calendar has.")
        else:
            if not program.is_paused(term.today):
                terms[program.pk] = term
    report.programs = len(terms)
    return terms


def _term(program: Program, as_of: datetime, *, without_notice: bool) -> Term:
    policy = program.policy
    today = policy.local_date(as_of)
    # Calculated once here, where what is out of range can be told from the other programs.
    policy.warn_before(today), policy.expire_before(today), policy.timely_until(today)
    return Term(program, replace(policy, requires_notice=False) if without_notice else policy, today)


def _candidates(terms: expiring.Terms, held: Collection[int]) -> "tuple[array[int], array[int]]":
    """Card ids to warn and to expire. Both are found first, so no card is in both."""
    expirable = [term for program_id, term in terms.items() if program_id not in held]
    return idle_cards.to_warn(list(terms.values())), idle_cards.to_expire(expirable)


def _through(card_ids: "array[int]", step: Step, work: _Work) -> None:
    """Take the cards chunk by chunk, and those that were locked once more at the end."""
    locked = array("q")
    for chunk in idle_cards.in_chunks(card_ids, work.batch_size):
        locked.extend(_commit(chunk, step, work))
    for chunk in idle_cards.in_chunks(locked, work.batch_size):
        work.report.skipped_locked += len(_commit(chunk, step, work))


def _commit(chunk: Sequence[int], step: Step, work: _Work) -> list[int]:
    """Do one chunk in one transaction; when it fails, its cards one by one. Returns what was locked."""
    try:
        with transaction.atomic():
            done = step(chunk, work.terms, work.run)
    except Exception:
        if not connection.is_usable():
            raise
        _hold_again(work.run)
        # Whatever is wrong with one card, the others are due tonight.
        log.warning("loyalty.expiration_chunk_failed", run_id=work.run.pk, cards=len(chunk))
        done = _one_by_one(chunk, step, work)
    work.report.tally.add(replace(done, locked=[]))
    return done.locked


def _one_by_one(chunk: Sequence[int], step: Step, work: _Work) -> Tally:
    total = Tally()
    with transaction.atomic():
        for card_id in chunk:
            try:
                with transaction.atomic():
                    total.add(step([card_id], work.terms, work.run))
            except Exception:
                if not connection.is_usable():
                    raise
                work.report.failed_card_ids.append(card_id)
                log.exception("loyalty.expiration_card_failed", run_id=work.run.pk, card_id=card_id)
    return total


def _close_dead_runs() -> None:
    """Mark runs whose process is gone as failed. What they committed stays, and their counts say what."""
    for run_id in ExpirationRun.objects.filter(status=Status.RUNNING).values_list("pk", flat=True):
        if not _advisory("pg_try_advisory_lock", run_id):
            continue
        ExpirationRun.objects.filter(pk=run_id, status=Status.RUNNING).update(
            status=Status.FAILED, finished_at=Now(), error="The process ended before the run did."
        )
        _advisory("pg_advisory_unlock", run_id)


def _advisory(function: str, run_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s, %s)", [RUN_LOCK, run_id])
        return bool(cursor.fetchone()[0])


def _hold_again(run: ExpirationRun) -> None:
    """Take the run's lock again if it went with a connection that was lost and has been replaced."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "
            "AND classid = %s AND objid = %s",
            [RUN_LOCK, run.pk],
        )
        held = cursor.fetchone()[0]
    if not held:
        _advisory("pg_try_advisory_lock", run.pk)


@contextmanager
def _running(run: ExpirationRun, report: ExpirationReport) -> Iterator[None]:
    """Hold the lock that tells a working run from a dead one, and write down how it ended."""
    with transaction.atomic():
        run.save(force_insert=True)
        # Before the row can be seen, or another run could take this one for dead.
        _advisory("pg_try_advisory_lock", run.pk)
    report.run_id = run.pk
    try:
        yield
        report.status = _status(report)
    except BaseException as error:  # Ctrl-C too: the row must say that the run is over
        report.status = Status.FAILED
        report.errors.append(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
        raise
    finally:
        _finish(run, report)


def _status(report: ExpirationReport) -> Status:
    if report.refusals:
        return Status.REFUSED
    return Status.PARTIAL if report.failed_card_ids or report.errors else Status.SUCCEEDED


def _finish(run: ExpirationRun, report: ExpirationReport) -> None:
    report.failed_card_ids.sort()
    ExpirationRun.objects.filter(pk=run.pk).update(
        status=report.status,
        finished_at=Now(),
        programs=report.programs,
        skipped_locked=report.skipped_locked,
        skipped_exempt=report.tally.skipped_exempt,
        failed=len(report.failed_card_ids),
        failed_card_ids=report.failed_card_ids,
        error="\n".join([*(refusal.sentence for refusal in report.refusals), *report.errors]),
    )
    _advisory("pg_advisory_unlock", run.pk)
    event = "loyalty.expiration_refused" if report.status == Status.REFUSED else "loyalty.expiration_finished"
    log.info(
        event,
        run_id=run.pk,
        result=str(report.status),
        cards_expired=report.tally.cards_expired,
        points_expired=report.tally.points_expired,
        warnings=report.tally.warnings,
        failed=len(report.failed_card_ids),
    )
