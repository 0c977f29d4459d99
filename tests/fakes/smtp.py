"""A real SMTP server on loopback that keeps what it accepts and misbehaves when told to.

    with FakeSmtp() as server:
        server.when("rcpt", "451 4.3.0 Try again later", to="anna@example.com", times=1)

Stages: `connect` (before the banner), `ehlo`, `auth`, `mail`, `rcpt`, `rset`, and `body` (after the whole message has
arrived). An answer is a reply line, HANG (nothing comes), or CUT (the connection closes). At `body` a message is kept
when the server hangs or cuts, as by a server that took it and could not say so.
"""

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from enum import Enum
from types import TracebackType
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's, a line for each command


class Fault(Enum):
    HANG = "hang"
    CUT = "cut"


HANG, CUT = Fault.HANG, Fault.CUT


@dataclass(frozen=True)
class Received:
    sender: str
    recipient: str
    content: bytes

    @property
    def mail(self) -> EmailMessage:
        return message_from_bytes(self.content, _class=EmailMessage, policy=policy.default)


@dataclass
class Rule:
    stage: str
    answer: str | Fault
    to: str | None
    times: int | None
    after: int

    def applies(self, stage: str, recipient: str | None) -> bool:
        """Whether to answer this, counting what it was asked."""
        if stage != self.stage or self.to not in (None, recipient) or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        return True


class FakeSmtp:
    """The server. It keeps its port when it is closed and opened again."""

    def __init__(self, *, port: int = 0, reply_delay: float = 0, tls: ssl.SSLContext | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = port
        self.reply_delay = reply_delay  # seconds before each reply
        self.tls = tls
        self.received: list[Received] = []
        self.connections = 0
        self.rules: list[Rule] = []
        self._sessions: set[_Session] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-smtp", daemon=True)

    def __enter__(self) -> "FakeSmtp":
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

    @property
    def recipients(self) -> list[str]:
        """Who got mail, in the order of arrival."""
        return [received.recipient for received in self.received]

    def when(
        self, stage: str, answer: str | Fault, *, to: str | None = None, times: int | None = None, after: int = 0
    ) -> None:
        """Give this answer at this stage: to all or to one recipient, always or so many times, after so many passed."""
        self.rules.append(Rule(stage, answer, to, times, after))

    def behave(self) -> None:
        self.rules.clear()

    def open(self) -> None:
        """Listen."""
        self._run(self._open())

    def close(self) -> None:
        """Refuse connections from now on, and drop those there are."""
        self._run(self._close())

    def answer_to(self, stage: str, recipient: str | None = None) -> str | Fault | None:
        for rule in self.rules:
            if rule.applies(stage, recipient):
                return rule.answer
        return None

    def _run(self, work: Awaitable[None]) -> None:
        async def finish() -> None:
            await work

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result(10)

    async def _open(self) -> None:
        self._listener = await self._loop.create_server(
            lambda: _Session(self), self.host, self.port, reuse_address=True, family=socket.AF_INET
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        sessions = list(self._sessions)
        for session in sessions:
            session.drop()
        await asyncio.gather(*(session.work() for session in sessions), return_exceptions=True)


class _Session(SMTP):
    """One connection."""

    def __init__(self, server: FakeSmtp) -> None:
        self.server = server
        super().__init__(
            _Handler(server),
            hostname="mail.test",
            loop=server._loop,
            tls_context=server.tls,
            auth_require_tls=False,
            authenticator=self._authenticate_user,
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self not in self.server._sessions:  # STARTTLS comes here a second time
            self.server._sessions.add(self)
            self.server.connections += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.server._sessions.discard(self)
        super().connection_lost(error)

    def work(self) -> "asyncio.Task[None]":
        assert self._handler_coroutine is not None
        return self._handler_coroutine

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.close()

    async def _handle_client(self) -> None:
        answer = self.server.answer_to("connect")
        if isinstance(answer, Fault):
            await self.misbehave(answer)
        elif answer is not None:
            await self.push(answer)
            self.drop()
        else:
            await super()._handle_client()

    async def push(self, status: Any) -> None:
        line = status.decode() if isinstance(status, bytes) else str(status)
        if line[3:4] != "-":  # a reply of many lines is one reply
            await asyncio.sleep(self.server.reply_delay)
        await super().push(status)
        if line.startswith("421"):
            self.drop()

    async def misbehave(self, fault: Fault) -> None:
        """Never return: the loss of the connection cancels the session."""
        if fault is CUT:
            self.drop()
        await asyncio.Event().wait()

    def _authenticate_user(self, *_: Any) -> AuthResult:
        answer = self.server.answer_to("auth")
        return AuthResult(success=answer is None, handled=False, message=answer if isinstance(answer, str) else None)


class _Handler:
    """aiosmtpd's hooks, answering by the server's rules."""

    def __init__(self, server: FakeSmtp) -> None:
        self.server = server

    async def _answer(self, smtp: _Session, stage: str, recipient: str | None = None) -> str | None:
        answer = self.server.answer_to(stage, recipient)
        if isinstance(answer, Fault):
            await smtp.misbehave(answer)
        return answer if isinstance(answer, str) else None

    async def handle_EHLO(
        self, smtp: _Session, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        answer = await self._answer(smtp, "ehlo")
        if answer is not None:
            return [answer]
        session.host_name = hostname
        return responses

    async def handle_MAIL(
        self, smtp: _Session, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._answer(smtp, "mail")
        if answer is not None:
            return answer
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, smtp: _Session, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._answer(smtp, "rcpt", address)
        if answer is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_RSET(self, smtp: _Session, session: Session, envelope: Envelope) -> str:
        return await self._answer(smtp, "rset") or "250 OK"

    async def handle_DATA(self, smtp: _Session, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        received = [Received(str(envelope.mail_from), to, content) for to in envelope.rcpt_tos]
        answer = self.server.answer_to("body", received[0].recipient)
        if isinstance(answer, str):
            return answer
        self.server.received.extend(received)
        if answer is not None:
            await smtp.misbehave(answer)
        return "250 OK"


@pytest.fixture
def smtp_server() -> Iterator[FakeSmtp]:
    with FakeSmtp() as server:
        yield server


@pytest.fixture
def mail_to_smtp_server(smtp_server: FakeSmtp, settings: Any) -> FakeSmtp:
    """Mail leaves by real SMTP, to the fake server."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = smtp_server.host, smtp_server.port
    settings.EMAIL_TIMEOUT = 1
    return smtp_server
