"""Signatures that phones accept."""

import secrets
import ssl
import tempfile
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs7,
)

from wallet.apple.certificates import belong_together
from wallet.errors import CredentialRefused

# Binary: otherwise line ends in a manifest are rewritten and the signature is of another text.
OPTIONS = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]


class Signer:
    """A certificate that signs passes and shows who we are when we push. Make it once: that costs what 100 passes do.

    Raises:
        CredentialRefused: the key is another's. Signing would work all the same, and no phone would take the pass.
    """

    def __init__(self, certificate: x509.Certificate, key: RSAPrivateKey, intermediate: x509.Certificate) -> None:
        if not belong_together(certificate, key):
            raise CredentialRefused("The key does not belong to this certificate. Import both anew.")
        self._certificate = certificate
        self._key = key
        self._intermediate = intermediate

    @property
    def valid_from(self) -> datetime:
        return max(self._certificate.not_valid_before_utc, self._intermediate.not_valid_before_utc)

    @property
    def expires_at(self) -> datetime:
        """From when on phones take nothing more that it signs: the certificate or the intermediate has ended."""
        return min(self._certificate.not_valid_after_utc, self._intermediate.not_valid_after_utc)

    def is_valid(self, at: datetime) -> bool:
        return self.valid_from <= at < self.expires_at

    def sign(self, manifest: bytes) -> bytes:
        """A detached PKCS#7 signature in DER, with the intermediate and the time of signing in it."""
        return (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(manifest)
            .add_signer(self._certificate, self._key, hashes.SHA256())
            .add_certificate(self._intermediate)
            .sign(Encoding.DER, OPTIONS)
        )

    def identify(self, context: ssl.SSLContext) -> None:
        """Let connections of this context show the certificate."""
        # ssl takes the key from a file only. What touches the disk is encrypted, with a password that nobody keeps.
        password = secrets.token_bytes(32).hex().encode()
        chain = self._certificate.public_bytes(Encoding.PEM) + self._intermediate.public_bytes(Encoding.PEM)
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(key + chain)
            file.flush()
            context.load_cert_chain(file.name, password=password)
