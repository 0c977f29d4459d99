"""Rows of the wallet as a test wants them to stand; nobody was called to make them."""

import itertools
import uuid
from io import BytesIO
from typing import Any

from PIL import Image

from loyalty.models import Card, Program
from tests.factories import NOON, make_card, make_merchant
from tests.fakes.pki import ISSUER_ID, PASS_TYPE
from wallet.models import Artwork, Breaker, Credential, DeviceLog, Pass, Platform, SyncFailure, SyncRun
from wallet.services.artwork import replace_logo

_numbers = itertools.count(1)


def make_pass(card: Card | None = None, *, platform: str = Platform.APPLE, **fields: Any) -> Pass:
    """A pass that shows its card as it is."""
    card = card or make_card()
    identifier = str(uuid.uuid4())
    is_google = platform == Platform.GOOGLE
    shown = {
        "identifier": f"{ISSUER_ID}.{identifier}" if is_google else identifier,
        "issued_under": ISSUER_ID if is_google else PASS_TYPE,
        "status": Pass.Status.ACTIVE,
        "saved": is_google,
        "synced_version": card.balance.version,
        "synced_look": card.program.version,
        "content_hash": f"{next(_numbers):064}",
        "modified_at": NOON,
        "created_at": NOON,
        "synced_at": NOON,
    }
    return Pass.objects.create(card=card, platform=platform, **{**shown, **fields})


def make_failing_pass(card: Card | None = None, *, platform: str = Platform.APPLE, **fields: Any) -> Pass:
    """A pass that could not be told once."""
    failure = {
        "synced_version": 0,
        "attempts": 1,
        "last_error_code": "http_503",
        "last_error": "Apple is busy.",
        "last_error_at": NOON,
        "next_attempt_at": NOON,
    }
    return make_pass(card, platform=platform, **{**failure, **fields})


def make_sync_run(**fields: Any) -> SyncRun:
    done = {"trigger": "schedule", "status": "succeeded", "started_at": NOON, "finished_at": NOON}
    return SyncRun.objects.create(**{**done, **fields})


def make_failure(run: SyncRun | None = None, card: Card | None = None, **fields: Any) -> SyncFailure:
    why = {"platform": Platform.APPLE, "code": "http_503", "reason": "Apple is busy.", "terminal": False}
    return SyncFailure.objects.create(run=run or make_sync_run(), card=card or make_card(), **{**why, **fields})


def make_breaker(*, platform: str = Platform.GOOGLE, identifier: str = ISSUER_ID, **fields: Any) -> Breaker:
    """An open one."""
    why = {"opened_at": NOON, "code": "permission_denied", "reason": "The account is no user of the issuer."}
    return Breaker.objects.create(platform=platform, identifier=identifier, **{**why, **fields})


def make_credential(**fields: Any) -> Credential:
    """One that opens nothing."""
    number = next(_numbers)
    known = {
        "kind": Credential.Kind.GOOGLE,
        "identifier": f"issuer-{number}",
        "version": 1,
        "status": Credential.Status.ACTIVE,
        "subject": "loyalty@example.com",
        "serial": f"key-{number}",
        "fingerprint": f"{number:064}",
        "valid_from": NOON,
        "sealed_secret": "" if fields.get("kind") == Credential.Kind.WWDR else "sealed",
        "imported_at": NOON,
        "imported_by": "ana",
    }
    return Credential.objects.create(**{**known, **fields})


def make_artwork(program: Program | None = None) -> Artwork:
    """A red logo."""
    picture = BytesIO()
    Image.new("RGB", (96, 48), (200, 16, 46)).save(picture, "PNG")
    program = program or make_merchant().program
    return replace_logo(program=program, upload=picture.getvalue(), actor="ana", at=NOON)


def make_device_log(text: str = "Get pass task failed") -> DeviceLog:
    return DeviceLog.objects.create(text=text, received_at=NOON)
