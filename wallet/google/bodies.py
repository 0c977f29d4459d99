"""What Google is told: a class for each program, an object for each card."""

from typing import Any
from uuid import UUID

from babel.dates import format_date
from django.utils.translation import gettext, gettext_noop, override

from loyalty.models import Program
from wallet.content import LOCALES, Face, Look, State

STATES = {State.IN_USE: "ACTIVE", State.SUSPENDED: "INACTIVE", State.ENDED: "EXPIRED"}


def class_id(issuer_id: str, program_id: int) -> str:
    return f"{issuer_id}.program-{program_id}"


def object_id(issuer_id: str, uuid: UUID) -> str:
    return f"{issuer_id}.{uuid}"


def class_body(look: Look, *, class_id: str, logo_url: str, callback_url: str) -> dict[str, Any]:
    """What all cards of a program share. Without a `callback_url` Google tells nobody who keeps a pass.

    Lists are there even if they are empty: Google keeps what a patch leaves out.
    """
    body = {
        "id": class_id,
        "issuerName": look.organisation,
        "programName": look.card_name,
        "programLogo": {
            "sourceUri": {"uri": logo_url},
            "contentDescription": {"defaultValue": {"language": "en", "value": look.organisation}},
        },
        "hexBackgroundColor": look.background_colour,
        "reviewStatus": "UNDER_REVIEW",  # asked for at each change; Google approves at once
        "multipleDevicesAndHoldersAllowedStatus": "ONE_USER_ALL_DEVICES",
        "textModulesData": _texts_of_all(look),
        "linksModuleData": {"uris": _links(look)},
    }
    if callback_url:
        body["callbackOptions"] = {"url": callback_url}
    return body


def object_body(face: Face, *, object_id: str, class_id: str) -> dict[str, Any]:
    """What one card shows, in its customer's language. None clears what Google may still have from before."""
    with override(face.locale):
        return {
            "id": object_id,
            "classId": class_id,
            "state": STATES[face.state],
            "accountId": face.card_number,
            "accountName": face.first_name or None,
            "barcode": _barcode(face),
            "loyaltyPoints": _points(face) if face.look.shows_points else None,
            "secondaryLoyaltyPoints": _stamps(face) if face.look.shows_stamps else None,
            "textModulesData": _texts_of_one(face),
        }


def _points(face: Face) -> dict[str, Any]:
    return {"label": gettext("Points"), "balance": {"int": face.points}}


def _stamps(face: Face) -> dict[str, Any]:
    return {"label": gettext("Stamps"), "balance": {"string": f"{face.stamps}/{face.look.stamps_target}"}}


def _barcode(face: Face) -> dict[str, str]:
    """Google shows one code. A card without a token has its number, whatever the program prefers."""
    if face.look.barcode is Program.Barcode.QR and face.qr_token:
        return {"type": "QR_CODE", "value": face.qr_token, "alternateText": face.card_number}
    return {"type": "CODE_128", "value": face.card_number, "alternateText": face.card_number}


def _texts_of_one(face: Face) -> list[dict[str, Any]]:
    if face.use_by is None:
        return []
    day = format_date(face.use_by, "long", locale=face.locale)
    return [{"id": "use_by", "header": gettext("Use your points by"), "body": day}]


def _texts_of_all(look: Look) -> list[dict[str, Any]]:
    texts = []
    if look.shows_stamps and look.stamps_reward:
        texts.append({"id": "reward", **_localized("header", gettext_noop("Your reward")), "body": look.stamps_reward})
    if look.terms_text:
        texts.append({"id": "terms", **_localized("header", gettext_noop("Terms")), "body": look.terms_text})
    return texts


def _links(look: Look) -> list[dict[str, Any]]:
    links = [
        ("terms", look.terms_url, gettext_noop("Terms")),
        ("privacy", look.privacy_url, gettext_noop("Privacy")),
        ("support", look.support_email and f"mailto:{look.support_email}", gettext_noop("Help")),
    ]
    return [{"id": name, "uri": uri, **_localized("description", title)} for name, uri, title in links if uri]


def _localized(field: str, text: str) -> dict[str, Any]:
    """A text of ours for phones of every language: a class is shared by customers who speak several."""
    translated = {}
    for locale in LOCALES:
        with override(locale):
            translated[locale] = gettext(text)
    return {
        field: text,
        f"localized{field.capitalize()}": {
            "defaultValue": {"language": "en", "value": text},
            "translatedValues": [
                {"language": locale, "value": value} for locale, value in translated.items() if value != text
            ],
        },
    }
