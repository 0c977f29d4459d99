"""Making a mail of a message: the templates of its kind, in its language, with its figures."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from email.utils import formataddr, parseaddr
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.template import Context, Engine
from django.utils import translation
from django.utils.encoding import punycode
from django.utils.formats import number_format

from notifications.errors import MessageNotRendered
from notifications.models import Message

FOR_ALL_KINDS = frozenset({"merchant_name", "card_name", "card_number"})
NEEDED: dict[str, frozenset[str]] = {
    Message.Kind.ENROLLMENT: FOR_ALL_KINDS | {"points_balance", "welcome_bonus_points"},
    Message.Kind.POINTS_EXPIRING: FOR_ALL_KINDS | {"points", "expires_on", "last_activity_on", "expires_after_days"},
    Message.Kind.POINTS_EXPIRED: FOR_ALL_KINDS
    | {"points", "expires_on", "expired_on", "last_activity_on", "expires_after_days"},
    Message.Kind.POINTS_RESTORED: FOR_ALL_KINDS | {"points", "points_balance", "keeps_until_on"},
}
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
BLANK_LINES = re.compile(r"\n{3,}")
ZERO_WIDTH_JOINER = "\u200d"  # invisible, but it holds an emoji together


@dataclass(frozen=True)
class RenderedMessage:
    subject: str
    text: str
    html: str


def preview(message: Message) -> RenderedMessage:
    """What the message says, as it would be sent now.

    Raises:
        MessageNotRendered: a figure is missing or malformed, or the kind has no templates.
    """
    with translation.override(_supported(message.locale)):
        try:
            values = _values(message.kind, message.context)
            subject = one_line(_render(message.kind, "subject.txt", values))
            values["subject"] = subject
            text = _render(message.kind, "body.txt", values)
            html = _render(message.kind, "body.html", values)
        except MessageNotRendered:
            raise
        except Exception as error:  # whatever a template does wrong, the other messages go on
            raise MessageNotRendered(f"It cannot be written: {type(error).__name__}: {error}") from error
    return RenderedMessage(subject=subject, text=BLANK_LINES.sub("\n\n", text).strip() + "\n", html=html.strip() + "\n")


def compose(message: Message) -> EmailMultiAlternatives:
    """The mail itself: the merchant's name on the installation's address, replies to the merchant.

    Its Message-ID is the same at every attempt, so that a receiver can tell a duplicate.

    Raises:
        MessageNotRendered: see `preview`.
    """
    rendered = preview(message)
    address = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    email = EmailMultiAlternatives(
        subject=rendered.subject,
        body=rendered.text,
        from_email=formataddr((one_line(str(message.context["merchant_name"])), address)),
        to=[message.recipient],
        reply_to=list(filter(None, [_usable_address(message.context)])),
        headers={
            "Message-ID": _message_id(message, domain=punycode(address.rpartition("@")[2])),
            "Auto-Submitted": "auto-generated",
            # Keeps mail programs from folding two notices into one conversation.
            "X-Entity-Ref-ID": f"message-{message.pk}-{message.resends}",
        },
    )
    email.attach_alternative(rendered.html, "text/html")
    return email


def one_line(text: str) -> str:
    """Text that can stand in a header: no line breaks, no characters that only steer the display."""
    visible = (" " if unicodedata.category(c) in INVISIBLE and c != ZERO_WIDTH_JOINER else c for c in text)
    return " ".join("".join(visible).split())


def _render(kind: str, part: str, values: dict[str, Any]) -> str:
    template = Engine.get_default().get_template(f"notifications/{kind}/{part}")
    return template.render(Context(values, autoescape=part.endswith(".html")))


def _values(kind: str, context: dict[str, Any]) -> dict[str, Any]:
    """The context as templates want it: dates as dates, and each integer also as `figures.<key>`, with separators."""
    # Templates write nothing for a missing name, and "You have  points" must not go out.
    if missing := sorted(NEEDED.get(kind, FOR_ALL_KINDS) - context.keys()):
        raise MessageNotRendered(f"Its context lacks {', '.join(missing)}.")
    values = {
        key: date.fromisoformat(value) if key.endswith("_on") and value is not None else value
        for key, value in context.items()
    }
    values["figures"] = {
        key: number_format(value, force_grouping=True) for key, value in context.items() if isinstance(value, int)
    }
    values["support_email"] = _usable_address(context)
    values["language"] = translation.get_language()
    return values


def _supported(locale: str) -> str:
    try:
        return translation.get_supported_language_variant(locale)
    except LookupError:
        return settings.LANGUAGE_CODE


def _usable_address(context: dict[str, Any]) -> str:
    """The merchant's address for questions, or nothing rather than one that no answer would reach."""
    support_email = str(context.get("support_email", ""))
    try:
        validate_email(support_email)
    except ValidationError:
        return ""
    return support_email


def _message_id(message: Message, *, domain: str) -> str:
    key = hashlib.sha256(f"{message.dedupe_key} {message.resends}".encode()).hexdigest()[:16]
    return f"<message-{message.pk}-{key}@{domain}>"
