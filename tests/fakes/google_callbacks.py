"""Callbacks signed the way Google signs them: a root key signs an intermediate key, which signs the message."""

import datetime as dt
import json
import struct
from base64 import b64encode
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SENDER, PROTOCOL = "GooglePayPasses", "ECv2SigningOnly"
HOUR = dt.timedelta(hours=1)


class CallbackSigner:
    """Google's keys. What is signed is good at `at`, or now."""

    def __init__(self, issuer_id: str) -> None:
        self.issuer_id = issuer_id
        self.root = ec.generate_private_key(ec.SECP256R1())
        self.intermediate = ec.generate_private_key(ec.SECP256R1())

    def keys(self, *, expires_at: dt.datetime | None = None) -> dict[str, Any]:
        """The root keys as Google publishes them; the first is for another protocol."""
        expires_at = expires_at or dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
        key = {"keyValue": spki(self.root), "keyExpiration": str(millis(expires_at))}
        other = {**key, "keyValue": spki(ec.generate_private_key(ec.SECP256R1())), "protocolVersion": "ECv2"}
        return {"keys": [other, {**key, "protocolVersion": PROTOCOL}]}

    def callback(
        self,
        event: str,
        object_id: str,
        *,
        class_id: str,
        at: dt.datetime | None = None,
        lasts: dt.timedelta = HOUR,
        key_lasts: dt.timedelta = 24 * HOUR,
        recipient: str = "",
        **changes: Any,
    ) -> bytes:
        """A signed body. `changes` are made to the message before it is signed; None leaves a field out."""
        at = at or dt.datetime.now(dt.UTC)
        message = {
            "classId": class_id,
            "objectId": object_id,
            "eventType": event,
            "expTimeMillis": millis(at + lasts),
            "count": 1,
            "nonce": str(uuid4()),
            **changes,
        }
        told = json.dumps({name: value for name, value in message.items() if value is not None}, ensure_ascii=False)
        key = json.dumps({"keyValue": spki(self.intermediate), "keyExpiration": str(millis(at + key_lasts))})
        body = {
            "signature": sign(self.intermediate, SENDER, recipient or self.issuer_id, PROTOCOL, told),
            "intermediateSigningKey": {"signedKey": key, "signatures": [sign(self.root, SENDER, PROTOCOL, key)]},
            "protocolVersion": PROTOCOL,
            "signedMessage": told,
        }
        return json.dumps(body).encode()


def sign(key: ec.EllipticCurvePrivateKey, *parts: str) -> str:
    signed = b"".join(struct.pack("<I", len(part.encode())) + part.encode() for part in parts)
    return b64encode(key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()


def spki(key: ec.EllipticCurvePrivateKey) -> str:
    return b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def millis(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1000)
