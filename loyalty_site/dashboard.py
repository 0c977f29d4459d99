"""What the admin's first page shows: read in a few statements, and put into figures that a template can print."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.http import HttpRequest
from django.utils.timesince import timesince
from django_celery_beat.models import PeriodicTask

from loyalty.models import ExpirationRun, Merchant
from loyalty.models.money import spelled
from loyalty.services import reports
from loyalty.services.reports import DayOfPoints, Outstanding
from loyalty_site.findings import LOOKS
from loyalty_site.models import JobRun
from notifications.models import Message

CHART_DAYS = 30
CHART_HEIGHT = 64
SLOT = 36  # a day's width, bar and gap
ENTRIES_AT_MOST = 50
NEWEST_MESSAGES = 100_000
COUNTED_AT_MOST = 10_000


def dashboard(request: HttpRequest, at: datetime) -> dict[str, Any]:
    """What this user may know: figures of their merchants, and for operators how the machinery does."""
    shown: dict[str, Any] = {}
    if request.user.has_perm("loyalty.view_program"):
        shown |= _figures(request, at)
    if request.user.has_perm("loyalty_site.view_jobrun"):
        shown |= {
            "findings": [finding for look in LOOKS for finding in look(at)],
            "jobs": _jobs(at),
            "last_run": _last_whole_run(at),
            "outbox": _outbox(),
        }
    return shown


def _figures(request: HttpRequest, at: datetime) -> dict[str, Any]:
    merchants = None
    if not request.user.is_superuser:
        merchants = list(Merchant.objects.readable_by(request.user).values_list("pk", flat=True))
    standing = reports.outstanding(at=at, merchants=merchants)
    return {
        "no_merchants": merchants == [],
        "tiles": _tiles(standing),
        "programs": [_program(program) for program in standing.largest],
        "programs_more": standing.programs - len(standing.largest),
        "chart": _chart(at, merchants),
    }


class Tile(NamedTuple):
    label: str
    figure: str
    note: str


def _tiles(standing: Outstanding) -> list[Tile]:
    worth = [spelled(value, currency) for currency, value in sorted(standing.value_minor.items())]
    tiles = [
        Tile("Points outstanding", f"{standing.points:,}", f"on {standing.cards:,} cards"),
        Tile("Their value", worth[0] if worth else "-", ", ".join(worth[1:]) or "at the programs' value of a point"),
    ]
    for days, points in zip(reports.HORIZONS, standing.expiring, strict=True):
        share = f"{points / standing.points:.0%} of all" if standing.points else ""
        tiles.append(Tile(f"Expire within {days} days", f"{points:,}", share))
    return tiles


def _program(program: reports.Standing) -> dict[str, Any]:
    return {
        "pk": program.program_id,
        "name": program.name,
        "merchant": program.merchant,
        "cards": f"{program.cards:,}",
        "points": f"{program.points:,}",
        "value": spelled(program.value_minor, program.currency) if program.value_minor else "-",
        "expiring": [f"{points:,}" for points in program.expiring],
    }


class Bar(NamedTuple):
    x: int
    y: int
    width: int
    height: int
    hint: str


@dataclass(frozen=True)
class Panel:
    """One row of the chart, on a scale of its own: a night of expiry would flatten everything else."""

    name: str
    top: int
    base: int
    total: str
    most: str
    bars: list[Bar]


class Tick(NamedTuple):
    x: int
    label: str


def _chart(at: datetime, merchants: Collection[int] | None) -> dict[str, Any]:
    days = reports.points_per_day(at=at, days=CHART_DAYS, merchants=merchants)
    panels = [_panel(number, name, days) for number, name in enumerate(DayOfPoints._fields[1:])]
    return {
        "panels": panels,
        "ticks": [
            Tick(number * SLOT + SLOT // 2, f"{day.day:%d %b}".lstrip("0"))
            for number, day in enumerate(days)
            if (len(days) - 1 - number) % 7 == 0
        ],
        "width": CHART_DAYS * SLOT,
        "viewed": CHART_DAYS * SLOT + 32,
        "height": panels[-1].base + 22,
        "summary": "; ".join(f"{panel.total} points {panel.name}" for panel in panels),
        "days": [(day.day, *(f"{points:,}" for points in day[1:])) for day in reversed(days)],
    }


def _panel(number: int, name: str, days: Sequence[DayOfPoints]) -> Panel:
    points = [getattr(day, name) for day in days]
    most = max(points)
    top = number * (CHART_HEIGHT + 34) + 24
    base = top + CHART_HEIGHT
    bars = []
    for position, (day, count) in enumerate(zip(days, points, strict=True)):
        height = max(1, round(count * CHART_HEIGHT / most)) if count else 0
        hint = f"{day.day:%d %B}: {count:,} {name}".lstrip("0")
        bars.append(Bar(position * SLOT + 4, base - height, SLOT - 8, height, hint))
    return Panel(name, top, base, f"{sum(points):,}", f"{most:,}", bars)


class Job(NamedTuple):
    """An entry of the schedule and the last run of its task."""

    entry: PeriodicTask
    run: JobRun | None
    age: str


def _jobs(at: datetime) -> list[Job]:
    newest = {run.task: run for run in JobRun.objects.latest_per_job()}
    entries = PeriodicTask.objects.order_by("name")[:ENTRIES_AT_MOST]
    runs = [(entry, newest.get(entry.task)) for entry in entries]
    return [Job(entry, run, _age(run.started_at if run else None, at)) for entry, run in runs]


def _last_whole_run(at: datetime) -> dict[str, Any] | None:
    """The newest run over all merchants, and the newest that was complete and so proves that expiry works."""
    run = ExpirationRun.objects.filter(merchant=None).order_by("-started_at").first()
    if run is None:
        return None
    counting = ExpirationRun.objects.counting().order_by("-started_at").first()
    return {
        "run": run,
        "age": _age(run.started_at, at),
        "did": f"{run.cards_expired:,} cards and {run.points_expired:,} points expired, {run.warnings:,} warnings",
        "complete": counting == run,
        "complete_age": _age(counting.started_at if counting else None, at),
    }


def _outbox() -> list[dict[str, str]]:
    """How much mail waits, was given up, and had no address. The last is counted among the newest messages only."""
    newest = Message.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    recent = Message.objects.filter(pk__gt=newest - NEWEST_MESSAGES)
    status = Message.Status
    kinds = [
        ("waiting to be sent", "status__in=due,leased", Message.objects.waiting()),
        ("given up", f"status__exact={status.DEAD}", Message.objects.filter(status=status.DEAD)),
        ("without an address", f"status__exact={status.UNDELIVERABLE}", recent.filter(status=status.UNDELIVERABLE)),
    ]
    return [{"label": label, "query": query, "count": _count(rows)} for label, query, rows in kinds]


def _count(rows: Any) -> str:
    counted = rows[: COUNTED_AT_MOST + 1].count()
    return f"more than {COUNTED_AT_MOST:,}" if counted > COUNTED_AT_MOST else f"{counted:,}"


def _age(moment: datetime | None, at: datetime) -> str:
    if moment is None:
        return "never"
    if at - moment < timedelta(minutes=1):
        return "just now"
    return f"{timesince(moment, at, depth=1)} ago"
