"""Passes in phones follow their cards: what lags behind is found and told, and everything heals by looking again."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction

from wallet.models import Platform, SyncFailure, SyncRun
from wallet.services import opening
from wallet.services.apple_teller import AppleTeller
from wallet.services.claiming import Selection, only_runner
from wallet.services.google_teller import GoogleTeller
from wallet.services.lanes import Lane, LaneReport, Teller

Reports = dict[tuple[Platform, str], LaneReport]
log = structlog.get_logger(__name__)

LONGEST_RUN = timedelta(minutes=10)  # a task is killed then
ALL = Selection()
FIGURES = ("examined", "pushed", "unchanged", "deferred", "retrying", "dead")


@dataclass
class SyncReport:
    """What a run did.

    `failed_card_ids` are cards that four attempts could not show, or never will; `deferred` passes were not tried,
    because a breaker is open. A platform without a credential has the status "off", one that another process was
    busy with "busy".
    """

    run_id: int
    status: str = SyncRun.Status.SUCCEEDED.value
    examined: int = 0
    pushed: int = 0
    unchanged: int = 0
    deferred: int = 0
    retrying: int = 0
    dead: int = 0
    failed_card_ids: list[int] = field(default_factory=list)
    deferred_card_ids: list[int] = field(default_factory=list)
    by_platform: dict[str, dict[str, Any]] = field(default_factory=dict)
    breaker: dict[str, Any] = field(default_factory=dict)
    duration_s: float = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        return (
            f"Examined {self.examined} passes: {self.pushed} told, {self.unchanged} unchanged, "
            f"{self.deferred} deferred, {self.retrying} will be tried again, {self.dead} given up"
        )


def sync_passes(
    *, at: datetime, trigger: SyncRun.Trigger, selection: Selection = ALL, initiated_by: str = ""
) -> SyncReport:
    """Tell phones about cards that changed since they were last told.

    Each platform and credential is called by one process at a time; a second run leaves it to the first. A run ends
    when nothing is due or its time is over, and the next one goes on. It may die at any point: what was not noted as
    told is told again.
    """
    began = time.monotonic()
    _end_dead_runs(at=at)
    run = SyncRun.objects.create(trigger=trigger, started_at=at, initiated_by=initiated_by[:150])
    try:
        lanes, broken = _run_lanes(selection, at=at)
    except Exception as error:
        _note_crash(run, error, at=at + timedelta(seconds=time.monotonic() - began))
        raise
    report = _summed_up(run, lanes)
    if broken:
        report.status, run.error = SyncRun.Status.FAILED.value, _named(broken[0])
    report.duration_s = round(time.monotonic() - began, 3)
    _record(run, report, lanes, at=at + timedelta(seconds=report.duration_s))
    took_ms = round(1000 * report.duration_s)
    log.info("wallet.sync_finished", run_id=run.pk, result=report.status, duration_ms=took_ms, **_figures(report))
    if broken:
        raise broken[0]
    return report


def _run_lanes(selection: Selection, *, at: datetime) -> tuple[Reports, list[BaseException]]:
    """Each credential's lane, side by side, and what broke some. What another process is busy with is left to it."""
    reports: Reports = {}
    broken: list[BaseException] = []
    lanes = []
    with ExitStack() as ours:
        for platform in Platform:
            identifiers = opening.configured(platform)
            if not identifiers:
                reports[platform, ""] = LaneReport(status="off")
            for identifier in identifiers:
                if ours.enter_context(only_runner(platform, identifier)):
                    lanes.append(_lane(platform, identifier, selection, at=at))
                else:
                    reports[platform, identifier] = LaneReport(status="busy")
        ended = async_to_sync(_side_by_side)(lanes)
    for lane, outcome in zip(lanes, ended, strict=True):
        if isinstance(outcome, BaseException):
            broken.append(_first(outcome))
            lane.report.status = "failed"
        reports[lane.platform, lane.identifier] = lane.report
    return reports, broken


async def _side_by_side(lanes: Sequence[Lane]) -> list[LaneReport | BaseException]:
    """What became of each lane. One that breaks leaves the others alone."""
    return await asyncio.gather(*(lane.run() for lane in lanes), return_exceptions=True)


def _first(failure: BaseException) -> BaseException:
    return _first(failure.exceptions[0]) if isinstance(failure, BaseExceptionGroup) else failure


def _lane(platform: Platform, identifier: str, selection: Selection, *, at: datetime) -> Lane:
    teller: Teller = AppleTeller(identifier) if platform is Platform.APPLE else GoogleTeller(identifier)
    return Lane(
        platform=platform,
        identifier=identifier,
        teller=teller,
        selection=selection,
        at=at,
        budget_seconds=settings.WALLET_SYNC_SECONDS,
    )


def _summed_up(run: SyncRun, lanes: Reports) -> SyncReport:
    report = SyncReport(run.pk)
    for (platform, _), lane in lanes.items():
        for name in FIGURES:
            setattr(report, name, getattr(report, name) + getattr(lane, name))
        report.by_platform[platform.value] = _added(report.by_platform.get(platform.value), lane.figures())
        if lane.breaker:
            report.breaker[platform.value] = lane.breaker
    report.failed_card_ids = sorted({failure.card_id for lane in lanes.values() for failure in lane.failures})
    report.deferred_card_ids = sorted({card for lane in lanes.values() for card in lane.deferred_card_ids})[:100]
    statuses = {lane.status for lane in lanes.values()}
    if report.failed_card_ids:
        report.status = SyncRun.Status.PARTIAL.value
    elif "busy" in statuses and not statuses & {"ran", "open"}:
        report.status = SyncRun.Status.SKIPPED.value
    return report


def _added(before: dict[str, Any] | None, lane: dict[str, Any]) -> dict[str, Any]:
    """The figures of a platform that has several credentials; its status is that of the last."""
    return {**lane, **{name: (before or {}).get(name, 0) + lane[name] for name in FIGURES}}


def _figures(report: SyncReport) -> dict[str, int]:
    return {name: getattr(report, name) for name in FIGURES}


@transaction.atomic
def _record(run: SyncRun, report: SyncReport, lanes: Reports, *, at: datetime) -> None:
    SyncFailure.objects.bulk_create(
        SyncFailure(
            run=run,
            card_id=failure.card_id,
            platform=platform,
            code=failure.code[:60],
            reason=failure.reason[:500],
            terminal=failure.is_dead,
        )
        for (platform, _), lane in lanes.items()
        for failure in lane.failures
    )
    run.status, run.finished_at = report.status, at
    run.failed_card_ids, run.deferred_card_ids = report.failed_card_ids, report.deferred_card_ids
    run.by_platform, run.breaker = report.by_platform, report.breaker
    for name, value in _figures(report).items():
        setattr(run, name, value)
    run.save()


def _note_crash(run: SyncRun, error: Exception, *, at: datetime) -> None:
    SyncRun.objects.filter(pk=run.pk).update(status=SyncRun.Status.FAILED, finished_at=at, error=_named(error))


def _named(error: BaseException) -> str:
    return f"It ended with {type(error).__name__}."


def _end_dead_runs(*, at: datetime) -> None:
    """Close the records of runs whose process was killed."""
    dead = SyncRun.objects.filter(status=SyncRun.Status.RUNNING, started_at__lt=at - LONGEST_RUN)
    dead.update(status=SyncRun.Status.FAILED, finished_at=at, error="Its process ended before it did.")
