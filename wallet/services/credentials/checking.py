"""Credentials are tried against the platforms themselves, with calls that change nothing."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from wallet.apple.signing import Signer
from wallet.errors import CredentialRefused, SecretUnreadable
from wallet.google.accounts import ServiceAccount
from wallet.models import Credential
from wallet.outcomes import DONE, Kind, Outcome
from wallet.services import opening
from wallet.services.apple_teller import push_connection
from wallet.services.google_teller import google_wallet

log = structlog.get_logger()


@dataclass
class CheckReport:
    """What trying all active credentials found."""

    checked: int = 0
    failed_credential_ids: list[int] = field(default_factory=list)


def check_credentials(*, at: datetime) -> CheckReport:
    """Try every active credential, and note with each what came of it."""
    report = CheckReport()
    active = Credential.objects.active().order_by("kind", "identifier")
    for credential in active:
        outcome = probe(credential, at=at)
        _note(credential, outcome, at=at)
        report.checked += 1
        if not outcome.is_done:
            report.failed_credential_ids.append(credential.pk)
    return report


def probe(credential: Credential, *, at: datetime) -> Outcome:
    """Whether the platform takes this credential, in whichever status it is. Changes nothing anywhere.

    Apple is sent a push for a phone that does not exist, and Google is asked for a token and an object of no card.
    """
    try:
        if credential.kind == Credential.Kind.APPLE:
            return _probe_apple(credential, at=at)
        if credential.kind == Credential.Kind.GOOGLE:
            return asyncio.run(_ask_google(_fresh_account(credential), credential.identifier))
        return _validity(credential, credential.valid_until, at=at)
    except (SecretUnreadable, CredentialRefused) as error:
        return Outcome(Kind.CREDENTIAL, error.code, error.sentence)


def _probe_apple(credential: Credential, *, at: datetime) -> Outcome:
    signer = opening.signer_of(credential)
    # Apple would only hang up, which looks like a bad line.
    outcome = _validity(credential, signer.expires_at, at=at)
    return asyncio.run(_ask_apple(signer, credential.identifier)) if outcome.is_done else outcome


def _validity(credential: Credential, end: datetime | None, *, at: datetime) -> Outcome:
    if at < credential.valid_from:
        reason = f"It is valid from {credential.valid_from:%Y-%m-%d %H:%M} UTC only."
        return Outcome(Kind.CREDENTIAL, "certificate_not_yet_valid", reason)
    if end is not None and at >= end:
        reason = f"It expired on {end:%Y-%m-%d}. Import a new one and activate that."
        return Outcome(Kind.CREDENTIAL, "certificate_expired", reason)
    return DONE


async def _ask_apple(signer: Signer, pass_type: str) -> Outcome:
    async with push_connection(pass_type, signer) as apple:
        return await apple.probe()


def _fresh_account(credential: Credential) -> ServiceAccount:
    """One that has no token yet, so that its key has to prove itself."""
    return ServiceAccount(opening.secret_of(credential))


async def _ask_google(account: ServiceAccount, issuer_id: str) -> Outcome:
    async with google_wallet(issuer_id, account) as google:
        return await google.probe(issuer_id=issuer_id)


def _note(credential: Credential, outcome: Outcome, *, at: datetime) -> None:
    error = "" if outcome.is_done else (outcome.reason or outcome.code)[:500]
    Credential.objects.filter(pk=credential.pk).update(checked_at=at, check_error=error)
    tell = log.info if outcome.is_done else log.error
    tell(
        "wallet.credential_checked",
        credential_id=credential.pk,
        kind=credential.kind,
        days_left=credential.days_left(at),
        reason=outcome.code,
    )
