"""How secrets are kept: sealed under the newest key, or in files that are looked at before anything starts."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from django.db import connection, transaction

from wallet.models import Credential
from wallet.sealing import read_secret_file, reseal

log = structlog.get_logger()

CREDENTIALS_LOCK = 0x10A4  # tells our advisory locks from those of other programs on the same database


@contextmanager
def one_change_at_a_time() -> Iterator[None]:
    """A transaction in which nobody else brings in, switches or seals credentials."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [CREDENTIALS_LOCK])
        yield


def reseal_all() -> int:
    """Seal every kept secret anew with the first key of WALLET_ENCRYPTION_KEYS, so that older keys can go.

    All or none. Returns how many there were.

    Raises:
        SecretUnreadable: one was sealed with a key that is gone; nothing was changed.
    """
    with one_change_at_a_time():
        sealed = list(Credential.objects.exclude(sealed_secret=""))
        for credential in sealed:
            credential.sealed_secret = reseal(credential.sealed_secret)
        Credential.objects.bulk_update(sealed, ["sealed_secret"])
    log.info("wallet.credentials_resealed", credentials=len(sealed))
    return len(sealed)


def require_usable_files() -> None:
    """Look whether the files of all active credentials can be read, and by us alone.

    Raises:
        SecretUnreadable: the first that cannot; the sentence names it and what to do.
    """
    active = Credential.objects.active().exclude(secret_file="")
    for path in active.order_by("kind", "identifier").values_list("secret_file", flat=True):
        read_secret_file(path)
