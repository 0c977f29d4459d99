"""What a pass shows, whichever phone it is in. Reads a card, and asks nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from loyalty.models import Card, Program

LOCALES = ("en", "fr", "de", "lb")


class State(StrEnum):
    """What a card is good for."""

    IN_USE = "in_use"
    SUSPENDED = "suspended"
    ENDED = "ended"


STATES = {
    Card.Status.ACTIVE: State.IN_USE,
    Card.Status.SUSPENDED: State.SUSPENDED,
    Card.Status.CLOSED: State.ENDED,
    Card.Status.MERGED: State.ENDED,
    Card.Status.ERASED: State.ENDED,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What all cards of a program show. `logo` is the digest of the merchant's own logo; empty: ours."""

    organisation: str
    card_name: str
    shows_points: bool
    shows_stamps: bool
    stamps_target: int
    stamps_reward: str
    background_colour: str
    text_colour: str
    barcode: Program.Barcode
    terms_text: str
    terms_url: str
    privacy_url: str
    support_email: str
    logo: str


@dataclass(frozen=True, kw_only=True)
class Face:
    """What one card shows. `use_by` is the day promised in a warning, while one stands.

    The first name and figures are all that it tells of a person.
    """

    look: Look
    card_number: str
    qr_token: str
    first_name: str
    locale: str
    points: int
    stamps: int
    use_by: date | None
    state: State
    ended_at: datetime | None


def look_of(program: Program, *, logo: str = "") -> Look:
    """The look of a program, whose merchant is at hand."""
    merchant = program.merchant
    return Look(
        organisation=merchant.name,
        card_name=program.name,
        shows_points=program.kind != Program.Kind.STAMPS,
        shows_stamps=program.kind != Program.Kind.POINTS,
        stamps_target=program.stamps_target,
        stamps_reward=program.stamps_reward,
        background_colour=program.background_colour,
        text_colour=program.text_colour,
        barcode=Program.Barcode(program.barcode),
        terms_text=program.terms_text,
        terms_url=program.terms_url,
        privacy_url=program.privacy_url,
        support_email=merchant.support_email,
        logo=logo,
    )


def face_of(card: Card, *, logo: str = "") -> Face:
    """The face of a card, whose balance, customer, program and merchant are at hand."""
    balance, customer = card.balance, card.customer
    state = STATES[Card.Status(card.status)]
    warned = balance.last_expiration_warning_at is not None and balance.points_balance > 0
    return Face(
        look=look_of(card.program, logo=logo),
        card_number=card.card_number,
        qr_token=card.qr_token,
        first_name=customer.first_name,
        locale=language_of(customer.locale or card.program.merchant.locale),
        points=balance.points_balance,
        stamps=balance.stamp_count,
        use_by=balance.expiration_warned_for if warned and state is State.IN_USE else None,
        state=state,
        ended_at=balance.changed_at.replace(microsecond=0) if state is State.ENDED else None,
    )


def language_of(locale: str) -> str:
    """The language that a pass speaks to somebody with this locale."""
    language = locale.replace("_", "-").partition("-")[0].lower()
    return language if language in LOCALES else "en"


def content_hash(told: Mapping[str, Any]) -> str:
    """The same for the same content, whatever the order in which it was written down."""
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
