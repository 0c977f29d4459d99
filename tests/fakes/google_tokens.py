"""Access tokens for assertions that a service account's key has signed."""

import json
import time
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from google.auth import jwt

from tests.fakes.google_store import Refused

AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/wallet_object.issuer"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Tokens:
    """Whose assertions are taken, and the tokens that are out."""

    def __init__(self, *accounts: bytes) -> None:
        self.seconds = 3599
        self.out: set[str] = set()
        self.trusted: dict[str, tuple[str, bytes]] = {}  # key id -> e-mail, public key
        for account in accounts:
            self.trust(account)

    def trust(self, account: bytes) -> None:
        content = json.loads(account)
        self.trusted[content["private_key_id"]] = content["client_email"], _public_part(content["private_key"])

    def distrust(self, account: bytes) -> None:
        self.trusted.pop(json.loads(account)["private_key_id"], None)

    def grant(self, form: str) -> dict[str, Any]:
        """A token for the assertion in the form."""
        fields = {name: values[0] for name, values in parse_qs(form).items()}
        if fields.get("grant_type") != GRANT:
            raise Refused(400, "unsupported_grant_type", "Invalid grant_type.")
        try:
            self._check(fields["assertion"])
        except (ValueError, KeyError) as error:
            raise Refused(400, "invalid_grant", f"Invalid JWT: {error}") from None
        token = f"ya29.fake-{time.monotonic_ns()}"
        self.out.add(token)
        return {"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"}

    def _check(self, assertion: str) -> None:
        key_id = jwt.decode_header(assertion)["kid"]
        if key_id not in self.trusted:
            raise ValueError("no such key.")
        email, key = self.trusted[key_id]
        claims = jwt.decode(assertion, certs=key, audience=AUDIENCE)
        if claims["iss"] != email or SCOPE not in claims["scope"].split():
            raise ValueError("wrong issuer or scope.")
        if claims["exp"] - claims["iat"] > 3600:
            raise ValueError("it must be short-lived.")


@cache
def _public_part(private_key: str) -> bytes:
    key = load_pem_private_key(private_key.encode(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
