"""Passes are made when somebody wants one, and phones get Apple's as their cards are at that moment."""

import uuid
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db.models import F, Value
from django.db.models.functions import Greatest

from loyalty.models import Card
from wallet.apple.signing import Signer
from wallet.content import Face, content_hash
from wallet.errors import CredentialNotUsable, WalletNotConfigured
from wallet.google import bodies
from wallet.models import Pass, Platform
from wallet.sealing import newest_token_key
from wallet.services import opening
from wallet.services.rendering import apple_package, newest_face, told_to_apple

log = structlog.get_logger()

READ_AGAIN = 3


@dataclass(frozen=True)
class ApplePackage:
    """A signed pass. Who has it asks for what changed after `modified_at`."""

    content: bytes
    modified_at: datetime


def issue(*, card: Card, platform: Platform, at: datetime) -> Pass:
    """The card's pass for this platform; it is made when it is asked for first, and then is the same for life.

    Raises:
        WalletNotConfigured: the platform is switched off.
        SecretUnreadable: there is no key from which phones could get their tokens.
    """
    if found := Pass.objects.filter(card=card, platform=platform).first():
        return found
    issued_under = opening.issued_under(platform)
    if not opening.is_on(platform):
        raise WalletNotConfigured(f"No credential for {platform.label} is active, so there are no passes for it.")
    made = {
        "issued_under": issued_under,
        "token_key_version": newest_token_key() if platform == Platform.APPLE else 0,
        "modified_at": at.replace(microsecond=0),
        "created_at": at,
    }
    name = uuid.uuid4()
    made["identifier"] = str(name) if platform == Platform.APPLE else bodies.object_id(issued_under, name)
    wallet_pass, is_new = Pass.objects.get_or_create(card=card, platform=platform, defaults=made)
    if is_new:
        log.info("wallet.pass_issued", pass_id=wallet_pass.pk, card_id=card.pk, platform=platform)
    return wallet_pass


def read_pass(pass_id: int) -> Pass:
    """The pass with all that it shows, as of one moment."""
    return Pass.objects.with_card().get(pk=pass_id)


def hand_out(*, card: Card, at: datetime) -> ApplePackage:
    """The card's Apple pass, for a phone that may not have it yet.

    Raises:
        WalletNotConfigured, CredentialNotUsable, SecretUnreadable: nothing can be signed.
    """
    return fetch(wallet_pass=read_pass(issue(card=card, platform=Platform.APPLE, at=at).pk), at=at)


def fetch(*, wallet_pass: Pass, at: datetime) -> ApplePackage:
    """An Apple pass of the newest state of its card.

    The pass comes with its card and look, all as of one moment. What it shows may be newer than what phones were told
    about; that is noted first, so that they hear of every way on from there.

    Raises:
        WalletNotConfigured, CredentialNotUsable, SecretUnreadable: nothing can be signed.
    """
    signer = _valid_signer(wallet_pass, at=at)
    for _ in range(READ_AGAIN):
        face = newest_face(wallet_pass)
        if _note_fetched(wallet_pass, face, at=at):
            break
        wallet_pass = read_pass(wallet_pass.pk)
    else:
        _tell_again(wallet_pass)
    return ApplePackage(apple_package(wallet_pass, face, signer), wallet_pass.modified_at)


def _valid_signer(wallet_pass: Pass, *, at: datetime) -> Signer:
    signer = opening.signer(wallet_pass.issued_under)
    if not signer.is_valid(at):
        # It would sign all the same, and phones would throw the pass away.
        raise CredentialNotUsable(
            f"The certificate of {wallet_pass.issued_under} is valid from {signer.valid_from:%Y-%m-%d} "
            f"to {signer.expires_at:%Y-%m-%d}. Import and activate its successor."
        )
    return signer


def _note_fetched(wallet_pass: Pass, face: Face, *, at: datetime) -> bool:
    """Note what a phone is about to show. False: a sync has gone on meanwhile, so what was read may be untrue."""
    version, look = wallet_pass.card.balance.version, wallet_pass.newest_look
    as_read = Pass.objects.filter(
        pk=wallet_pass.pk, synced_version=wallet_pass.synced_version, synced_look=wallet_pass.synced_look
    )
    if wallet_pass.status == Pass.Status.PENDING and wallet_pass.lease_until is None:
        return bool(
            as_read.filter(status=Pass.Status.PENDING, lease_until=None).update(
                status=Pass.Status.ACTIVE,
                synced_version=version,
                synced_look=look,
                content_hash=content_hash(told_to_apple(wallet_pass, face)),
                modified_at=Greatest(F("modified_at"), Value(at.replace(microsecond=0))),
                synced_at=at,
            )
        )
    if version <= wallet_pass.synced_version and look <= wallet_pass.synced_look:
        return True
    fetched = {
        "fetched_version": Greatest(F("fetched_version"), Value(version)),
        "fetched_look": Greatest(F("fetched_look"), Value(look)),
    }
    return bool(as_read.update(**fetched))


def _tell_again(wallet_pass: Pass) -> None:
    Pass.objects.filter(pk=wallet_pass.pk).update(synced_version=0, content_hash="", lease_until=None)
