"""The verbs of the outbox: queue a message, take it back, send what is due, throw away what was sent long ago."""

from notifications.services.connecting import ServerUnavailable, try_server
from notifications.services.purging import purge_sent
from notifications.services.queueing import NewMessage, cancel, queue, queue_many, scrub, send_again
from notifications.services.rendering import RenderedMessage, preview
from notifications.services.sending import SendReport, send_messages

__all__ = [
    "NewMessage",
    "RenderedMessage",
    "SendReport",
    "ServerUnavailable",
    "cancel",
    "preview",
    "purge_sent",
    "queue",
    "queue_many",
    "scrub",
    "send_again",
    "send_messages",
    "try_server",
]
