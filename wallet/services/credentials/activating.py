"""Which version of a credential is used. A switch is one transaction, and everybody follows at their next use."""

from datetime import datetime

import structlog

from loyalty.errors import NothingToChange
from wallet.errors import CredentialNotFound, CredentialNotUsable
from wallet.models import Credential
from wallet.services.breaking import close_breaker
from wallet.services.credentials.checking import probe
from wallet.services.credentials.keeping import one_change_at_a_time

log = structlog.get_logger()
Status = Credential.Status


def activate(*, credential_id: int, actor: str, at: datetime) -> Credential:
    """Use this version from now on. The one that was active becomes the previous one, to roll back to.

    It is tried first, against the platform itself. Calls that had been stopped for a bad credential go on.

    Raises:
        CredentialNotFound: there is none with this number.
        NothingToChange: it is active already.
        CredentialNotUsable: it is expired or revoked, needs no activation, or the platform does not take it.
    """
    credential = Credential.objects.filter(pk=credential_id).first()
    if credential is None:
        raise CredentialNotFound(f"There is no credential {credential_id}.")
    return _switch_to(credential, actor=actor, at=at)


def rollback(*, kind: str, identifier: str, actor: str, at: datetime) -> Credential:
    """Go back to the version before. The two change places, so that a second time undoes the first.

    Raises:
        CredentialNotUsable: there is no version before, or it fails as in `activate`.
    """
    previous = Credential.objects.filter(kind=kind, identifier=identifier, status=Status.PREVIOUS).first()
    if previous is None:
        raise CredentialNotUsable(
            f"There is no previous version of {identifier} to go back to. Activate one by its number instead."
        )
    return _switch_to(previous, actor=actor, at=at)


def revoke(*, credential_id: int) -> Credential:
    """Never use this version again, because somebody else may have its key.

    If it was active, its platform is off until another version is activated.

    An intermediate goes only when none is left that it issued and that could still be used. It has no key of ours, so
    importing it again brings it back.

    Raises:
        CredentialNotFound: there is none with this number.
        NothingToChange: it is revoked already.
        CredentialNotUsable: it is the intermediate of a certificate that is staged, active or previous.
    """
    with one_change_at_a_time():
        credential = Credential.objects.filter(pk=credential_id).first()
        if credential is None:
            raise CredentialNotFound(f"There is no credential {credential_id}.")
        if credential.status == Status.REVOKED:
            raise NothingToChange(f"{credential} is revoked already.")
        _require_not_needed(credential)
        credential.status = Status.REVOKED
        credential.save(update_fields=["status"])
    log.warning("wallet.credential_revoked", credential_id=credential.pk)
    return credential


def _switch_to(credential: Credential, *, actor: str, at: datetime) -> Credential:
    _require_usable(credential)
    outcome = probe(credential, at=at)
    if not outcome.is_done:
        raise CredentialNotUsable(
            f"{credential} was not activated. {outcome.reason}", code=outcome.code, credential_id=credential.pk
        )
    with one_change_at_a_time():
        credential.refresh_from_db()
        _require_usable(credential)
        _make_active(credential, actor=actor, at=at)
        close_breaker(platform=credential.kind, identifier=credential.identifier)
    log.info("wallet.credential_activated", credential_id=credential.pk)
    return credential


def _require_usable(credential: Credential) -> None:
    if credential.kind == Credential.Kind.WWDR:
        raise CredentialNotUsable("An intermediate certificate needs no activation; it is used by those it issued.")
    if credential.status == Status.ACTIVE:
        raise NothingToChange(f"{credential} is active already.")
    if credential.status == Status.REVOKED:
        raise CredentialNotUsable(f"{credential} is revoked. Import another one.")
    if credential.issuer and credential.issuer.status == Status.REVOKED:
        raise CredentialNotUsable(f"{credential.issuer}, which issued it, is revoked. Import that one again first.")


def _require_not_needed(issuer: Credential) -> None:
    needing = Credential.objects.filter(issuer=issuer, status__in=(Status.STAGED, Status.ACTIVE, Status.PREVIOUS))
    if issued := [f"{one} ({one.status})" for one in needing.order_by("identifier", "version")]:
        raise CredentialNotUsable(
            f"{issuer} was not revoked, because passes are or could be signed under it. "
            f"It issued {' and '.join(issued)}. Revoke what it issued first."
        )


def _make_active(credential: Credential, *, actor: str, at: datetime) -> None:
    versions = Credential.objects.filter(kind=credential.kind, identifier=credential.identifier)
    # In this order no moment has two active or two previous ones, even when it was the previous one itself.
    versions.filter(status=Status.PREVIOUS).update(status=Status.RETIRED)
    versions.filter(status=Status.ACTIVE).update(status=Status.PREVIOUS)
    credential.status, credential.activated_at, credential.activated_by = Status.ACTIVE, at, actor
    credential.save(update_fields=["status", "activated_at", "activated_by"])
