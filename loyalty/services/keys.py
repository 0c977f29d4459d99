"""Keys: what tills and programs sign in with. Each is shown once, to who asked for it; only its SHA-256 is kept."""

import hashlib
import secrets
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet

from loyalty.errors import InvalidInput, KeyNotFound, NothingToChange
from loyalty.models import Merchant, Program, StaffMember, Store, StoreApiKey, UserApiKey
from loyalty.models.instances import column_names, read, read_if_any

log = structlog.get_logger()
K = TypeVar("K", StoreApiKey, UserApiKey)
VISIBLE_CHARACTERS = 12
LONGEST_LABEL = 80
NO_TEXT = ("Cc", "Cs")  # control characters, and halves of characters


@dataclass(frozen=True)
class IssuedKey(Generic[K]):
    """A new key, in full for the only time, and what is kept of it."""

    key: str = field(repr=False)
    record: K


@dataclass(frozen=True, kw_only=True)
class TillSignIn:
    """The store that a till belongs to, and who works there.

    The store comes with its merchant loaded, and the merchant with its program, if there is one. The caller decides
    what a store or merchant that is not active may do.
    """

    store: Store
    program: Program | None
    key_id: int
    label: str
    staff_member: StaffMember | None
    staff_session_id: int | None
    is_token_refused: bool


class UserSignIn(NamedTuple):
    """Whose key it is."""

    user: User
    key_id: int


def issue_store_key(
    *, store: Store, label: str, actor: str, at: datetime, expires_at: datetime | None = None
) -> IssuedKey[StoreApiKey]:
    """Make a key for a till of a store. Without `expires_at` it is good until it is revoked.

    Raises:
        InvalidInput: the label is empty or too long, or the key would have expired already.
    """
    key = new_secret("till")
    record = StoreApiKey.objects.create(store=store, **_kept(key, label=label, expires_at=expires_at, at=at))
    log.info("loyalty.store_key_issued", store_id=store.pk, key_id=record.pk)
    return IssuedKey(key, record)


def revoke_store_key(*, merchant: Merchant, key_id: int, actor: str, at: datetime) -> StoreApiKey:
    """End a till's key: from now on it opens nothing.

    Raises:
        KeyNotFound: the merchant has no such key. NothingToChange: it is revoked already.
    """
    keys = StoreApiKey.objects.select_related("store").filter(store__merchant=merchant)
    record = _revoke(keys, key_id, at=at)
    log.info("loyalty.store_key_revoked", store_id=record.store_id, key_id=key_id)
    return record


def issue_user_key(
    *, user: User, label: str, at: datetime, expires_at: datetime | None = None
) -> IssuedKey[UserApiKey]:
    """Make a key with which a program may do what the user may. Without `expires_at` it is good until it is revoked.

    Raises:
        InvalidInput: the label is empty or too long, the key would have expired already, or the user is switched off.
    """
    if not user.is_active:
        raise InvalidInput("This user is switched off, so a key would open nothing.", field="user")
    key = new_secret("user")
    record = UserApiKey.objects.create(user=user, **_kept(key, label=label, expires_at=expires_at, at=at))
    log.info("loyalty.user_key_issued", owner_id=user.pk, key_id=record.pk)
    return IssuedKey(key, record)


def revoke_user_key(*, user: User, key_id: int, at: datetime) -> UserApiKey:
    """End a key of this user: from now on it opens nothing.

    Raises:
        KeyNotFound: the user has no such key. NothingToChange: it is revoked already.
    """
    record = _revoke(UserApiKey.objects.filter(user=user), key_id, at=at)
    log.info("loyalty.user_key_revoked", owner_id=user.pk, key_id=key_id)
    return record


def till_signed_in(*, key: str, session_token: str | None, at: datetime) -> TillSignIn | None:
    """Whose till this is, and who works at it; None when the key is unknown, revoked or expired.

    One statement, which also notes at most every five minutes that the key is in use. A session counts when it was
    opened at this store and is not over, and when its staff member is active and still works there.
    """
    values: dict[str, Any] = {"key_hash": hash_of(key), "token_hash": hash_of(session_token or ""), "at": at}
    with connection.cursor() as cursor:
        cursor.execute(_till_statement(), values)
        row = cursor.fetchone()
    if row is None:
        return None
    key_id, label, session_id, *others = row
    columns = iter(others)
    store, merchant = read(Store, columns), read(Merchant, columns)
    program, staff_member = read_if_any(Program, columns), read_if_any(StaffMember, columns)
    store.merchant = merchant
    if program:
        program.merchant = merchant  # both ways: merchant.program costs no statement either
    if staff_member:
        staff_member.merchant = merchant
    return TillSignIn(
        store=store,
        program=program,
        key_id=key_id,
        label=label,
        staff_member=staff_member,
        staff_session_id=session_id,
        is_token_refused=session_token is not None and staff_member is None,
    )


