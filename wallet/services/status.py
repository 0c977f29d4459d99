"""How the wallet does: what is switched on, how far behind passes are, and how long credentials last."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count

from wallet.models import Breaker, Credential, Pass, Platform, SyncRun
from wallet.models.passes import PassQuerySet
from wallet.services import opening


@dataclass(frozen=True, kw_only=True)
class CredentialStatus:
    """A credential that is in use. `days_left` is None for one that does not expire by itself."""

    credential: Credential
    days_left: int | None
    days_old: int


@dataclass(frozen=True, kw_only=True)
class PlatformStatus:
    """How one platform does.

    `is_configured`: new passes can be made. `passes_behind` show something older than their card and wait for a run;
    `passes_failing` among them failed in the last one; `passes_given_up` wait for a person. `breakers` are open:
    calls rest until a probe succeeds. `credentials` are active, Apple's intermediates with them.
    """

    platform: Platform
    is_configured: bool
    passes_behind: int
    passes_failing: int
    passes_given_up: int
    breakers: list[Breaker]
    credentials: list[CredentialStatus]


@dataclass(frozen=True, kw_only=True)
class WalletStatus:
    """How both platforms do, and the last run that was not kept from its work by another one."""

    at: datetime
    apple: PlatformStatus
    google: PlatformStatus
    last_run: SyncRun | None

    @property
    def needs_somebody(self) -> bool:
        """Calls rest, passes fail or were given up, or the last run failed."""
        platforms = (self.apple, self.google)
        if any(one.breakers or one.passes_failing or one.passes_given_up for one in platforms):
            return True
        return self.last_run is not None and self.last_run.status == SyncRun.Status.FAILED


def wallet_status(*, at: datetime) -> WalletStatus:
    """Looks at every pass that phones have: a second for a million of them. Calls nobody."""
    behind = _by_platform(Pass.objects.stale())
    failing = _by_platform(Pass.objects.failing().filter(dead_at=None))
    given_up = _by_platform(Pass.objects.failing().filter(dead_at__isnull=False))
    breakers, credentials = _open_breakers(), _active_credentials(at)
    apple, google = (
        PlatformStatus(
            platform=platform,
            is_configured=opening.is_on(platform),
            passes_behind=behind[platform],
            passes_failing=failing[platform],
            passes_given_up=given_up[platform],
            breakers=breakers[platform],
            credentials=credentials[platform],
        )
        for platform in (Platform.APPLE, Platform.GOOGLE)
    )
    return WalletStatus(at=at, apple=apple, google=google, last_run=_last_run())


def _by_platform(passes: PassQuerySet) -> Counter[str]:
    counted = passes.order_by().values("platform").annotate(passes=Count("pk"))
    return Counter({row["platform"]: row["passes"] for row in counted})


def _open_breakers() -> dict[str, list[Breaker]]:
    found: dict[str, list[Breaker]] = defaultdict(list)
    for breaker in Breaker.objects.filter(opened_at__isnull=False).order_by("identifier"):
        found[breaker.platform].append(breaker)
    return found


def _active_credentials(at: datetime) -> dict[str, list[CredentialStatus]]:
    found: dict[str, list[CredentialStatus]] = defaultdict(list)
    active = Credential.objects.active().defer("certificate", "sealed_secret")
    for credential in active.order_by("kind", "identifier"):
        platform = Platform.GOOGLE if credential.kind == Credential.Kind.GOOGLE else Platform.APPLE
        days_old = (at - credential.valid_from).days
        found[platform].append(
            CredentialStatus(credential=credential, days_left=credential.days_left(at), days_old=days_old)
        )
    return found


def _last_run() -> SyncRun | None:
    return SyncRun.objects.exclude(status=SyncRun.Status.SKIPPED).order_by("-started_at").first()
