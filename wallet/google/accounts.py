"""The service account that acts for an issuer: its key signs, and what it signs is exchanged for access tokens."""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from google.auth import crypt, jwt

from wallet.errors import CredentialRefused
from wallet.google.answers import retry_after_seconds
from wallet.outcomes import Kind, Outcome

SCOPE = "https://www.googleapis.com/auth/wallet_object.issuer"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# What Google wants assertions to be addressed to, whichever way they take there.
AUDIENCE = "https://oauth2.googleapis.com/token"
ASSERTION_SECONDS = 3600  # the longest that Google takes
SMALLEST_KEY_BITS = 2048
RENEWED_BEFORE_SECONDS = 60  # a token is not used so shortly before its end
# Refusals that are Google's trouble and not the key's, though they come with status 400.
PASSING_ERRORS = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})


class NoToken(Exception):
    """Google gave no access token. The outcome says what is to follow."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(frozen=True)
class _Token:
    value: str
    good_until: float  # by time.monotonic()


class ServiceAccount:
    """A service account and its key, parsed once; tokens are kept until shortly before their end.

    Raises:
        CredentialRefused: this is no key of a service account, or of another one than `email`.
    """

    def __init__(self, content: bytes, *, email: str = "") -> None:
        fields = _fields_of(content)
        self.email = fields["client_email"]
        self.key_id = fields["private_key_id"]
        if email and self.email != email:
            raise CredentialRefused(
                f"The key belongs to {self.email}, and GOOGLE_SERVICE_ACCOUNT names {email}. "
                "Create a key of that account, or correct the setting."
            )
        key = _key_of(fields["private_key"])
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = hashlib.sha256(public).hexdigest()
        self._signer = crypt.RSASigner(key, self.key_id)  # type: ignore[no-untyped-call]
        self._tokens: dict[str, _Token] = {}
        self._guard = threading.Lock()

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The claims as a JWT, signed by RS256."""
        return jwt.encode(self._signer, claims).decode()  # type: ignore[no-untyped-call, no-any-return]

    def kept_token(self, token_url: str) -> str:
        """A token that is good for a while. Empty: there is none."""
        with self._guard:
            token = self._tokens.get(token_url)
        return token.value if token and time.monotonic() < token.good_until else ""

    def forget_token(self, token_url: str, value: str) -> None:
        """Never use this token again, unless a newer one has taken its place already."""
        with self._guard:
            if (token := self._tokens.get(token_url)) and token.value == value:
                del self._tokens[token_url]

    async def access_token(self, *, http: httpx2.AsyncClient, token_url: str) -> str:
        """A token to call Google with: the kept one, or a new one.

        Raises:
            NoToken: with the outcome CREDENTIAL when Google does not take our key, else THROTTLED or TROUBLE.
        """
        # google-auth makes the assertion, and we exchange it: google.auth.transport would block all calls of the
        # event loop, and google-auth repeats an exchange by itself, with sleeps, behind the back of the retry table.
        if token := self.kept_token(token_url):
            return token
        try:
            answer = await http.post(token_url, data={"grant_type": GRANT, "assertion": self._assertion()})
        except httpx2.TimeoutException:
            raise NoToken(Outcome(Kind.TROUBLE, "timeout", "Google gave no access token in time.")) from None
        except httpx2.RequestError as error:
            reason = f"No access token was to be had ({type(error).__name__})."
            raise NoToken(Outcome(Kind.TROUBLE, "connection", reason)) from None
        return self._keep(token_url, _granted(answer))

    def _keep(self, token_url: str, granted: Mapping[str, Any]) -> str:
        value = str(granted["access_token"])
        good_until = time.monotonic() + int(granted.get("expires_in", 0)) - RENEWED_BEFORE_SECONDS
        with self._guard:
            self._tokens[token_url] = _Token(value, good_until)
        return value

    def _assertion(self) -> str:
        # The time of the network, which no rule of ours depends on.
        now = int(time.time())
        claims = {"iss": self.email, "scope": SCOPE, "aud": AUDIENCE, "iat": now, "exp": now + ASSERTION_SECONDS}
        return self.sign(claims)


def _granted(answer: httpx2.Response) -> Mapping[str, Any]:
    """What a successful exchange brought."""
    content = _json_of(answer)
    if answer.status_code == httpx2.codes.OK and content.get("access_token"):
        return content
    error = str(content.get("error") or f"http_{answer.status_code}")[:60]
    reason = f"Google gave no access token: {str(content.get('error_description') or error)[:200]}"
    if answer.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        raise NoToken(Outcome(Kind.THROTTLED, error, reason, retry_after_seconds=retry_after_seconds(answer)))
    if 400 <= answer.status_code < 500 and answer.status_code != 408 and error not in PASSING_ERRORS:
        raise NoToken(Outcome(Kind.CREDENTIAL, error, reason))
    raise NoToken(Outcome(Kind.TROUBLE, error, reason))


def _json_of(answer: httpx2.Response) -> Mapping[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _fields_of(content: bytes) -> dict[str, str]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        raise CredentialRefused(
            "This is no JSON file. Create a key of type JSON for the service account and use that."
        ) from None
    if not isinstance(fields, dict):
        raise CredentialRefused(
            "This is JSON, but no key of a service account. Create a key of type JSON for it and use that."
        )
    if fields.get("type") != "service_account":
        raise CredentialRefused(
            f'The file is of type "{str(fields.get("type", "unknown"))[:40]}" and not "service_account". '
            "Create a key of type JSON for the service account and use that."
        )
    for name in ("client_email", "private_key_id", "private_key"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise CredentialRefused(f"The file has no {name}. Use it as Google gave it out, or create a new key.")
    return fields


def _key_of(pem: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialRefused("The private_key of the file cannot be read. Create a new key.") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < SMALLEST_KEY_BITS:
        raise CredentialRefused("The private_key of the file is no RSA key of 2048 bits or more. Create a new key.")
    return key
