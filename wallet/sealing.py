"""Secrets at rest: sealed with keys from the environment, or read from a file that nobody else can read."""

import hashlib
import hmac
import os
import stat
from base64 import urlsafe_b64encode
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from wallet.errors import SecretUnreadable

LARGEST_FILE_BYTES = 64 * 1024


def seal(secret: bytes) -> str:
    """Encrypt a secret with the newest key.

    Raises:
        SecretUnreadable: there is no key, or one has the wrong form.
    """
    return _keys().encrypt(secret).decode()


def unseal(sealed: str) -> bytes:
    """Raises: SecretUnreadable, when none of the keys is the one it was sealed with."""
    try:
        return _keys().decrypt(sealed.encode())
    except InvalidToken:
        raise SecretUnreadable(
            "None of the keys in WALLET_ENCRYPTION_KEYS opens this credential. Put back the key it was sealed with."
        ) from None


def reseal(sealed: str) -> str:
    """The same secret under the newest key.

    Raises:
        SecretUnreadable: as for opening it.
    """
    return seal(unseal(sealed))


def _keys() -> MultiFernet:
    if not settings.WALLET_ENCRYPTION_KEYS:
        raise SecretUnreadable("WALLET_ENCRYPTION_KEYS is not set; credentials are sealed with its first key.")
    try:
        return MultiFernet([Fernet(key) for key in settings.WALLET_ENCRYPTION_KEYS])
    except ValueError:
        raise SecretUnreadable(
            "WALLET_ENCRYPTION_KEYS has a value that is no key: each is 32 random bytes in URL-safe base64."
        ) from None


def read_secret_file(path: str) -> bytes:
    """The content of a file that belongs to us and that nobody else may read.

    Raises:
        SecretUnreadable: it is missing, unreadable, too large, or open to others; the sentence says what to do.
    """
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise SecretUnreadable(f"The file {path} is missing. Put the credential back, or activate another.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SecretUnreadable(f"The file {path} cannot be read ({reason}). Give it to the user we run as.") from None
    if mode & 0o077:
        raise SecretUnreadable(f"The file {path} has mode {mode:03o}, so others can read it. Run chmod 600 {path}.")
    if len(content) > LARGEST_FILE_BYTES:
        raise SecretUnreadable(f"The file {path} is larger than 64 KiB and no credential.")
    return content


def newest_token_key() -> int:
    """The number of the key with which new passes get their token.

    Raises:
        SecretUnreadable: there is none.
    """
    return next(iter(_token_keys()))


def authentication_token(identifier: str, *, key_version: int) -> str:
    """What a phone shows to be let in to a pass. Reckoned anew each time, so nothing secret is kept.

    Raises:
        SecretUnreadable: the key with this number is gone.
    """
    keys = _token_keys()
    if key_version not in keys:
        raise SecretUnreadable(
            f"WALLET_TOKEN_KEYS has no key {key_version}, with which passes were made that are in use. Put it back."
        )
    digest = hmac.digest(keys[key_version].encode(), f"{key_version}:{identifier}".encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")


def is_token(shown: str, identifier: str, *, key_version: int) -> bool:
    """Whether this is the pass's token, in a time that tells nothing."""
    return hmac.compare_digest(shown.encode(), authentication_token(identifier, key_version=key_version).encode())


def _token_keys() -> dict[int, str]:
    keys = {}
    for pair in settings.WALLET_TOKEN_KEYS:
        number, _, secret = pair.partition(":")
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 9999 and secret):
            raise SecretUnreadable("WALLET_TOKEN_KEYS has a value that is no number:secret pair, such as 1:abc...")
        keys[int(number)] = secret
    if not keys:
        raise SecretUnreadable("WALLET_TOKEN_KEYS is not set; passes get their tokens from it.")
    return keys
