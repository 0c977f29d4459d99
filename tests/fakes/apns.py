"""A real server on loopback that takes pushes as Apple's does, keeps them, and misbehaves when told to.

    with FakeApns(pki) as apns:
        apns.when(answer(503, "ServiceUnavailable"), token="ab12...", times=2)
        apns.on_push = phone.told

It speaks HTTP/2 over TLS and lets in only who shows a certificate issued by the intermediate of the same PKI. An answer
is `answer(...)`, GOAWAY (the connection is closed in the orderly way, unanswered pushes on it are lost), RESET (one
stream ends), CUT (the connection breaks), or HANG (nothing comes).
"""

import asyncio
import json
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.fakes.pki import Identity, Pki


class Fault(Enum):
    GOAWAY = "goaway"
    RESET = "reset"
    CUT = "cut"
    HANG = "hang"


GOAWAY, RESET, CUT, HANG = Fault.GOAWAY, Fault.RESET, Fault.CUT, Fault.HANG


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def answer(
    status: int, reason: str = "", *, gone_at: datetime | None = None, retry_after_seconds: int | None = None
) -> Answer:
    """An answer in Apple's form: the reason, and since when a phone has been gone."""
    body: dict[str, object] = {"reason": reason} if reason else {}
    if gone_at is not None:
        body["timestamp"] = int(gone_at.timestamp() * 1000)
    headers = () if retry_after_seconds is None else (("retry-after", str(retry_after_seconds)),)
    return Answer(status, json.dumps(body).encode() if body else b"", headers)


TAKEN = Answer(200)


@dataclass
class Push:
    """One push as it came in. `status` is what was answered; 0: nothing."""

    token: str
    topic: str
    push_type: str
    priority: str
    body: bytes
    at: datetime
    connection: int
    status: int = 0


@dataclass
class Rule:
    answer: Answer | Fault
    token: str | None
    times: int | None
    after: int

    def applies(self, token: str) -> bool:
        """Whether to answer this, counting what it was asked."""
        if self.token not in (None, token) or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        return True


class FakeApns:
    """The server. It keeps its port when it is closed and opened again."""

    def __init__(
        self,
        pki: Pki,
        *,
        port: int = 0,
        delay_seconds: float = 0,
        streams_at_once: int = 1000,
        protocol: str = "h2",
    ) -> None:
        self.pki = pki
        self.port = port
        self.delay_seconds = delay_seconds  # before each answer
        self.streams_at_once = streams_at_once
        self.protocol = protocol  # what it says that it speaks
        self.on_push: Callable[[Push], object] | None = None  # called for each push that was taken, one after another
        self.pushes: list[Push] = []
        self.connections = 0
        self.most_at_once = 0  # of them
        self.rules: list[Rule] = []
        self._open_connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-apns", daemon=True)
        self._reactions = ThreadPoolExecutor(1, thread_name_prefix="fake-apns-reaction")
        self._errors: list[BaseException] = []
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> "FakeApns":
        Path(self.ca_file).write_bytes(self.pki.root.certificate_pem)
        self._tls = self._context()
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reactions.shutdown()
        self._folder.cleanup()
        if self._errors and error is None:
            raise self._errors[0]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca_file(self) -> str:
        return str(Path(self._folder.name) / "root.pem")

    @property
    def taken(self) -> list[str]:
        """The tokens of pushes that were answered with 200, in the order in which they came."""
        return [push.token for push in self.pushes if push.status == 200]

    def when(
        self, answer: Answer | Fault, *, token: str | None = None, times: int | None = None, after: int = 0
    ) -> None:
        """Answer so: to all or for one token, always or so many times, after so many passed."""
        self.rules.append(Rule(answer, token, times, after))

    def behave(self) -> None:
        self.rules.clear()

    def open(self) -> None:
        """Listen."""
        self._run(self._open())

    def close(self) -> None:
        """Refuse connections from now on, and drop those there are."""
        self._run(self._close())

    def settle(self) -> None:
        """Wait until `on_push` has returned for all pushes that were taken so far."""
        self._reactions.submit(lambda: None).result(30)

    def answer_to(self, push: Push, owner: str) -> Answer | Fault:
        for rule in self.rules:
            if rule.applies(push.token):
                return rule.answer
        if not push.topic:
            return answer(400, "MissingTopic")
        if push.topic != owner:
            return answer(400, "TopicDisallowed")
        if not push.body:
            return answer(400, "PayloadEmpty")
        return TAKEN if is_token(push.token) else answer(400, "BadDeviceToken")

    def react(self, push: Push) -> None:
        if self.on_push is not None:
            self._reactions.submit(self._react, self.on_push, push)

    def _react(self, reaction: Callable[[Push], object], push: Push) -> None:
        try:
            reaction(push)
        except Exception as error:  # noqa: BLE001  raised again where the test can see it
            self._errors.append(error)

    def _context(self) -> ssl.SSLContext:
        """Only who has a certificate by the intermediate comes in; the client need not send the intermediate."""
        identity = _server_identity(self.pki)
        file = Path(self._folder.name) / "server.pem"
        file.write_bytes(identity.key_pem + identity.certificate_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=self.pki.intermediate.certificate_pem.decode())
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols([self.protocol])
        return context

    def _run(self, work: Awaitable[None]) -> None:
        async def finish() -> None:
            await work

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result(10)

    async def _open(self) -> None:
        self._listener = await self._loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for connection in list(self._open_connections):
            connection.drop()
        while self._open_connections:
            await asyncio.sleep(0.005)