def user_signed_in(*, key: str, at: datetime) -> UserSignIn | None:
    """Whose key this is; None when it is unknown, revoked or expired, or when the user is switched off.

    One statement, which also notes at most every five minutes that the key is in use.
    """
    values: dict[str, Any] = {"key_hash": hash_of(key), "at": at}
    with connection.cursor() as cursor:
        cursor.execute(_user_statement(), values)
        row = cursor.fetchone()
    return UserSignIn(read(User, iter(row[1:])), row[0]) if row else None


def new_secret(kind: str) -> str:
    """A secret of 256 random bits. Its kind stands in front, so that one that was mislaid is recognised."""
    return f"{kind}_{secrets.token_urlsafe(32)}"


def hash_of(secret: str) -> str:
    """What is kept of a secret. It is long and random, so a fast hash without salt does."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def require_label(text: str, *, field: str) -> str:
    """A label or a name without surrounding space.

    Raises:
        InvalidInput: it is empty, too long, or holds characters that are no text.
    """
    text = require_text(text, field=field)
    if not 0 < len(text) <= LONGEST_LABEL:
        raise InvalidInput(f"Please give 1 to {LONGEST_LABEL} characters.", field=field)
    return text


def require_text(text: str, *, field: str) -> str:
    """One line of text without surrounding space.

    Raises:
        InvalidInput: it holds characters that are no text.
    """
    text = text.strip()
    if any(unicodedata.category(character) in NO_TEXT for character in text):
        raise InvalidInput("This holds characters that are no text.", field=field)
    return text


def _kept(key: str, *, label: str, expires_at: datetime | None, at: datetime) -> dict[str, Any]:
    if expires_at is not None and expires_at <= at:
        raise InvalidInput("This moment is over; a key expires later than that.", field="expires_at")
    return {
        "label": require_label(label, field="label"),
        "prefix": key[:VISIBLE_CHARACTERS],
        "key_hash": hash_of(key),
        "created_at": at,
        "expires_at": expires_at,
    }


def _revoke(keys: QuerySet[K], key_id: int, *, at: datetime) -> K:
    record = keys.filter(pk=key_id).first()
    if record is None:
        raise KeyNotFound("This key is not known here.", key_id=key_id)
    if not keys.filter(pk=key_id, revoked_at=None).update(revoked_at=at):
        raise NothingToChange("This key is revoked already.")
    record.revoked_at = at
    return record


IS_GOOD = (
    "{table}.key_hash = %(key_hash)s AND {table}.revoked_at IS NULL AND coalesce({table}.expires_at > %(at)s, TRUE)"
)
# A till never waits for a note: whoever holds the row writes one, or ends the key.
NOTED = f"""
    WITH noted AS (
        UPDATE {{table}} SET last_used_at = %(at)s
        WHERE id = (
            SELECT id FROM {{table}}
            WHERE {IS_GOOD} AND coalesce(last_used_at <= %(at)s - interval '5 minutes', TRUE)
            FOR NO KEY UPDATE SKIP LOCKED
        )
    )
"""  # noqa: S608  names of our own models
# No store at all means every store of the merchant.
WORKS_AT = """
    coalesce((
        SELECT bool_or(place.store_id = {store}) FROM loyalty_staffmember_stores place
        WHERE place.staffmember_id = loyalty_staffmember.id
    ), TRUE)
"""


@cache
def _till_statement() -> str:
    return f"""
        {NOTED.format(table="loyalty_storeapikey")}
        SELECT loyalty_storeapikey.id, loyalty_storeapikey.label, loyalty_staffsession.id,
            {column_names(Store, Merchant, Program, StaffMember)}
        FROM loyalty_storeapikey
        JOIN loyalty_store ON loyalty_store.id = loyalty_storeapikey.store_id
        JOIN loyalty_merchant ON loyalty_merchant.id = loyalty_store.merchant_id
        LEFT JOIN loyalty_program ON loyalty_program.merchant_id = loyalty_merchant.id
        LEFT JOIN (
            loyalty_staffsession
            JOIN loyalty_staffmember ON loyalty_staffmember.id = loyalty_staffsession.staff_member_id
                AND loyalty_staffmember.is_active
        ) ON loyalty_staffsession.token_hash = %(token_hash)s
            AND loyalty_staffsession.expires_at > %(at)s
            AND loyalty_staffsession.store_id = loyalty_store.id
            AND loyalty_staffmember.merchant_id = loyalty_store.merchant_id
            AND {WORKS_AT.format(store="loyalty_store.id")}
        WHERE {IS_GOOD.format(table="loyalty_storeapikey")}
    """  # noqa: S608  names of our own models


@cache
def _user_statement() -> str:
    return f"""
        {NOTED.format(table="loyalty_userapikey")}
        SELECT loyalty_userapikey.id, {column_names(User)}
        FROM loyalty_userapikey
        JOIN auth_user ON auth_user.id = loyalty_userapikey.user_id AND auth_user.is_active
        WHERE {IS_GOOD.format(table="loyalty_userapikey")}
    """  # noqa: S608  names of our own models
