"""Cards in phones, and the run that tells phones about them."""

import secrets
from datetime import datetime
from typing import Any

from loyalty.models import Card, CardBalance, Merchant
from loyalty.services import adjustments
from tests.factories import NOON, make_cards
from tests.wallet.rows import make_pass
from wallet.content import content_hash
from wallet.models import Pass, Platform, Registration, SyncRun
from wallet.services import syncing
from wallet.services.apple_teller import AppleTeller
from wallet.services.google_teller import GoogleTeller
from wallet.services.rendering import newest_face
from wallet.services.syncing import SyncReport


def sync(*, at: datetime = NOON, **options: Any) -> SyncReport:
    return syncing.sync_passes(at=at, trigger=SyncRun.Trigger.SCHEDULE, **options)


def cards_in_phones(
    merchant: Merchant, count: int, *, platform: Platform = Platform.APPLE, points: int = 100
) -> list[Pass]:
    """Passes that show their cards, each in a phone of its own."""
    passes = []
    for card in make_cards(merchant, count, points=points):
        card.balance = CardBalance.objects.get(card=card)
        passes.append(make_pass(card, platform=platform))
    if platform == Platform.APPLE:
        Registration.objects.bulk_create(in_phone(wallet_pass) for wallet_pass in passes)
    return passes


def in_phone(wallet_pass: Pass, *, push_token: str = "", at: datetime = NOON) -> Registration:
    token = push_token or secrets.token_hex(32)
    return Registration(wallet_pass=wallet_pass, device=f"phone-{token[:20]}", push_token=token, registered_at=at)


def told_as_it_is(*passes: Pass) -> None:
    """Let the next run find nothing to tell about these passes: it has told, and the card has not changed since."""
    for wallet_pass in passes:
        Pass.objects.filter(pk=wallet_pass.pk).update(content_hash=hash_of(wallet_pass))


def hash_of(wallet_pass: Pass) -> str:
    loaded = Pass.objects.with_card().get(pk=wallet_pass.pk)
    teller = AppleTeller if loaded.platform == Platform.APPLE else GoogleTeller
    return content_hash(teller(loaded.issued_under).tell(loaded, newest_face(loaded)))


def change(wallet_pass: Pass, points: int = 10) -> None:
    card = wallet_pass.card
    adjustments.adjust(
        merchant=card.program.merchant, card_id=card.pk, points=points, reason="a test", actor="ana", at=NOON
    )


def card_ids(passes: list[Pass]) -> list[int]:
    return sorted(wallet_pass.card_id for wallet_pass in passes)


def points_at_google(google: Any, card: Card) -> int:
    wallet_pass = Pass.objects.get(card=card, platform=Platform.GOOGLE)
    return int(google.objects[wallet_pass.identifier]["loyaltyPoints"]["balance"]["int"])


def tokens_of(wallet_pass: Pass) -> list[str]:
    return list(wallet_pass.registrations.values_list("push_token", flat=True))
