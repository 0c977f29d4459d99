"""Passes of a card, and having passes told to phones again."""

from typing import Any

from django.db.models import Count
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.bulk import CardIds
from loyalty.api.admin.finding import find_card
from loyalty.api.fields import Id, In
from loyalty.api.operations import Access, operation
from loyalty.api.views import AdminView, AskedByUser
from wallet.models import Pass, Platform
from wallet.services.passes import Condition, condition_of, sync_cards_again

CONDITIONS = (
    "`behind`: the next run tells phones. `failing`: it is tried again. `given_up`: somebody has to look, then sync "
    "it. `not_in_phones`: nobody has it, and nobody is told."
)


class PassOut(serializers.Serializer[Pass]):
    """A card's picture in phones."""

    example: dict[str, Any] = {
        "id": 301,
        "card_id": 17,
        "platform": "apple",
        "identifier": "7d2f2c7e-5d2a-4b57-9f4f-0a4f7d3f9b11",
        "issued_under": "pass.com.example.loyalty",
        "status": "active",
        "condition": "failing",
        "version": 5,
        "card_version": 6,
        "phones": 1,
        "created_at": "2026-03-02T12:00:00Z",
        "synced_at": "2026-03-30T18:21:04Z",
        "attempts": 2,
        "next_attempt_at": "2026-03-31T12:20:00Z",
        "last_error_code": "timeout",
        "last_error": "Apple did not answer in time.",
        "last_error_at": "2026-03-31T12:05:00Z",
        "given_up_at": None,
    }

    id = serializers.IntegerField()
    card_id = serializers.IntegerField()
    platform = serializers.ChoiceField(choices=Platform.choices)
    identifier = serializers.CharField(help_text="Apple's serial number, or Google's object id.")
    issued_under = serializers.CharField(help_text="Apple's pass type, or Google's issuer.")
    status = serializers.ChoiceField(choices=Pass.Status.choices)
    condition = serializers.SerializerMethodField(help_text=CONDITIONS)
    version = serializers.IntegerField(source="synced_version", help_text="The version of the card that it shows.")
    card_version = serializers.IntegerField(source="card.balance.version")
    phones = serializers.SerializerMethodField(help_text="Google tells only whether there are any: 1 or 0.")
    created_at = serializers.DateTimeField()
    synced_at = serializers.DateTimeField(allow_null=True, help_text="When phones were last told.")
    attempts = serializers.IntegerField(help_text="Runs in a row that could not tell phones.")
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    last_error_code = serializers.CharField()
    last_error = serializers.CharField()
    last_error_at = serializers.DateTimeField(allow_null=True)
    given_up_at = serializers.DateTimeField(source="dead_at", allow_null=True)

    @extend_schema_field(serializers.ChoiceField(choices=Condition.choices))
    def get_condition(self, wallet_pass: Pass) -> Condition:
        return condition_of(wallet_pass)

    def get_phones(self, wallet_pass: Any) -> int:
        return int(wallet_pass.saved) if wallet_pass.platform == Platform.GOOGLE else wallet_pass.registered


class PassesOfCard(AdminView):
    @operation(
        name="admin_cards_passes",
        summary="List the passes of a card",
        answer=PassOut,
        many=True,
        refusals=[errors.CardNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, card_id: int) -> list[Pass]:
        """One for each platform at most, with what it shows, what went wrong and when it is tried again."""
        passes = Pass.objects.filter(card=find_card(asked, card_id)).shown()
        return list(passes.annotate(registered=Count("registrations")).order_by("platform"))


class SyncIn(In):
    example: dict[str, Any] = {"merchant_id": 4, "card_ids": [17]}

    merchant_id = Id()
    card_ids = CardIds(
        required=False, allow_null=True, default=None, help_text="Of cards of this merchant. Null: all of them."
    )


class SyncOut(serializers.Serializer[Any]):
    """What the next run will do."""

    example = {"passes": 2}

    passes = serializers.IntegerField(help_text="How many it will tell phones about.")


class Sync(AdminView):
    @operation(
        name="admin_wallet_sync",
        summary="Have passes told to phones again",
        body=SyncIn,
        answer=SyncOut,
        status=202,
        refusals=[errors.MerchantNotFound, errors.CardNotFound],
        changes=True,
    )
    def post(self, asked: AskedByUser) -> dict[str, int]:
        """Makes passes due, whatever phones were told before; what was given up is taken up again.

        Nothing is sent while the client waits: the next run does it, within a minute. Passes follow their cards by
        themselves, so this is for what went wrong.
        """
        merchant = asked.merchant(asked.body["merchant_id"])
        return {"passes": sync_cards_again(merchant=merchant, card_ids=asked.body["card_ids"], at=asked.at)}


urlpatterns = [
    path("cards/<id:card_id>/passes", PassesOfCard.as_view()),
    path("wallet/sync", Sync.as_view()),
]