@dataclass
class _Request:
    headers: Mapping[str, str]
    body: bytearray = field(default_factory=bytearray)


class _Connection(asyncio.Protocol):
    """One connection. It does its own TLS: asyncio's hangs up without the alert that tells a client why."""

    def __init__(self, server: FakeApns) -> None:
        self.server = server
        self.number = 0
        self.owner = ""
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests: dict[int, _Request] = {}
        self.transport: asyncio.Transport | None = None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = server._tls.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server._open_connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.server._open_connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.incoming.write(data)
        try:
            if not self.number:
                self.tls.do_handshake()
                self._let_in()
            while plain := self.tls.read(65536):
                for event in self.h2.receive_data(plain):
                    self._heard(event)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ProtocolError):
            # Not at once: what the client is sending would reset the connection, and with it the alert.
            self.server._loop.call_later(0.05, self.drop)
        self._flush()

    def _let_in(self) -> None:
        self.server.connections += 1
        self.number = self.server.connections
        self.server.most_at_once = max(self.server.most_at_once, len(self.server._open_connections))
        self.owner = _pass_type(self.tls.getpeercert(binary_form=True) or b"")
        allowed = {SettingCodes.MAX_CONCURRENT_STREAMS: self.server.streams_at_once}
        self.h2.local_settings = Settings(client=False, initial_values=allowed)
        self.h2.initiate_connection()

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _heard(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self.requests[event.stream_id] = _Request(dict(event.headers))  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            self.requests[event.stream_id].body.extend(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._take(event.stream_id, self.requests.pop(event.stream_id))
        elif isinstance(event, StreamReset):
            self.requests.pop(event.stream_id, None)
        elif isinstance(event, ConnectionTerminated):
            self.drop()

    def _take(self, stream_id: int, request: _Request) -> None:
        headers = request.headers
        push = Push(
            token=headers[":path"].removeprefix("/3/device/"),
            topic=headers.get("apns-topic", ""),
            push_type=headers.get("apns-push-type", ""),
            priority=headers.get("apns-priority", ""),
            body=bytes(request.body),
            at=datetime.now(UTC),
            connection=self.number,
        )
        self.server.pushes.append(push)
        said = self.server.answer_to(push, self.owner)
        self.server._loop.call_later(self.server.delay_seconds, self._answer, stream_id, push, said)

    def _answer(self, stream_id: int, push: Push, said: Answer | Fault) -> None:
        if self.transport is None or said is HANG:
            return
        try:
            if isinstance(said, Answer):
                self._send(stream_id, push, said)
            else:
                self._misbehave(stream_id, said)
        except ProtocolError:  # the client gave the stream up
            return
        self._flush()

    def _send(self, stream_id: int, push: Push, said: Answer) -> None:
        headers = [(":status", str(said.status)), *said.headers]
        self.h2.send_headers(stream_id, headers, end_stream=not said.body)
        if said.body:
            self.h2.send_data(stream_id, said.body, end_stream=True)
        push.status = said.status
        if said.status == 200:
            self.server.react(push)

    def _misbehave(self, stream_id: int, fault: Fault) -> None:
        if fault is RESET:
            self.h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        elif fault is GOAWAY:
            self.h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=stream_id)
            self._flush()
            assert self.transport is not None
            self.transport.close()
        else:
            self.drop()

    def _flush(self) -> None:
        if self.number and (data := self.h2.data_to_send()):
            self.tls.write(data)
        sent = self.outgoing.read()
        if sent and self.transport is not None and not self.transport.is_closing():
            self.transport.write(sent)


@cache
def _server_identity(pki: Pki) -> Identity:
    return pki.server_identity()


def is_token(token: str) -> bool:
    """Whether a phone may have it; the token of all zeros, by which one asks whether one is let in, is nobody's."""
    return (
        len(token) % 2 == 0
        and 0 < len(token) <= 200
        and set(token) <= set("0123456789abcdefABCDEF")
        and token.strip("0") != ""
    )


def _pass_type(certificate: bytes) -> str:
    name = x509.load_der_x509_certificate(certificate).subject
    return str(name.get_attributes_for_oid(NameOID.USER_ID)[0].value)
