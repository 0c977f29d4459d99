"""Google's word that a customer added or removed a pass, and whether it is Google's.

A root key of Google's signs an intermediate key, which signs the message ("ECv2SigningOnly").
"""

import json
import re
import struct
import threading
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import httpx2
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

SENDER = "GooglePayPasses"
PROTOCOL = "ECv2SigningOnly"
LONGEST_NONCE = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FETCH_SECONDS = 5.0
KEPT_SECONDS = 3600  # when Google does not say for how long
LONGEST_KEPT_SECONDS = 24 * 3600
TRIED_AGAIN_AFTER_SECONDS = 60.0
MAX_AGE = re.compile(r"max-age=(\d{1,9})")


class CallbackRefused(ValueError):
    """The callback is malformed, too old, or not Google's word to us."""


class KeysUnavailable(Exception):
    """Google's keys cannot be had now, so nothing can be said about a callback. Google sends it again."""


class Event(StrEnum):
    SAVE = "save"
    DEL = "del"


@dataclass(frozen=True)
class Callback:
    """What Google said: a customer added or removed the object. The nonce tells a repetition."""

    class_id: str
    object_id: str
    event: Event
    nonce: str
    expires_at: datetime


def verify(body: bytes, *, keys: Mapping[str, Any], issuer_id: str, at: datetime) -> Callback:
    """What the callback says, once it is certain that Google says it to this issuer.

    `keys` are Google's root keys as it publishes them. Whether the nonce is new is for the caller to find out.

    Raises:
        CallbackRefused: there is something wrong with it; the sentence says what.
    """
    told = _json_of(body, "body")
    if told.get("protocolVersion") != PROTOCOL:
        raise CallbackRefused(f"The protocol is not {PROTOCOL}.")
    intermediate = _intermediate_key(told.get("intermediateSigningKey"), keys=keys, at=at)
    message = _text(told, "signedMessage")
    if not _is_signed([intermediate], _text(told, "signature"), SENDER, issuer_id, PROTOCOL, message):
        raise CallbackRefused("The message was not signed for this issuer by the intermediate key.")
    return _callback_of(_json_of(message, "message"), at=at)


def _intermediate_key(told: Any, *, keys: Mapping[str, Any], at: datetime) -> ec.EllipticCurvePublicKey:
    if not isinstance(told, dict) or not isinstance(told.get("signatures"), list):
        raise CallbackRefused("The intermediate key is missing.")
    signed_key = _text(told, "signedKey")
    roots = list(_root_keys(keys, at=at))
    if not any(_is_signed(roots, signature, SENDER, PROTOCOL, signed_key) for signature in told["signatures"]):
        raise CallbackRefused("The intermediate key was not signed by a key of Google's that is in force.")
    key = _json_of(signed_key, "intermediate key")
    if _moment(key, "keyExpiration") <= at:
        raise CallbackRefused("The intermediate key has expired.")
    return _key(_text(key, "keyValue"))


def _root_keys(keys: Mapping[str, Any], *, at: datetime) -> Iterator[ec.EllipticCurvePublicKey]:
    for key in keys.get("keys", ()):
        # Keys without an end are Google's older form.
        is_over = "keyExpiration" in key and _moment(key, "keyExpiration") <= at
        if key.get("protocolVersion") == PROTOCOL and not is_over:
            yield _key(_text(key, "keyValue"))


def _callback_of(message: Mapping[str, Any], *, at: datetime) -> Callback:
    expires_at = _moment(message, "expTimeMillis")
    if expires_at <= at:
        raise CallbackRefused("The message has expired.")
    nonce = _text(message, "nonce")
    if len(nonce) > LONGEST_NONCE:
        raise CallbackRefused("The nonce is too long.")
    try:
        event = Event(_text(message, "eventType"))
    except ValueError:
        raise CallbackRefused("The event is neither save nor del.") from None
    return Callback(_text(message, "classId"), _text(message, "objectId"), event, nonce, expires_at)


def _is_signed(keys: list[ec.EllipticCurvePublicKey], signature: Any, *parts: str) -> bool:
    # Lengths are those of the bytes: a name with an accent has more of them than characters.
    encoded = [part.encode() for part in parts]
    signed = b"".join(struct.pack("<I", len(part)) + part for part in encoded)
    for key in keys:
        try:
            key.verify(_decoded(signature), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return True
    return False


def _key(value: str) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(_decoded(value))
    except (ValueError, UnsupportedAlgorithm):
        raise CallbackRefused("A key cannot be read.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CallbackRefused("A key is of another kind.")
    return key


def _decoded(value: Any) -> bytes:
    try:
        return b64decode(value, validate=True)
    except (ValueError, TypeError):
        raise CallbackRefused("A signature or a key is no base64.") from None


def _json_of(content: bytes | str, what: str) -> Mapping[str, Any]:
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise CallbackRefused(f"The {what} is no JSON object.")
    return told


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    # Half a character, which JSON can spell, has no bytes that could be signed.
    if not isinstance(value, str) or not value or any("\ud800" <= c <= "\udfff" for c in value):
        raise CallbackRefused(f"There is no {name}.")
    return value


def _moment(told: Mapping[str, Any], name: str) -> datetime:
    """Milliseconds since 1970; Google writes some as a string and some as a number."""
    try:
        return EPOCH + timedelta(milliseconds=int(told[name]))
    except (KeyError, ValueError, TypeError, OverflowError):
        raise CallbackRefused(f"There is no {name}.") from None


@dataclass(frozen=True)
class _Kept:
    keys: Mapping[str, Any] | None
    look_again_at: float  # by time.monotonic()


_kept: dict[str, _Kept] = {}
_fetching = threading.Lock()


def fetch_keys(url: str) -> Mapping[str, Any]:
    """Google's keys, as it publishes them: those that are kept, or fetched if these are old.

    When none are to be had, old ones do: each says itself until when it counts. Google is asked again after a minute
    at the earliest, so that a flood of forged callbacks is no flood of requests.

    Raises:
        KeysUnavailable: there are none at all.
    """
    with _fetching:
        kept = _kept.get(url)
        if kept is None or time.monotonic() >= kept.look_again_at:
            kept = _kept[url] = _fetch(url, old=kept.keys if kept else None)
    if kept.keys is None:
        raise KeysUnavailable("Google's keys cannot be fetched. Check GOOGLE_KEYS_URL and the way there.")
    return kept.keys


def _fetch(url: str, *, old: Mapping[str, Any] | None) -> _Kept:
    try:
        answer = httpx2.get(url, timeout=FETCH_SECONDS).raise_for_status()
        keys = answer.json()
    except (httpx2.HTTPError, ValueError):
        keys = None
    if not isinstance(keys, dict) or not isinstance(keys.get("keys"), list):
        return _Kept(old, time.monotonic() + TRIED_AGAIN_AFTER_SECONDS)
    found = MAX_AGE.search(answer.headers.get("Cache-Control", ""))
    seconds = min(int(found[1]) if found else KEPT_SECONDS, LONGEST_KEPT_SECONDS)
    return _Kept(keys, time.monotonic() + seconds)
