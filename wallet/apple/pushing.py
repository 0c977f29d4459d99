"""Tell phones that a pass has changed. A phone that was told comes to fetch it."""

import asyncio
import contextlib
import json
import ssl
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

from wallet.apple.http2 import Exchange, Http2Connection, Unanswered, connect
from wallet.apple.signing import Signer
from wallet.errors import SecretUnreadable
from wallet.outcomes import DONE, Kind, Outcome

MOST_AT_ONCE = 100
TIMES_SENT = 2  # over connections that end; more would make an outage noisier
LEAST_WAIT_SECONDS = 60
NOBODY = "0" * 64
GONE = ("BadDeviceToken", "DeviceTokenNotForTopic")
OUR_FAULT = ("TopicDisallowed", "BadTopic", "MissingTopic")
NOT_LET_IN = ("CERTIFICATE", "UNKNOWN_CA")  # in the names of TLS's alerts


class PushConnection:
    """One connection to Apple for as many pushes as there are, side by side: a hundred at once, the others wait.

    It opens with the first push, and again when Apple closes it; what was on its way is sent once more.

    Raises:
        SecretUnreadable: the file with the authorities to trust cannot be read.
    """

    def __init__(
        self,
        *,
        url: str,
        ca_file: str,
        signer: Signer,
        topic: str,
        push_type: str,
        priority: int,
        timeout_seconds: float = 10,
    ) -> None:
        self._server = urlsplit(url)
        self._context = _trusting(ca_file)
        self._signer = signer
        self._signer.identify(self._context)
        self._headers = [("apns-topic", topic), ("apns-push-type", push_type), ("apns-priority", str(priority))]
        self._timeout_seconds = timeout_seconds
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._connecting: asyncio.Task[Http2Connection] | None = None

    async def __aenter__(self) -> "PushConnection":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            [connection] = await asyncio.gather(self._connecting, return_exceptions=True)
            if isinstance(connection, Http2Connection):
                await connection.close()

    async def push(self, push_token: str) -> Outcome:
        """Tell one phone. Whatever becomes of it is an outcome."""
        # By this machine's clock, which is TLS's too: Apple only hangs up on a certificate that has expired.
        if not self._signer.is_valid(datetime.now(UTC)):
            begin, end = self._signer.valid_from, self._signer.expires_at
            reason = f"The certificate is good from {begin:%Y-%m-%d} to {end:%Y-%m-%d}. Activate another."
            return Outcome(Kind.CREDENTIAL, "certificate_expired", reason)
        async with self._room:
            return await self._send(f"/3/device/{quote(push_token, safe='')}")

    async def probe(self) -> Outcome:
        """A push to nobody: DONE when Apple lets us in and says that there is no such phone."""
        outcome = await self.push(NOBODY)
        return DONE if outcome.kind is Kind.GONE else outcome

    async def _send(self, path: str) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return _outcome(await self._answered(path))
        except TimeoutError:
            return Outcome(Kind.TROUBLE, "timeout", f"Apple did not answer within {self._timeout_seconds:g} s.")
        except (OSError, Unanswered) as error:
            return _failure(error.__cause__ if isinstance(error, Unanswered) else error)

    async def _answered(self, path: str) -> Exchange:
        """The answer, whatever number of connections it takes. A push that arrives twice does no harm."""
        for _ in range(TIMES_SENT - 1):
            connection = await self._connection()
            with contextlib.suppress(Unanswered):
                return await connection.post(path, self._headers, b"{}")
        return await (await self._connection()).post(path, self._headers, b"{}")

    async def _connection(self) -> Http2Connection:
        """The open connection, or the one that is being opened: all pushes that wait share its fate."""
        if self._connecting is None or _is_over(self._connecting):
            self._connecting = asyncio.create_task(self._open())
        return await asyncio.shield(self._connecting)

    async def _open(self) -> Http2Connection:
        async with asyncio.timeout(self._timeout_seconds):
            return await connect(self._server.hostname or "", self._server.port or 443, self._context)


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError:
        raise SecretUnreadable(
            f"APPLE_PUSH_CA_FILE names {ca_file}, which is no file with certificates that we can read. "
            "Correct it, or leave it empty to trust what this machine trusts."
        ) from None


def _is_over(connecting: "asyncio.Task[Http2Connection]") -> bool:
    if not connecting.done():
        return False
    return connecting.cancelled() or connecting.exception() is not None or not connecting.result().is_open


def _is_shut_out(error: BaseException | None) -> bool:
    """Whether the server said that it does not take our certificate. Some hang up instead."""
    reason = str(error.reason) if isinstance(error, ssl.SSLError) else ""
    return "ALERT" in reason and any(name in reason for name in NOT_LET_IN)


def _failure(error: BaseException | None) -> Outcome:
    if _is_shut_out(error):
        reason = "Apple does not accept the certificate. It may have been revoked; activate another."
        return Outcome(Kind.CREDENTIAL, "certificate_refused", reason)
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"The server does not prove to be Apple's: {error.verify_message}. Look at APPLE_PUSH_CA_FILE."
        return Outcome(Kind.TROUBLE, "server_untrusted", reason)
    cause = f" ({type(error).__name__})" if error else ""
    return Outcome(Kind.TROUBLE, "connection", f"The connection to Apple ended{cause}.")


def _outcome(exchange: Exchange) -> Outcome:
    """What an answer means, by the table of retries."""
    status = exchange.status
    if status == 200:
        return DONE
    body = _body(exchange)
    reason = str(body.get("reason") or "")[:60]
    code = reason or f"http_{status}"
    said = f"Apple answered {status} {reason}".strip() + "."
    if status == 410 or (status == 400 and reason in GONE):
        return Outcome(Kind.GONE, code, said, gone_at=_moment(body.get("timestamp")))
    if status == 403 or reason in OUR_FAULT or "Certificate" in reason:
        return Outcome(Kind.CREDENTIAL, code, said)
    if status == 429:
        return Outcome(Kind.THROTTLED, code, said, retry_after_seconds=_wait(exchange))
    if status >= 500 or reason == "IdleTimeout":
        return Outcome(Kind.TROUBLE, code, said)
    return Outcome(Kind.FINAL, code, said)


def _body(exchange: Exchange) -> dict[str, Any]:
    try:
        body = json.loads(exchange.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _moment(milliseconds: Any) -> datetime | None:
    """The moment in an answer of Apple's."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _wait(exchange: Exchange) -> float:
    asked = exchange.headers.get("retry-after", "")
    return max(LEAST_WAIT_SECONDS, float(asked) if asked.isascii() and asked.isdigit() else 0)
