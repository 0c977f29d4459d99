"""Passes in phones, and what signs them and opens the platforms."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Max, Q, Sum

from loyalty_site.findings.finding import Finding, in_words, is_older
from wallet.models import Breaker, Credential, Pass, Platform, SyncRun

SYNC_AGE = timedelta(hours=3)
GOOGLE_KEY_AGE = timedelta(days=90)
MOST_FAILED = 0.05  # of the passes that were tried in an hour
CREDENTIAL_ENDS_SOON = timedelta(days=14)
CREDENTIAL_ENDS_NOW = timedelta(days=3)


def credential_findings(at: datetime) -> Iterator[Finding]:
    """What signs passes and opens the platforms: near its end, over, or not taken."""
    needed = Credential.objects.needed().order_by("kind", "identifier")
    for credential in needed.filter(valid_until__lt=at + CREDENTIAL_ENDS_SOON):
        assert credential.valid_until is not None  # noqa: S101
        is_urgent = credential.valid_until < at + CREDENTIAL_ENDS_NOW
        verb = "expired" if credential.valid_until <= at else "expires"
        yield Finding(
            "credential_expires_now" if is_urgent else "credential_expires_soon",
            f"{credential} {verb} on {credential.valid_until:%Y-%m-%d}; then no pass can be signed or brought up to "
            "date. Get a new certificate, and bring it in with manage.py wallet_credentials import.",
        )
    for credential in needed.exclude(check_error=""):
        yield Finding(
            "credential_fails",
            f"{credential} failed its last check: {credential.check_error} "
            "Afterwards run manage.py wallet_credentials check.",
        )


def google_key_findings(at: datetime) -> Iterator[Finding]:
    keys = Credential.objects.active().filter(kind=Credential.Kind.GOOGLE)
    for key in keys.filter(valid_from__lt=at - GOOGLE_KEY_AGE):
        yield Finding(
            "google_key_old",
            f"{key} is more than {GOOGLE_KEY_AGE.days} days old. Make a new key at Google, and bring it in with "
            "manage.py wallet_credentials import.",
        )


def breaker_findings(at: datetime) -> Iterator[Finding]:
    for breaker in Breaker.objects.filter(opened_at__isnull=False).order_by("platform", "identifier"):
        yield Finding(
            "wallet_breaker_open",
            f"No pass of {Platform(breaker.platform).label} {breaker.identifier} has been brought up to date since "
            f"{in_words(breaker.opened_at)}: {breaker.reason or breaker.code} It is tried again by itself; a "
            "credential that is activated with manage.py wallet_credentials activate ends it at once.",
        )


def sync_findings(at: datetime) -> Iterator[Finding]:
    """Whether phones are told, as far as a platform is switched on."""
    if not Credential.objects.active().filter(kind__in=Platform.values).exists():
        return
    worked = SyncRun.objects.filter(status__in=(SyncRun.Status.SUCCEEDED, SyncRun.Status.PARTIAL))
    newest = worked.aggregate(newest=Max("finished_at"))["newest"]
    if is_older(newest, SYNC_AGE, at):
        yield Finding(
            "wallet_sync_stale",
            f"No sync of passes has succeeded since {in_words(newest)}; one should every minute. Check that a worker "
            "takes the queue `wallet`, then run manage.py sync_passes.",
        )
    hour = SyncRun.objects.filter(started_at__gt=at - timedelta(hours=1), started_at__lte=at)
    sums = hour.aggregate(**{name: Sum(name, default=0) for name in ("pushed", "unchanged", "retrying", "dead")})
    failed, tried = sums["retrying"] + sums["dead"], sum(sums.values())
    if failed > MOST_FAILED * tried:
        yield Finding(
            "wallet_sync_failures",
            f"{failed} of {tried} passes that were tried in the last hour failed. The runs under Sync runs in the "
            "admin name the cards and say why.",
        )
    given_up = Pass.objects.filter(~Q(last_error_code=""), dead_at__gt=at - timedelta(days=1)).count()
    if given_up:
        yield Finding(
            "passes_dead",
            f"{given_up} passes were given up in the last 24 hours. The admin says why, under Passes; when the "
            "cause is gone, run manage.py sync_passes --dead.",
        )
