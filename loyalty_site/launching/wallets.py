"""Cards in phones: each platform has a credential that works, or is off on purpose."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.conf import settings

from loyalty_site.findings import Finding
from wallet import sealing
from wallet.errors import SecretUnreadable
from wallet.models import Credential, Platform

DAYS_LEFT = 45  # when the first notice comes; who goes live has that time at least
OF_DEVELOPMENT = "for-development-only"


def wallet_findings(at: datetime, without: Collection[str]) -> Iterator[Finding]:
    wanted = [platform for platform in Platform if platform.value not in without]
    for platform in wanted:
        yield from _platform(platform, at)
    yield from _encryption_keys(wanted)
    if Platform.APPLE in wanted:
        yield from _token_keys()


def _platform(platform: Platform, at: datetime) -> Iterator[Finding]:
    active = Credential.objects.active().filter(kind=platform.value)
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


def _encryption_keys(wanted: Collection[Platform]) -> Iterator[Finding]:
    """Asked for before a credential is brought in, unless each platform has one that stays in a file."""
    active = Credential.objects.active()
    in_files = set(active.exclude(secret_file="").values_list("kind", flat=True))
    if all(platform.value in in_files for platform in wanted):
        return
    try:
        sealing.seal(b"")
    except SecretUnreadable as error:
        yield Finding("wallet_encryption_keys_unusable", f"{error} docs/wallet-credentials.md says how to make one.")


def _token_keys() -> Iterator[Finding]:
    """Phones keep what is made from these for years."""
    keys = settings.WALLET_TOKEN_KEYS
    if keys:
        try:
            sealing.newest_token_key()
        except SecretUnreadable as error:
            yield Finding("wallet_token_keys_unusable", str(error))
            return
    if not keys or any(OF_DEVELOPMENT in key or len(key.partition(":")[2]) < 30 for key in keys):
        yield Finding(
            "wallet_token_keys_weak",
            "WALLET_TOKEN_KEYS is not set, or holds a short secret. Set it to 1: and 50 random characters.",
        )
