"""A PKI like Apple's, and service accounts like Google's, made when a test or the demo needs them."""

import datetime as dt
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PASS_TYPE = "pass.example.loyalty"
TEAM = "EXAMPLE123"
ISSUER_ID = "3388000000012345678"
ACCOUNT = "loyalty@example-project.iam.gserviceaccount.com"
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    def p12(self, password: bytes) -> bytes:
        return pkcs12.serialize_key_and_certificates(
            b"pass", self.key, self.certificate, None, serialization.BestAvailableEncryption(password)
        )


def key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True)
class Pki:
    """A root, an intermediate that stands for WWDR, and what they issue."""

    root: Identity
    intermediate: Identity

    def pass_identity(
        self,
        *,
        uid: str = PASS_TYPE,
        ou: str = TEAM,
        valid: tuple[dt.timedelta, dt.timedelta] = (-DAY, 365 * DAY),
        bits: int = 2048,
        at: dt.datetime | None = None,
        key: rsa.RSAPrivateKey | None = None,
    ) -> Identity:
        """A Pass Type ID certificate, valid from and until so long after `at`, or now; for its own key or this."""
        subject = [(NameOID.USER_ID, uid), (NameOID.COMMON_NAME, f"Pass Type ID: {uid}")]
        subject += [(NameOID.ORGANIZATIONAL_UNIT_NAME, ou), (NameOID.ORGANIZATION_NAME, "Example")]
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return _issued(subject, self.intermediate, valid=valid, bits=bits, at=at, usage=usage, key=key)

    def server_identity(self, name: str = "localhost") -> Identity:
        """A certificate for a server on loopback, issued by the root."""
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return _issued([(NameOID.COMMON_NAME, name)], self.root, usage=usage, names=[name])


def make_pki() -> Pki:
    decade = (-3650 * DAY, 3650 * DAY)
    root = _issued([(NameOID.COMMON_NAME, "Example Root CA")], None, is_ca=True, valid=decade)
    name = [(NameOID.COMMON_NAME, "Example Worldwide Developer Relations"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "G4")]
    return Pki(root, _issued(name, root, is_ca=True, valid=decade))


def service_account(*, email: str = ACCOUNT, token_uri: str = "", **changes: Any) -> bytes:
    """The JSON file of a service account, with a key made now."""
    content = {
        "type": "service_account",
        "project_id": "example-project",
        "private_key_id": f"{x509.random_serial_number():040x}"[:40],
        "private_key": key_pem(_key(2048)).decode(),
        "client_email": email,
        "client_id": "100000000000000000001",
        "token_uri": token_uri or "https://oauth2.example/token",
    }
    return json.dumps({**content, **changes}).encode()


def _issued(
    subject: list[tuple[Any, str]],
    issuer: Identity | None,
    *,
    valid: tuple[dt.timedelta, dt.timedelta] = (-DAY, 365 * DAY),
    is_ca: bool = False,
    bits: int = 2048,
    at: dt.datetime | None = None,
    usage: x509.ObjectIdentifier | None = None,
    names: list[str] | None = None,
    key: rsa.RSAPrivateKey | None = None,
) -> Identity:
    key, now = key or _key(bits), at or dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(is_ca=is_ca), critical=True)
    )
    signer = issuer.key if issuer else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return Identity(builder.sign(signer, hashes.SHA256()), key)


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not is_ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def shared_pki() -> Pki:
    """One for all tests of a process: making keys takes a second."""
    return make_pki()
