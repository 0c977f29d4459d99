"""Whether a certificate may sign passes. Whoever signs without asking finds out from customers' phones."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12
from cryptography.x509.oid import NameOID

from wallet.errors import CredentialRefused

LEAST_KEY_BITS = 2048
TEST, PADDING, HASH = b"test", padding.PKCS1v15(), hashes.SHA256()


def read_p12(data: bytes, password: bytes) -> tuple[x509.Certificate, RSAPrivateKey]:
    """The certificate and key of a .p12 file, also of one that Keychain encrypted with RC2.

    Raises:
        CredentialRefused: it is no such file, lacks one of the two, or has another password.
    """
    _require_text(password)
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(data, password)
    except ValueError as error:
        if "password" in str(error).lower():
            raise CredentialRefused("The password does not open this .p12 file. Give the one of its export.") from None
        raise CredentialRefused("The file is no .p12 file. Export certificate and key together.") from None
    except (UnsupportedAlgorithm, TypeError):
        raise CredentialRefused("The .p12 file is encrypted in an unknown way. Export it again.") from None
    if key is None or certificate is None:
        lacking = "private key" if key is None else "certificate that belongs to its key"
        raise CredentialRefused(f"The .p12 file has no {lacking}. Export certificate and key together.")
    return certificate, _rsa(key)


def read_pem(certificate: bytes, *, key: bytes, password: bytes = b"") -> tuple[x509.Certificate, RSAPrivateKey]:
    """A certificate, in PEM or DER, and its key in PEM.

    Raises:
        CredentialRefused: one of them cannot be read; the sentence says which.
    """
    _require_text(password)
    return read_certificate(certificate), _read_key(key, password)


def is_certificate(data: bytes) -> bool:
    """Whether this is a certificate by itself, in PEM or DER, and so no .p12 file."""
    try:
        read_certificate(data)
    except CredentialRefused:
        return False
    return True


def read_certificate(data: bytes) -> x509.Certificate:
    """A certificate in PEM, or in DER as Apple offers it.

    Raises:
        CredentialRefused: it is none.
    """
    is_pem = b"-----BEGIN" in data
    try:
        return x509.load_pem_x509_certificate(data) if is_pem else x509.load_der_x509_certificate(data)
    except ValueError:
        raise CredentialRefused("The file is no certificate, neither in PEM nor in DER.") from None


def problems(
    certificate: x509.Certificate,
    key: RSAPrivateKey,
    *,
    pass_type: str,
    team: str,
    intermediates: Sequence[x509.Certificate],
    at: datetime,
) -> list[str]:
    """Why this certificate and key may not sign passes of this type now, in sentences that say what to do."""
    findings = [
        _key_finding(certificate, key),
        _name_finding(certificate, NameOID.USER_ID, "UID", pass_type, setting="APPLE_PASS_TYPE_ID"),
        _name_finding(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME, "OU", team, setting="APPLE_TEAM_ID"),
        _validity_finding("The certificate", certificate, at=at),
        _issuer_finding(certificate, intermediates, at=at),
    ]
    return [finding for finding in findings if finding]


def intermediate_problems(intermediate: x509.Certificate, *, at: datetime) -> list[str]:
    """Why this may not be the certificate under which passes are signed."""
    findings = [
        "" if _is_authority(intermediate) else "The certificate issues no others: it is no intermediate of Apple's.",
        _validity_finding("The intermediate", intermediate, at=at),
    ]
    return [finding for finding in findings if finding]


def issuer_of(certificate: x509.Certificate, intermediates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The intermediate whose signature the certificate bears. Of several the one that lasts longest."""
    issuers = [intermediate for intermediate in intermediates if _has_issued(intermediate, certificate)]
    return max(issuers, key=lambda issuer: issuer.not_valid_after_utc, default=None)


def belong_together(certificate: x509.Certificate, key: RSAPrivateKey) -> bool:
    """Whether the certificate says yes to a signature by the key."""
    public = certificate.public_key()
    if not isinstance(public, RSAPublicKey):
        return False
    try:
        public.verify(key.sign(TEST, PADDING, HASH), TEST, PADDING, HASH)
    except InvalidSignature:
        return False
    return True


def common_name(certificate: x509.Certificate) -> str:
    return _attribute(certificate, NameOID.COMMON_NAME)


def _require_text(password: bytes) -> None:
    """Others make cryptography panic, with the password in what it says."""
    try:
        is_text = "\0" not in password.decode()
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise CredentialRefused("The password is no text in UTF-8. Save its file anew as plain text in UTF-8.")


def _read_key(data: bytes, password: bytes) -> RSAPrivateKey:
    try:
        return _rsa(load_pem_private_key(data, password or None))
    except TypeError:
        if password:
            return _read_key(data, b"")
        raise CredentialRefused("The key is protected by a password. Give it with the file.") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if "password" in str(error).lower():
            raise CredentialRefused("The password does not open this key.") from None
        raise CredentialRefused("The file holds no private key in PEM.") from None


def _rsa(key: object) -> RSAPrivateKey:
    if not isinstance(key, RSAPrivateKey):
        raise CredentialRefused("The key is no RSA key. Apple's certificates for passes have one; make a new request.")
    return key


def _key_finding(certificate: x509.Certificate, key: RSAPrivateKey) -> str:
    if not belong_together(certificate, key):
        return "The key does not belong to this certificate. Take the key that the certificate was requested with."
    if key.key_size < LEAST_KEY_BITS:
        return f"The key has {key.key_size} bits. Request a certificate with an RSA key of at least 2048."
    return ""


def _name_finding(
    certificate: x509.Certificate, oid: x509.ObjectIdentifier, name: str, expected: str, *, setting: str
) -> str:
    found = _attribute(certificate, oid)
    if found == expected:
        return ""
    return (
        f"The certificate's {name} is {found or 'missing'}, and {setting} is {expected or 'not set'}. "
        "Take the certificate of this pass type and team, or put the setting right."
    )


def _validity_finding(subject: str, certificate: x509.Certificate, *, at: datetime) -> str:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at < begin:
        return f"{subject} is valid from {begin:%Y-%m-%d %H:%M} UTC only. Wait, or put this machine's clock right."
    if at >= end:
        return f"{subject} expired on {end:%Y-%m-%d}. Get a new one from Apple's developer site."
    return ""


def _issuer_finding(certificate: x509.Certificate, intermediates: Sequence[x509.Certificate], *, at: datetime) -> str:
    issuer = issuer_of(certificate, intermediates)
    if issuer is None:
        by = certificate.issuer.rfc4514_string()
        return f"None of the imported intermediates has issued this certificate; {by} did. Import that one first."
    return _validity_finding(f"The intermediate {common_name(issuer)}", issuer, at=at)


def _has_issued(intermediate: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(intermediate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return _is_authority(intermediate)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""
