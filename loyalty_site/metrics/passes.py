"""Passes in phones: runs of the last hour, breakers, and how long credentials last. Each is read from few rows."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Count, Max, Min, Q, Sum

from loyalty_site.metrics import rollups
from loyalty_site.metrics.declaring import Reading, State
from loyalty_site.metrics.machinery import LAST_SUCCESS
from loyalty_site.metrics.messages import DEAD, NEWEST_DEAD
from loyalty_site.schedules import STOCK, SYNC
from wallet.models import Breaker, Credential, Pass, Platform, SyncRun

PLATFORMS = tuple(Platform.values)
FIGURES = ("examined", "pushed", "unchanged", "deferred", "retrying", "dead")
SYNCED = State(
    "loyalty_wallet_synced_passes",
    "Passes that the runs of the last hour examined, and what became of them.",
    {"result": FIGURES},
)
SYNCED_LAST = State(
    "loyalty_wallet_last_sync_passes", "The same of the last run that was not kept from its work.", {"result": FIGURES}
)
BEHIND = State(
    "loyalty_wallet_passes_behind",
    "Passes that show something older than their card, when stock was last taken.",
    {"platform": PLATFORMS},
)
BREAKER_OPENED = State(
    "loyalty_wallet_breaker_opened_timestamp_seconds",
    "Since when calls to a platform rest. Missing while none do.",
    {"platform": PLATFORMS},
)
EXPIRY = State(
    "loyalty_wallet_certificate_expiry_timestamp_seconds",
    "When the first credential that is in use expires, with the intermediates that signed them.",
    {"kind": tuple(Credential.Kind.values)},
)
GOOGLE_KEY = State(
    "loyalty_wallet_google_key_created_timestamp_seconds", "When the oldest service account key in use was made."
)
PLATFORM_ON = State(
    "loyalty_wallet_platform_on", "1 when a platform has a credential that is active.", {"platform": PLATFORMS}
)
STATES = (SYNCED, SYNCED_LAST, BEHIND, BREAKER_OPENED, EXPIRY, GOOGLE_KEY, PLATFORM_ON)


def wallet(at: datetime) -> Iterator[Reading]:
    """Seven statements: over credentials and breakers, which are a handful, and the newest runs by their index."""
    yield from _credentials()
    for row in Breaker.objects.filter(opened_at__isnull=False).values("platform").annotate(since=Min("opened_at")):
        yield BREAKER_OPENED.read(row["since"], platform=row["platform"])
    yield from _runs(at)
    # In the words of the index pass_failing.
    failing = Pass.objects.filter(~Q(last_error_code=""))
    found = failing.aggregate(newest=Max("dead_at"), dead=Count("dead_at"))
    yield DEAD.read(found["dead"], of="pass")
    if found["newest"] is not None:
        yield NEWEST_DEAD.read(found["newest"], of="pass")
    if (stock := rollups.last_result(STOCK)) is not None:
        for platform in PLATFORMS:
            yield BEHIND.read(stock["passes_behind"].get(platform, 0), platform=platform)


def _credentials() -> Iterator[Reading]:
    # Of intermediates those count that issued one of these. Others may lie about unused until long after their end.
    active = Credential.objects.active().exclude(kind=Credential.Kind.WWDR)
    rows = active.values_list("kind", "valid_from", "valid_until", "issuer__kind", "issuer__valid_until")
    found = list(rows)
    expiries = [(kind, until) for kind, _, until, _, _ in found] + [(kind, until) for *_, kind, until in found]
    for kind in Credential.Kind.values:
        if known := [until for of, until in expiries if of == kind and until is not None]:
            yield EXPIRY.read(min(known), kind=kind)
    if keys := [made for kind, made, *_ in found if kind == Credential.Kind.GOOGLE]:
        yield GOOGLE_KEY.read(min(keys))
    for platform in PLATFORMS:
        yield PLATFORM_ON.read(any(kind == platform for kind, *_ in found), platform=platform)


def _runs(at: datetime) -> Iterator[Reading]:
    newest_first = SyncRun.objects.order_by("-started_at")
    worked = newest_first.filter(status__in=(SyncRun.Status.SUCCEEDED, SyncRun.Status.PARTIAL)).first()
    if worked is not None and worked.finished_at is not None:
        yield LAST_SUCCESS.read(worked.finished_at, task=SYNC)
    last = newest_first.exclude(status__in=(SyncRun.Status.SKIPPED, SyncRun.Status.RUNNING)).first()
    hour = SyncRun.objects.filter(started_at__gt=at - timedelta(hours=1), started_at__lte=at)
    sums = hour.aggregate(**{name: Sum(name, default=0) for name in FIGURES})
    for name in FIGURES:
        yield SYNCED.read(sums[name], result=name)
        if last is not None:
            yield SYNCED_LAST.read(getattr(last, name), result=name)
