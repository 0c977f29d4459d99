"""Wallets at the till."""

from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.operations import operation
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.models import Card
from wallet.services import links


class WalletLinksOut(serializers.Serializer[links.WalletLinks]):
    """Where a customer adds the card to a phone."""

    example = {
        "apple": "https://loyalty.example.com/wallet/apple/get/WzE3LCI0ZDc1...",
        "google": "https://loyalty.example.com/wallet/google/get/WzE3LCI0ZDc1...",
    }

    apple = serializers.URLField(allow_null=True, help_text="Null: there are no Apple passes here.")
    google = serializers.URLField(allow_null=True, help_text="Null: there are no Google passes here.")


class WalletLinks(StoreView):
    @operation(
        name="store_cards_wallet_links",
        summary="Get the links that add a card to a phone",
        answer=WalletLinksOut,
        refusals=[errors.CardNotFound],
        throttle="lookup",
    )
    def get(self, asked: AskedAtStore, card_id: int) -> links.WalletLinks:
        """One for iPhones, one for Android, to print as QR codes or to send. Who has one can add the card.

        They end after some time, and when the card is replaced. A card that is out of use has none.
        """
        card = Card.objects.of(asked.merchant).filter(pk=card_id).first()
        if card is None:
            raise errors.CardNotFound("This card is not known here.")
        return links.wallet_links(card=card, at=asked.at)


urlpatterns = [path("cards/<id:card_id>/wallet-links", WalletLinks.as_view())]
