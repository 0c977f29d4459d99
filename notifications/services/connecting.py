"""One kept connection to the mail server, and what its refusals mean."""

import smtplib
from contextlib import suppress
from typing import Any

from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends import smtp

# Replies about us or about the server, whatever message they are given to.
CLOSING_CHANNEL = 421
AUTHENTICATION_REQUIRED = 530
MESSAGE_TOO_LARGE = 552


class DeliveryFailed(Exception):
    """A mail was not delivered. `reason` is for the message's row, `label` names no person and is for the log."""

    def __init__(self, reason: str, *, label: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.label = label


class ServerUnavailable(DeliveryFailed):
    """There is no connection to be had."""


class TurnedAway(DeliveryFailed):
    """The server will not serve us now, or not this sender: hardly the message's fault."""


class ConnectionCut(DeliveryFailed):
    """The connection ended while a message was on its way: whether it was accepted is unknown."""


class RefusedForNow(DeliveryFailed):
    """The server asks to try this message later."""


class RefusedForGood(DeliveryFailed):
    """The server will never take this message."""


class MailConnection:
    """A connection that opens with the first mail, stays open, and opens again after it was lost."""

    def __init__(self, **options: Any) -> None:
        self._backend = get_connection(**options)
        self._has_served = False

    def send(self, email: EmailMultiAlternatives) -> None:
        """Hand one mail over.

        Raises:
            ServerUnavailable, TurnedAway, ConnectionCut, RefusedForNow, RefusedForGood
        """
        was_serving = self._has_served
        try:
            self._deliver(email)
        except (TurnedAway, ServerUnavailable):
            if not was_serving:
                raise
            # Many servers close a connection after so many mails; a new one will do.
            self.close()
            self._deliver(email)

    def close(self) -> None:
        self._has_served = False
        with suppress(OSError):
            self._backend.close()

    def _deliver(self, email: EmailMultiAlternatives) -> None:
        self.open()
        try:
            accepted = self._backend.send_messages([email])
        except Exception as error:  # a backend may raise what it likes about one mail
            # Only after a refused recipient is it certain that the connection can take the next mail.
            self._has_served = isinstance(error, smtplib.SMTPRecipientsRefused) and self._is_connected()
            if not self._has_served:
                self.close()
            raise _failure(error) from error
        self._has_served = True
        if accepted == 0:
            raise RefusedForNow("The mail backend did not send it.", label="not_sent")

    def open(self) -> None:
        """Connect and sign in, unless that has happened.

        Raises:
            ServerUnavailable
        """
        try:
            self._backend.open()
            if connection := self._smtp():
                # Otherwise smtplib greets with the first mail, and a server that hangs there would cost it an attempt.
                connection.ehlo_or_helo_if_needed()
        except OSError as error:
            raise ServerUnavailable(_told(error), label=type(error).__name__) from error

    def _smtp(self) -> smtplib.SMTP | None:
        return self._backend.connection if isinstance(self._backend, smtp.EmailBackend) else None

    def _is_connected(self) -> bool:
        connection = self._smtp()
        return connection is not None and connection.sock is not None


def try_server(*, timeout_seconds: int) -> None:
    """Connect to the mail server and sign in, as before the first mail of a batch, and send nothing.

    Raises:
        ServerUnavailable: with the reason, which may repeat what the server was told.
    """
    connection = MailConnection(timeout=timeout_seconds)
    try:
        connection.open()
    except UnicodeError as error:
        label = type(error).__name__
        raise ServerUnavailable("User and password may have plain letters and digits only.", label=label) from None
    finally:
        connection.close()


def _failure(error: Exception) -> DeliveryFailed:
    reply = _reply(error)
    if reply is not None:
        meaning = _meaning(reply[0], about_sender=isinstance(error, smtplib.SMTPSenderRefused))
        return meaning(_told(error), label=f"smtp_{reply[0]}")
    if isinstance(error, OSError):
        return ConnectionCut(_told(error), label=type(error).__name__)
    if isinstance(error, ValueError):
        return RefusedForGood(_told(error), label=type(error).__name__)
    return RefusedForNow(_told(error), label=type(error).__name__)


def _meaning(code: int, *, about_sender: bool) -> type[DeliveryFailed]:
    if code in (CLOSING_CHANNEL, AUTHENTICATION_REQUIRED):
        return TurnedAway
    if about_sender and code != MESSAGE_TOO_LARGE:
        # All mail has the same sender: one refusal of it must not make dead letters of the whole outbox.
        return TurnedAway
    return RefusedForGood if code >= 500 else RefusedForNow


def _reply(error: Exception) -> tuple[int, bytes | str] | None:
    """What the mail server answered, if it answered."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return next(iter(error.recipients.values()))
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code, error.smtp_error
    return None


def _told(error: Exception) -> str:
    reply = _reply(error)
    if reply is None:
        return f"{type(error).__name__}: {error}"
    code, text = reply
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
