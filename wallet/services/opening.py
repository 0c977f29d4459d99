"""What the active credentials open. Each is parsed once in a process, and asked for at every use."""

from functools import lru_cache

from django.conf import settings
from django.db import connection

from wallet.apple.certificates import read_certificate, read_pem
from wallet.apple.signing import Signer
from wallet.errors import CredentialRefused, SecretUnreadable, WalletNotConfigured
from wallet.google.accounts import ServiceAccount
from wallet.models import Credential, Platform
from wallet.sealing import read_secret_file, unseal

# Parsing a key takes a hundred times as long as signing with it.
KEPT_OPEN = 16
ACTIVE = "SELECT id, fingerprint FROM wallet_credential WHERE kind = %s AND identifier = %s AND status = %s"


def signer(pass_type: str) -> Signer:
    """What signs passes of this type and opens Apple's door, as of the credential that is active now.

    Raises:
        WalletNotConfigured: no certificate of this pass type is active.
        SecretUnreadable: its key cannot be opened.
    """
    return _signer(*_active(Credential.Kind.APPLE, pass_type))


def account(issuer_id: str) -> ServiceAccount:
    """The service account that acts for this issuer, as of the credential that is active now.

    Raises:
        WalletNotConfigured: no key of this issuer is active.
        SecretUnreadable: the key cannot be opened.
    """
    return _account(*_active(Credential.Kind.GOOGLE, issuer_id))


def signer_of(credential: Credential) -> Signer:
    """Like `signer`, of a credential in whichever status."""
    return _signer(credential.pk, credential.fingerprint)


def account_of(credential: Credential) -> ServiceAccount:
    """Like `account`, of a credential in whichever status."""
    return _account(credential.pk, credential.fingerprint)


def issued_under(platform: str) -> str:
    """What new passes are issued under: the pass type or the issuer. Empty when the settings name none."""
    identifier: str = settings.APPLE_PASS_TYPE_ID if platform == Platform.APPLE else settings.GOOGLE_ISSUER_ID
    return identifier


def is_on(platform: str) -> bool:
    """Whether new passes can be made for this platform."""
    return issued_under(platform) in configured(platform)


def configured(platform: str) -> list[str]:
    """The pass types or issuers that have an active credential: older passes may have others than new ones."""
    # The kinds that have a secret are named like their platforms.
    active = Credential.objects.active().filter(kind=platform)
    return list(active.order_by("identifier").values_list("identifier", flat=True))


def secret_of(credential: Credential) -> bytes:
    """The key of a certificate as PEM, or the JSON of a service account.

    Raises:
        SecretUnreadable: the key or the file that opens it is missing.
    """
    if credential.secret_file:
        return read_secret_file(credential.secret_file)
    return unseal(credential.sealed_secret)


def _active(kind: Credential.Kind, identifier: str) -> tuple[int, str]:
    # Asked at every use, so written out: compiling it costs more than the database does.
    with connection.cursor() as cursor:
        cursor.execute(ACTIVE, [kind, identifier, Credential.Status.ACTIVE])
        found = cursor.fetchone()
    if found is None:
        raise WalletNotConfigured(
            f"No {kind.label} of {identifier or 'any issuer'} is active. "
            "Import one and activate it with manage.py wallet_credentials."
        )
    credential_id, fingerprint = found
    return credential_id, fingerprint


# The fingerprint makes sure that a number that was given twice, by a database restored from a dump, is told apart.
@lru_cache(maxsize=KEPT_OPEN)
def _signer(credential_id: int, fingerprint: str) -> Signer:
    credential = Credential.objects.select_related("issuer").get(pk=credential_id, fingerprint=fingerprint)
    secret = secret_of(credential)
    intermediate = credential.issuer.certificate if credential.issuer else ""
    try:
        certificate, key = read_pem(credential.certificate.encode(), key=secret)
        return Signer(certificate, key, read_certificate(intermediate.encode()))
    except CredentialRefused as error:
        raise _changed(credential, error.sentence) from None


@lru_cache(maxsize=KEPT_OPEN)
def _account(credential_id: int, fingerprint: str) -> ServiceAccount:
    credential = Credential.objects.get(pk=credential_id, fingerprint=fingerprint)
    try:
        account = ServiceAccount(secret_of(credential), email=credential.subject)
    except CredentialRefused as error:
        raise _changed(credential, error.sentence) from None
    if account.fingerprint != credential.fingerprint:
        raise _changed(credential, "It holds another key. Import that one.")
    return account


def _changed(credential: Credential, reason: str) -> SecretUnreadable:
    """A file may have got another content since its import."""
    place = f"The file {credential.secret_file}" if credential.secret_file else f"What is kept of {credential}"
    return SecretUnreadable(f"{place} is not what was imported. {reason}")
