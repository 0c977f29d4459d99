"""Faces to show, without a database. Each takes only what a test is about."""

from dataclasses import replace
from typing import Any

from loyalty.models import Program
from tests.fakes.pki import ISSUER_ID
from wallet.content import Face, Look, State
from wallet.google import bodies

CLASS_ID = bodies.class_id(ISSUER_ID, 7)
LOGO_URL = "https://loyalty.example/wallet/logo.png"
CALLBACK_URL = "https://loyalty.example/wallet/google/callback"
LOOK = Look(
    organisation="Café Amélie",
    card_name="Bean card",
    shows_points=True,
    shows_stamps=False,
    stamps_target=10,
    stamps_reward="A coffee",
    background_colour="#1d3557",
    text_colour="#ffffff",
    barcode=Program.Barcode.QR,
    terms_text="One card each.",
    terms_url="https://cafe.example/terms",
    privacy_url="https://cafe.example/privacy",
    support_email="help@cafe.example",
    logo="",
)
FACE = Face(
    look=LOOK,
    card_number="123456789015",
    qr_token="q1w2e3r4t5z6u7i8o9p0aa",
    first_name="Ana",
    locale="en",
    points=120,
    stamps=3,
    use_by=None,
    state=State.IN_USE,
    ended_at=None,
)


def look(**changes: Any) -> Look:
    return replace(LOOK, **changes)


def face(**changes: Any) -> Face:
    return replace(FACE, **changes)


def class_body(**changes: Any) -> dict[str, Any]:
    return bodies.class_body(look(**changes), class_id=CLASS_ID, logo_url=LOGO_URL, callback_url=CALLBACK_URL)


def object_body(object_id: str, **changes: Any) -> dict[str, Any]:
    return bodies.object_body(face(**changes), object_id=object_id, class_id=CLASS_ID)
