"""Cards in phones: each platform has a credential that works, or is off on purpose."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.conf import settings

from loyalty_site.findings import Finding
from wallet.models import Credential, Platform

DAYS_LEFT = 45  # when the first notice comes; who goes live has that time at least
OF_DEVELOPMENT = "for-development-only"


def wallet_findings(at: datetime, without: Collection[str]) -> Iterator[Finding]:
    wanted = [platform for platform in Platform if platform.value not in without]
    for platform in wanted:
        yield from _platform(platform, at)
    if Platform.APPLE in wanted:
        yield from _token_keys()


def _platform(platform: Platform, at: datetime) -> Iterator[Finding]:
    active = Credential.objects.filter(status=Credential.Status.ACTIVE, kind=platform.value)
    if not active.exists():
        yield Finding(
            f"{platform.value}_off",
            f"{platform.label} has no active credential. Bring one in with manage.py wallet_credentials import, or "
            f"say --without {platform.value} if it is to stay off.",
        )
    for credential in active.select_related("issuer"):
        ends = [moment for moment in (credential.valid_until, _issuer_ends(credential)) if moment is not None]
        if ends and min(ends) < at + timedelta(days=DAYS_LEFT):
            yield Finding(
                f"{platform.value}_ends_soon",
                f"{credential} ends on {min(ends):%Y-%m-%d}, in less than {DAYS_LEFT} days. Bring a new one in first.",
            )
        if credential.check_error:
            yield Finding(f"{platform.value}_fails", f"{credential} failed its last check: {credential.check_error}")


def _issuer_ends(credential: Credential) -> datetime | None:
    return credential.issuer.valid_until if credential.issuer else None


def _token_keys() -> Iterator[Finding]:
    """Phones keep what is made from these for years."""
    keys = settings.WALLET_TOKEN_KEYS
    if not keys or any(OF_DEVELOPMENT in key or len(key.partition(":")[2]) < 30 for key in keys):
        yield Finding(
            "wallet_token_keys_weak",
            "WALLET_TOKEN_KEYS is not set, or holds a short secret. Set it to 1: and 50 random characters.",
        )
