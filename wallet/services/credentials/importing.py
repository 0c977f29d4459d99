"""Certificates and keys come in. What could not be used later is refused now, and nothing of it is kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.db.models import Max

from wallet.apple import certificates
from wallet.errors import CredentialRefused
from wallet.google.accounts import ServiceAccount
from wallet.models import Credential
from wallet.sealing import read_secret_file, seal
from wallet.services.credentials.keeping import one_change_at_a_time

log = structlog.get_logger()
Kind, Status = Credential.Kind, Credential.Status

LEAST_LEFT = timedelta(days=30)


def import_apple(
    *,
    p12: bytes = b"",
    certificate: bytes = b"",
    key: bytes = b"",
    password: bytes = b"",
    secret_file: str = "",
    actor: str,
    at: datetime,
) -> Credential:
    """Stage a Pass Type ID certificate for APPLE_PASS_TYPE_ID, under one of the intermediates that were imported.

    It comes as a .p12 file, or as a certificate with its key in PEM. With `secret_file` the key stays in that file,
    which every host needs; otherwise it is sealed and kept in the database.

    Raises:
        CredentialRefused: it cannot be read, is for something else, ends within 30 days or is there already.
        SecretUnreadable: the file cannot be used, or there is no key to seal with.
    """
    _require_settings("APPLE_PASS_TYPE_ID", "APPLE_TEAM_ID")
    if secret_file:
        found, private = certificates.read_pem(certificate, key=_content_of(secret_file))
    elif p12:
        found, private = certificates.read_p12(p12, password)
    else:
        found, private = certificates.read_pem(certificate, key=key, password=password)
    issuers = list(Credential.objects.filter(kind=Kind.WWDR).exclude(status=Status.REVOKED))
    _refuse_apple(found, private, [certificates.read_certificate(i.certificate.encode()) for i in issuers], at=at)
    return _keep(
        Credential(
            kind=Kind.APPLE,
            identifier=settings.APPLE_PASS_TYPE_ID,
            issuer=_issuer_among(issuers, found),
            **_facts(found),
            **_secret(_key_pem(private), secret_file),
            imported_at=at,
            imported_by=actor,
        )
    )


def import_wwdr(*, certificate: bytes, actor: str, at: datetime) -> Credential:
    """Keep one of Apple's intermediate certificates. It is public, and needs no activation.

    Others stay in use beside it, also of the same name, which anybody can give to a certificate. One that was taken out
    of use before is back in use.

    Raises:
        CredentialRefused: it is none, is not valid now, or is in use already.
    """
    found = certificates.read_certificate(certificate)
    _refuse(certificates.intermediate_problems(found, at=at))
    if returned := _back_in_use(found, actor=actor, at=at):
        return returned
    return _keep(
        Credential(
            kind=Kind.WWDR,
            identifier=_full_name(found),
            status=Status.ACTIVE,
            activated_at=at,
            activated_by=actor,
            **_facts(found),
            imported_at=at,
            imported_by=actor,
        )
    )


def import_google(*, content: bytes = b"", secret_file: str = "", actor: str, at: datetime) -> Credential:
    """Stage a key of GOOGLE_SERVICE_ACCOUNT for GOOGLE_ISSUER_ID, from the JSON that Google gave out.

    With `secret_file` it stays in that file, which every host needs.

    Raises:
        CredentialRefused: it is no such key, belongs to somebody else, or is there already.
        SecretUnreadable: the file cannot be used, or there is no key to seal with.
    """
    _require_settings("GOOGLE_ISSUER_ID", "GOOGLE_SERVICE_ACCOUNT")
    content = _content_of(secret_file) if secret_file else content
    account = ServiceAccount(content, email=settings.GOOGLE_SERVICE_ACCOUNT)
    return _keep(
        Credential(
            kind=Kind.GOOGLE,
            identifier=settings.GOOGLE_ISSUER_ID,
            subject=account.email,
            serial=account.key_id[:80],
            fingerprint=account.fingerprint,
            valid_from=at,
            **_secret(content, secret_file),
            imported_at=at,
            imported_by=actor,
        )
    )


def _keep(credential: Credential) -> Credential:
    """Give it the next version number, unless the same certificate or key is there."""
    versions = Credential.objects.filter(kind=credential.kind, identifier=credential.identifier)
    with one_change_at_a_time():
        if twin := versions.filter(fingerprint=credential.fingerprint).first():
            raise CredentialRefused(f"It is there already: {twin}, {twin.get_status_display().lower()}.")
        if credential.issuer_id and _status_now(credential.issuer_id) == Status.REVOKED:
            raise CredentialRefused(f"{credential.issuer} was revoked meanwhile. Import that one again first.")
        credential.version = (versions.aggregate(newest=Max("version"))["newest"] or 0) + 1
        credential.save(force_insert=True)
    log.info("wallet.credential_imported", credential_id=credential.pk, kind=credential.kind)
    return credential


def _back_in_use(certificate: x509.Certificate, *, actor: str, at: datetime) -> Credential | None:
    """The same intermediate as it was kept before, active again."""
    out_of_use = Credential.objects.filter(kind=Kind.WWDR, status__in=(Status.RETIRED, Status.REVOKED))
    with one_change_at_a_time():
        credential = out_of_use.filter(fingerprint=_fingerprint(certificate)).first()
        if credential is None:
            return None
        credential.identifier = _full_name(certificate)
        credential.status, credential.activated_at, credential.activated_by = Status.ACTIVE, at, actor
        credential.save(update_fields=["identifier", "status", "activated_at", "activated_by"])
    log.info("wallet.credential_returned", credential_id=credential.pk)
    return credential


def _status_now(credential_id: int) -> str:
    return Credential.objects.values_list("status", flat=True).get(pk=credential_id)


def _require_settings(*names: str) -> None:
    for name in names:
        if not getattr(settings, name):
            raise CredentialRefused(f"{name} is not set, so nothing says what is wanted. Set it, then import again.")


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise CredentialRefused(" ".join(problems))


def _refuse_apple(
    certificate: x509.Certificate, key: RSAPrivateKey, intermediates: Sequence[x509.Certificate], *, at: datetime
) -> None:
    _refuse(
        certificates.problems(
            certificate,
            key,
            pass_type=settings.APPLE_PASS_TYPE_ID,
            team=settings.APPLE_TEAM_ID,
            intermediates=intermediates,
            at=at,
        )
    )
    end = certificate.not_valid_after_utc
    if end - at < LEAST_LEFT:
        raise CredentialRefused(
            f"The certificate ends on {end:%Y-%m-%d}, and {LEAST_LEFT.days} days are the least that it is worth "
            "bringing in for. Get a new one from Apple's developer site."
        )


def _issuer_among(stored: Sequence[Credential], certificate: x509.Certificate) -> Credential:
    by_certificate = {certificates.read_certificate(issuer.certificate.encode()): issuer for issuer in stored}
    issuer = certificates.issuer_of(certificate, list(by_certificate))
    assert issuer is not None  # noqa: S101  or it had been refused
    return by_certificate[issuer]


def _facts(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject.rfc4514_string()[:500],
        "serial": f"{certificate.serial_number:X}",
        "fingerprint": _fingerprint(certificate),
        "valid_from": certificate.not_valid_before_utc,
        "valid_until": certificate.not_valid_after_utc,
        "certificate": certificate.public_bytes(Encoding.PEM).decode(),
    }


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _full_name(certificate: x509.Certificate) -> str:
    """Apple's intermediates share their common name, and the unit says of which generation they are.

    The beginning of the fingerprint tells them from others that bear the same names.
    """
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    name = " ".join([certificates.common_name(certificate), *(str(unit.value) for unit in units)])
    return f"{name[:108]} ({_fingerprint(certificate)[:8]})"


def _key_pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _secret(secret: bytes, secret_file: str) -> dict[str, str]:
    return {"secret_file": secret_file} if secret_file else {"sealed_secret": seal(secret)}


def _content_of(secret_file: str) -> bytes:
    if not Path(secret_file).is_absolute():
        raise CredentialRefused(f"Name the file by its full path; {secret_file} depends on where a program starts.")
    return read_secret_file(secret_file)
