"""The files that a phone takes for a pass."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import override

from loyalty.models import Program
from wallet import drawing
from wallet.apple.archive import archive
from wallet.apple.signing import Signer
from wallet.content import Face, Look, State

SCALES = (1, 2, 3)
ICON_POINTS, EMBLEM_POINTS = 29, 50
LOGO_POINTS, STRIP_POINTS = (160, 50), (375, 144)
LOGOS_KEPT = 256
Field = dict[str, Any]


def pass_json(
    face: Face, *, identifier: str, pass_type: str, team: str, token: str, web_service_url: str
) -> dict[str, Any]:
    """What the pass says, in the customer's language, and where and how a phone asks for its next state."""
    look = face.look
    with override(face.locale):
        return {
            "formatVersion": 1,
            "passTypeIdentifier": pass_type,
            "teamIdentifier": team,
            "serialNumber": identifier,
            "authenticationToken": token,
            "webServiceURL": web_service_url,
            "organizationName": look.organisation,
            "description": _("%(card)s of %(shop)s") % {"card": look.card_name, "shop": look.organisation},
            "logoText": look.card_name,
            "foregroundColor": _rgb(look.text_colour),
            "labelColor": _rgb(look.text_colour),
            "backgroundColor": _rgb(look.background_colour),
            "barcodes": _barcodes(face),
            "storeCard": {
                "primaryFields": [_balance(face)],
                "secondaryFields": _details(face),
                "backFields": [*_about_card(face), *_about_program(look)],
            },
            **_validity(face),
        }


@lru_cache(maxsize=LOGOS_KEPT)
def pictures(logo_png: bytes | None) -> Mapping[str, bytes]:
    """The pass's pictures by file name, with the merchant's logo or, without one, ours."""
    found = {}
    for scale in SCALES:
        suffix = "" if scale == 1 else f"@{scale}x"
        room = LOGO_POINTS[0] * scale, LOGO_POINTS[1] * scale
        found[f"icon{suffix}.png"] = drawing.icon(ICON_POINTS * scale)
        found[f"logo{suffix}.png"] = (
            drawing.reduced(logo_png, to=room) if logo_png else drawing.emblem(EMBLEM_POINTS * scale)
        )
        found[f"strip{suffix}.png"] = drawing.strip(STRIP_POINTS[0] * scale, STRIP_POINTS[1] * scale)
    return MappingProxyType(dict(sorted(found.items())))


def told(pass_json: Mapping[str, Any], pictures: Mapping[str, bytes]) -> dict[str, Any]:
    """What a phone learns from the pass; the token, which is a secret and never changes, apart."""
    # The smaller pictures are made from the largest ones, by a library that may draw them otherwise one day.
    largest = {name: _digest(picture) for name, picture in pictures.items() if name.endswith(f"@{SCALES[-1]}x.png")}
    said = {name: value for name, value in pass_json.items() if name != "authenticationToken"}
    return {**said, "pictures": largest}


def build(pass_json: Mapping[str, Any], pictures: Mapping[str, bytes], signer: Signer) -> bytes:
    """The package: the pass, its pictures, a manifest of both, and a signature of the manifest."""
    said = json.dumps(pass_json, ensure_ascii=False, separators=(",", ":")).encode()
    digests = {name: _digest(picture) for name, picture in pictures.items()}
    manifest = json.dumps({"pass.json": _sha1(said), **digests}).encode()
    own = {"pass.json": said, "manifest.json": manifest, "signature": signer.sign(manifest)}
    return archive(own, shared=pictures)


@lru_cache(maxsize=LOGOS_KEPT * len(SCALES))
def _digest(picture: bytes) -> str:
    return _sha1(picture)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _rgb(colour: str) -> str:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"rgb({red},{green},{blue})"


def _barcodes(face: Face) -> list[dict[str, str]]:
    """The one that the merchant's tills read first; a phone shows the first it knows."""
    codes = [("PKBarcodeFormatQR", face.qr_token), ("PKBarcodeFormatCode128", face.card_number)]
    if face.look.barcode == Program.Barcode.CODE128:
        codes.reverse()
    return [
        {"format": kind, "message": message, "messageEncoding": "iso-8859-1", "altText": face.card_number}
        for kind, message in codes
    ]


def _validity(face: Face) -> dict[str, Any]:
    if face.state is State.IN_USE:
        return {}
    ended = {"expirationDate": _w3c(face.ended_at)} if face.ended_at else {}
    return {"voided": True, **ended}


def _balance(face: Face) -> Field:
    """What is collected; a phone tells of its changes."""
    if face.look.shows_points:
        return {
            "key": "balance",
            "label": _("Points"),
            "value": face.points,
            "numberStyle": "PKNumberStyleDecimal",
            "changeMessage": _("Your points: %@"),
        }
    return {**_stamps(face), "key": "balance", "changeMessage": _("Your stamps: %@")}


def _stamps(face: Face) -> Field:
    return {"key": "stamps", "label": _("Stamps"), "value": f"{face.stamps} / {face.look.stamps_target}"}


def _details(face: Face) -> list[Field]:
    fields = []
    if face.first_name:
        fields.append({"key": "name", "label": _("Name"), "value": face.first_name})
    if face.look.shows_points and face.look.shows_stamps:
        fields.append(_stamps(face))
    if face.use_by:
        fields.append({"key": "use_by", "label": _("Use by"), **_day(face.use_by)})
    return fields


def _about_card(face: Face) -> list[Field]:
    fields = [_notice(face), {"key": "card_number", "label": _("Card number"), "value": face.card_number}]
    if face.look.shows_stamps and face.look.stamps_reward:
        label = _("For %(count)s stamps") % {"count": face.look.stamps_target}
        fields.append({"key": "reward", "label": label, "value": face.look.stamps_reward})
    return fields


def _notice(face: Face) -> Field:
    """How the card stands. A phone tells of it only what is no good news."""
    field = {"key": "notice", "label": _("This card"), "value": _standing(face)}
    if face.state is State.IN_USE and not face.use_by:
        return field
    return {**field, "changeMessage": "%@"}


def _standing(face: Face) -> str:
    if face.state is State.SUSPENDED:
        return _("This card is suspended. Please ask in the shop.")
    if face.state is State.ENDED:
        return _("This card is no longer in use.")
    if face.use_by:
        day = date_format(face.use_by, "DATE_FORMAT")
        return _("Use this card by %(day)s to keep your points.") % {"day": day}
    return _("This card is in use.")


def _about_program(look: Look) -> list[Field]:
    texts = [
        ("terms", _("Terms"), look.terms_text),
        ("terms_url", _("Terms on the web"), look.terms_url),
        ("privacy_url", _("Privacy"), look.privacy_url),
        ("support", _("Questions"), look.support_email),
    ]
    return [{"key": key, "label": label, "value": value} for key, label, value in texts if value]


def _day(day: date) -> Field:
    """A day, which is the same day in whichever zone the phone is."""
    return {
        "value": f"{day.isoformat()}T00:00:00Z",
        "dateStyle": "PKDateStyleMedium",
        "timeStyle": "PKDateStyleNone",
        "ignoresTimeZone": True,
    }


def _w3c(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
