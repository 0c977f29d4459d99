"""Links by which a customer adds a card to a phone. They are ours, and outlive every key of Apple's and Google's."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.signing import BadSignature, Signer

from loyalty.errors import CardNotActive
from loyalty.models import Card
from wallet.errors import LinkNotValid
from wallet.models import Platform
from wallet.services import addresses, opening


@dataclass(frozen=True)
class WalletLinks:
    """Where a customer adds a card to a phone; None: that platform is switched off, or the card is out of use."""

    apple: str | None
    google: str | None


def wallet_links(*, card: Card, at: datetime) -> WalletLinks:
    """The links of a card, good for WALLET_LINK_DAYS days. They tell nothing of the customer.

    Whoever has one can add the card, so they belong where the card's QR code belongs.
    """
    if card.status not in Card.IN_USE:
        return WalletLinks(None, None)
    until = at + timedelta(days=settings.WALLET_LINK_DAYS)
    token = _signer().sign_object([card.pk, _digest(card), int(until.timestamp())])
    return WalletLinks(apple=_link(Platform.APPLE, token), google=_link(Platform.GOOGLE, token))


def card_of_link(*, token: str, at: datetime) -> Card:
    """The card that a link is about.

    Raises:
        LinkNotValid: we made no such link, its time is over, or the card was replaced since.
        CardNotActive: the card is out of use.
    """
    try:
        card_id, digest, until = _signer().unsign_object(token)
    except BadSignature:
        raise LinkNotValid("This link is not complete. Please open it as you got it.") from None
    if until <= at.timestamp():
        raise LinkNotValid("This link is too old. Please ask for a new one.")
    card = Card.objects.filter(pk=card_id).first()
    if card is None or (card.status in Card.IN_USE and _digest(card) != digest):
        raise LinkNotValid("This card was replaced. Please use the link of the new one.")
    if card.status not in Card.IN_USE:
        raise CardNotActive("This card is no longer in use.", status=card.status)
    return card


def _link(platform: Platform, token: str) -> str | None:
    return addresses.link(platform, token) if opening.is_on(platform) else None


def _signer() -> Signer:
    return Signer(salt="wallet.links", sep=".")


def _digest(card: Card) -> str:
    """Tells the QR token that a card has from those that it had before it was replaced."""
    return hashlib.sha256(card.qr_token.encode()).hexdigest()[:12]
