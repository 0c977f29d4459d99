"""Credentials as an import would have kept them, whichever moment a test takes for now."""

import datetime as dt
import hashlib
import json
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.factories import NOON
from tests.fakes.pki import DAY, ISSUER_ID, PASS_TYPE, Identity, Pki, service_account, shared_pki
from wallet.models import Credential
from wallet.sealing import seal

ACTIVE = Credential.Status.ACTIVE


def shared_identity(number: int = 1) -> Identity:
    """A Pass Type ID certificate, valid at NOON and by the clock of this machine; each number has its own."""
    return _identity(number)


def shared_account(number: int = 1) -> bytes:
    """The JSON of a service account; each number has its own key."""
    return _account(number)


@cache
def _identity(number: int) -> Identity:
    until = max(dt.datetime.now(dt.UTC) - NOON, dt.timedelta()) + 365 * DAY
    return shared_pki().pass_identity(at=NOON, valid=(-DAY, until))


@cache
def _account(number: int) -> bytes:
    return service_account(private_key_id=f"{number:040x}")


def make_intermediate(pki: Pki) -> Credential:
    certificate = pki.intermediate.certificate
    common_name = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    name = f"{common_name!s} ({certificate.fingerprint(hashes.SHA256()).hex()[:8]})"
    return Credential.objects.create(
        kind=Credential.Kind.WWDR,
        identifier=name,
        version=_next_version(Credential.Kind.WWDR, name),
        status=ACTIVE,
        certificate=pki.intermediate.certificate_pem.decode(),
        imported_at=NOON,
        imported_by="tests",
        activated_at=NOON,
        activated_by="tests",
        **_facts(certificate),
    )


def make_apple_credential(
    identity: Identity, *, issuer: Credential, identifier: str = PASS_TYPE, status: str = ACTIVE
) -> Credential:
    return Credential.objects.create(
        kind=Credential.Kind.APPLE,
        identifier=identifier,
        version=_next_version(Credential.Kind.APPLE, identifier),
        status=status,
        certificate=identity.certificate_pem.decode(),
        issuer=issuer,
        sealed_secret=seal(identity.key_pem),
        imported_at=NOON,
        imported_by="tests",
        **_facts(identity.certificate),
    )


def make_google_credential(content: bytes, *, identifier: str = ISSUER_ID, status: str = ACTIVE) -> Credential:
    account = json.loads(content)
    key = load_pem_private_key(account["private_key"].encode(), None).public_key()
    return Credential.objects.create(
        kind=Credential.Kind.GOOGLE,
        identifier=identifier,
        version=_next_version(Credential.Kind.GOOGLE, identifier),
        status=status,
        subject=account["client_email"],
        serial=account["private_key_id"],
        fingerprint=hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest(),
        valid_from=NOON,
        sealed_secret=seal(content),
        imported_at=NOON,
        imported_by="tests",
    )


def _facts(certificate: x509.Certificate) -> dict[str, object]:
    return {
        "subject": certificate.subject.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "valid_from": certificate.not_valid_before_utc,
        "valid_until": certificate.not_valid_after_utc,
    }


def _next_version(kind: str, identifier: str) -> int:
    return Credential.objects.filter(kind=kind, identifier=identifier).count() + 1
