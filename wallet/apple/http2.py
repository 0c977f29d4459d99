"""HTTP/2 as pushes need it: small requests side by side on one connection, which may end at any moment.

The library that calls Google loses count of its streams when a request is given up, and fails requests that a closing
connection has not answered in ways that cannot be told apart; pushes live with both every day.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from hpack import HeaderTuple, NeverIndexedHeaderTuple

CLOSING_SECONDS = 1
EYEBALLS_SECONDS = 0.25  # then the next address is tried beside the first, which may lead nowhere


class Unanswered(Exception):
    """A request got no answer, and may have arrived or not. Its cause, if any, is why the connection ended."""


@dataclass
class Exchange:
    """A request and what came back so far."""

    finished: "asyncio.Future[None]"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", 0))


async def connect(host: str, port: int, context: ssl.SSLContext) -> "Http2Connection":
    """A connection on which the server has said its first word.

    Before that nobody knows whether it takes our certificate: TLS 1.3 lets a client talk before the server has looked.

    Raises:
        OSError: there is none to be had; ssl.SSLError is of this kind.
        Unanswered: it ended at once.
    """
    context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        Http2Connection, host, port, ssl=context, happy_eyeballs_delay=EYEBALLS_SECONDS
    )
    try:
        await connection.ready
    except BaseException:
        await connection.close()
        raise
    return connection


class Http2Connection(asyncio.Protocol):
    """One connection. When it ends, for whatever reason, all requests without an answer end with it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._transport: asyncio.Transport | None = None
        self._exchanges: dict[int, Exchange] = {}
        self._is_ending = False
        self._will_write = False
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._changed = asyncio.Event()
        self._lost = self._loop.create_future()
        self._heard_at = self._loop.time()

    @property
    def is_open(self) -> bool:
        """Whether it takes another request."""
        return self._transport is not None and not self._is_ending

    async def post(self, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> Exchange:
        """Send a request and wait for the answer. Cancelling gives up this one alone, unless the line is dead.

        Raises:
            Unanswered: the request or the connection ended first.
        """
        while self.is_open and len(self._exchanges) >= self._h2.remote_settings.max_concurrent_streams:
            self._changed.clear()
            await self._changed.wait()
        began, (stream_id, exchange) = self._loop.time(), self._begin(path, headers, body)
        try:
            await exchange.finished
        except asyncio.CancelledError:
            self._give_up(stream_id, silent=self._heard_at < began)
            raise
        return exchange

    async def close(self) -> None:
        """End the connection, and wait until it has ended."""
        if self.is_open:
            self._h2.close_connection()
            self._write()
        self._end(None)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._lost), CLOSING_SECONDS)
        if self._transport is not None:
            self._transport.abort()
            await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            self._end(None)
            return
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(exc)
        self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            for event in self._h2.receive_data(data):
                self._heard(event)
        except ProtocolError as error:
            self._end(error)
        self._flush()
        self._changed.set()

    def _begin(self, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> tuple[int, Exchange]:
        if not self.is_open:
            raise Unanswered
        assert self._transport is not None  # noqa: S101
        host = self._transport.get_extra_info("ssl_object").server_hostname
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", host)]
        # A path is never seen again, and holds what should not stay in tables.
        sent = [HeaderTuple(*header) for header in (*pseudo, *headers, ("content-length", str(len(body))))]
        sent.insert(len(pseudo), NeverIndexedHeaderTuple(":path", path))
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, sent)
            self._h2.send_data(stream_id, body, end_stream=True)
        except ProtocolError as error:
            self._end(error)
            raise Unanswered from error
        self._exchanges[stream_id] = Exchange(self._loop.create_future())
        self._flush()
        return stream_id, self._exchanges[stream_id]

    def _give_up(self, stream_id: int, *, silent: bool) -> None:
        if silent:
            self._end(TimeoutError())
        elif self._exchanges.pop(stream_id, None) and self.is_open:
            with contextlib.suppress(ProtocolError):
                self._h2.reset_stream(stream_id)
            self._flush()
        self._changed.set()

    def _heard(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self._end(None)
        elif isinstance(event, RemoteSettingsChanged):
            if not self.ready.done():
                self.ready.set_result(None)
        elif isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if exchange := self._exchanges.get(event.stream_id):
                exchange.body.extend(event.data)
        elif isinstance(event, ResponseReceived):
            if exchange := self._exchanges.get(event.stream_id):
                exchange.headers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, StreamEnded | StreamReset):
            self._finish(event)

    def _finish(self, event: StreamEnded | StreamReset) -> None:
        exchange = self._exchanges.pop(event.stream_id, None)
        if exchange is None or exchange.finished.done():
            return
        if isinstance(event, StreamReset):
            exchange.finished.set_exception(Unanswered())
        else:
            exchange.finished.set_result(None)

    def _end(self, cause: BaseException | None) -> None:
        """Take no more requests, and let go of those without an answer."""
        self._is_ending = True
        for waited_for in (self.ready, *(exchange.finished for exchange in self._exchanges.values())):
            if not waited_for.done():
                unanswered = Unanswered()
                unanswered.__cause__ = cause
                waited_for.set_exception(unanswered)
        self._exchanges.clear()
        self._changed.set()
        if self._transport is not None and cause is None:
            self._transport.close()
        elif self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        """Write soon what is to be sent, together with what else is by then."""
        if not self._will_write:
            self._will_write = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._will_write = False
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
