"""Google's passes: known to Google once a customer opens a link, and kept true while the customer keeps them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from loyalty.models import Card
from wallet.content import content_hash
from wallet.errors import GoogleNotReachable
from wallet.google import bodies, callbacks
from wallet.google.accounts import ServiceAccount
from wallet.google.callbacks import Event
from wallet.google.client import GoogleWallet
from wallet.google.save_links import save_url
from wallet.models import CallbackNonce, Pass, Platform
from wallet.outcomes import DONE, Kind, Outcome
from wallet.services import breaking, claiming, opening
from wallet.services.claiming import LEASE, Taken
from wallet.services.google_teller import GoogleTeller, class_of
from wallet.services.issuing import issue, read_pass
from wallet.services.link_pace import LinkPace
from wallet.services.rendering import newest_face

log = structlog.get_logger()

ANSWER_SECONDS = 5  # a customer waits
A_MOMENT_SECONDS = 3
LATER_SECONDS = 60
NOT_TRIED = Outcome(Kind.TROUBLE, "not_tried")


def save_address(*, card: Card, at: datetime) -> str:
    """Where a customer saves the card's pass, signed now. Google knows the pass by then, as the card is now.

    Raises:
        GoogleNotReachable: Google cannot be told of the pass.
        WalletNotConfigured, SecretUnreadable: there is nothing to sign with.
    """
    wallet_pass = read_pass(issue(card=card, platform=Platform.GOOGLE, at=at).pk)
    account = opening.account(wallet_pass.issued_under)
    if _lags(wallet_pass):
        _bring_up_to_date(wallet_pass, account, at=at)
    if not settings.GOOGLE_CALLBACKS:
        Pass.objects.filter(pk=wallet_pass.pk, saved=False).update(saved=True)
    return save_url(
        base=settings.GOOGLE_SAVE_URL,
        account=account,
        origin=settings.PUBLIC_URL,
        object_id=wallet_pass.identifier,
        class_id=bodies.class_id(wallet_pass.issued_under, card.program_id),
        at=at,
    )


def hear(*, body: bytes, at: datetime) -> None:
    """Note what Google says: a customer keeps a pass, and wants it kept true, or no longer does. Each word counts once.

    Raises:
        CallbackRefused: it is not Google's word; nothing was looked at.
        KeysUnavailable: that cannot be found out now.
    """
    keys = callbacks.fetch_keys(settings.GOOGLE_KEYS_URL)
    callback = callbacks.verify(body, keys=keys, issuer_id=settings.GOOGLE_ISSUER_ID, at=at)
    is_kept = callback.event is Event.SAVE
    with transaction.atomic():
        _, is_new = CallbackNonce.objects.get_or_create(nonce=callback.nonce, defaults={"received_at": at})
        if not is_new:
            return
        about = Pass.objects.filter(platform=Platform.GOOGLE, identifier=callback.object_id)
        about.update(saved=is_kept)
    for pass_id, card_id in about.values_list("pk", "card_id"):
        log.info("wallet.pass_saved" if is_kept else "wallet.pass_removed", pass_id=pass_id, card_id=card_id)


def _lags(wallet_pass: Pass) -> bool:
    """Whether Google shows, or may show, another card than there is."""
    is_card_behind = wallet_pass.synced_version < wallet_pass.card.balance.version
    is_look_behind = wallet_pass.synced_look < wallet_pass.newest_look
    return is_card_behind or is_look_behind or not wallet_pass.content_hash


def _bring_up_to_date(wallet_pass: Pass, account: ServiceAccount, *, at: datetime) -> None:
    """Tell Google of the pass, unless a sync is doing that at this moment."""
    breaker = breaking.breaker_of(Platform.GOOGLE, wallet_pass.issued_under)
    if breaker.is_open:
        raise GoogleNotReachable("Google Wallet is not available.", retry_after_seconds=LATER_SECONDS)
    taken = _take(wallet_pass.pk, at=at)
    if taken is None:
        if wallet_pass.synced_at is None:
            raise GoogleNotReachable("The card is being prepared.", retry_after_seconds=A_MOMENT_SECONDS)
        return
    outcome = NOT_TRIED
    try:
        outcome = _told(taken, account)
    finally:
        if outcome.is_done:
            claiming.settle([taken], at=at)
        else:
            claiming.release(taken)
    if not outcome.is_done:
        log.error("wallet.link_failed", pass_id=wallet_pass.pk, card_id=wallet_pass.card_id, problem=outcome.code)
        wait = max(LATER_SECONDS, round(outcome.retry_after_seconds))
        raise GoogleNotReachable("Google Wallet does not answer.", retry_after_seconds=wait)


def _take(pass_id: int, *, at: datetime) -> Taken | None:
    """The pass in our hands, as a sync takes it, with what it is to show now. None: a sync has it."""
    lease = at + LEASE
    free = Pass.objects.filter(Q(lease_until=None) | Q(lease_until__lte=at), pk=pass_id)
    if not free.update(lease_until=lease):
        return None
    wallet_pass = read_pass(pass_id)
    face = newest_face(wallet_pass)
    shown = content_hash(GoogleTeller(wallet_pass.issued_under).tell(wallet_pass, face))
    return Taken(wallet_pass, face, wallet_pass.card.balance.version, wallet_pass.newest_look, shown, lease)


def _told(taken: Taken, account: ServiceAccount) -> Outcome:
    if taken.is_known:
        return DONE
    # Google may get what we never hear of: it counts as knowing the pass, but nothing of what it shows.
    held = Pass.objects.filter(pk=taken.wallet_pass.pk, lease_until=taken.lease)
    held.update(content_hash="", status=Pass.Status.ACTIVE)
    class_body = class_of(taken.wallet_pass.issued_under, taken.wallet_pass.card.program).body
    return async_to_sync(_put_object)(taken, account, class_body)


async def _put_object(taken: Taken, account: ServiceAccount, class_body: Mapping[str, Any]) -> Outcome:
    wallet_pass = taken.wallet_pass
    google = GoogleWallet(
        url=settings.GOOGLE_WALLET_URL,
        token_url=settings.GOOGLE_TOKEN_URL,
        account=account,
        pace=LinkPace(wallet_pass.issued_under),
        timeout_seconds=ANSWER_SECONDS,
    )
    body = GoogleTeller(wallet_pass.issued_under).tell(wallet_pass, taken.face)
    async with google:
        return await google.put_object(wallet_pass.identifier, body, class_body=class_body, notify=False)
