"""The same change to many cards of a merchant at once."""

from collections import Counter
from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.restoring import LARGEST, ONCE
from loyalty.api.fields import LARGEST_ID, Id, In, Reason, Whole
from loyalty.api.operations import operation
from loyalty.api.views import AdminView, AskedByUser
from loyalty.services import bulk
from loyalty.services.bulk import MOST_CARDS, BulkReport

REFUSED = [errors.MerchantNotFound, errors.ReasonRequired, errors.InvalidInput, *ONCE]


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": LARGEST_ID},
        "minItems": 1,
        "maxItems": MOST_CARDS,
        "uniqueItems": True,
    }
)
class CardIds(serializers.ListField):
    """Ids of different cards."""

    default_error_messages = {
        "too_many": f"Name at most {MOST_CARDS:,} cards; split a longer list.",
        "twice": "These cards are named more than once: {ids}.",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"child": Id(), "allow_empty": False, **options})

    def to_internal_value(self, data: Any) -> list[int]:
        if isinstance(data, list) and len(data) > MOST_CARDS:
            # Before each of them is looked at: a hundred thousand wrong ids would be as many complaints.
            self.fail("too_many")
        ids: list[int] = super().to_internal_value(data)
        if twice := [str(card_id) for card_id, times in Counter(ids).items() if times > 1]:
            self.fail("twice", ids=", ".join(twice[:10]))
        return ids


class BulkDeactivateIn(In):
    example: dict[str, Any] = {"merchant_id": 4, "card_ids": [17, 18], "reason": "Printed with a wrong number"}

    merchant_id = Id()
    card_ids = CardIds(help_text="Of cards of this merchant, each once.")
    reason = Reason()


class BulkAdjustIn(BulkDeactivateIn):
    example = {"merchant_id": 4, "card_ids": [17, 18], "points": 50, "reason": "The shop was closed for a week"}

    points = Whole(min_value=-LARGEST, max_value=LARGEST, help_text="To add to each card, or to take with a minus.")


class SkippedOut(serializers.Serializer[Any]):
    """A card for which the change was refused."""

    card_id = serializers.IntegerField()
    code = serializers.CharField(help_text="The code of a problem, such as card_not_active.")
    sentence = serializers.CharField()


class BulkOut(serializers.Serializer[BulkReport]):
    """What was done for which card."""

    example = {
        "done_card_ids": [17],
        "skipped": [{"card_id": 18, "code": "card_not_found", "sentence": "This card is not known here."}],
        "failed_card_ids": [],
    }

    done_card_ids = serializers.ListField(child=serializers.IntegerField())
    skipped = SkippedOut(many=True)
    failed_card_ids = serializers.ListField(
        child=serializers.IntegerField(), help_text="Something went wrong on our side. A repeat tries these again."
    )


class BulkDeactivate(AdminView):
    @operation(
        name="admin_cards_bulk_deactivate",
        summary="Suspend many cards",
        body=BulkDeactivateIn,
        answer=BulkOut,
        refusals=REFUSED,
        changes=True,
        keyed=True,
        replay=lambda answer: answer,
    )
    def post(self, asked: AskedByUser) -> BulkReport:
        """Each card by itself: what is refused for one card stops no other, and is told in `skipped`.

        With an Idempotency-Key a call that was interrupted can be repeated: what it did is not done again.
        """
        words = dict(asked.body)
        merchant = asked.merchant(words.pop("merchant_id"))
        return bulk.deactivate_cards(
            merchant=merchant, **words, actor=asked.actor, request=asked.request_about(merchant), at=asked.at
        )


class BulkAdjust(AdminView):
    @operation(
        name="admin_cards_bulk_adjust",
        summary="Add or take points on many cards",
        body=BulkAdjustIn,
        answer=BulkOut,
        refusals=REFUSED,
        changes=True,
        keyed=True,
        replay=lambda answer: answer,
    )
    def post(self, asked: AskedByUser) -> BulkReport:
        """Each card by itself: what is refused for one card stops no other, and is told in `skipped`.

        With an Idempotency-Key a call that was interrupted can be repeated: what it did is not done again.
        """
        words = dict(asked.body)
        merchant = asked.merchant(words.pop("merchant_id"))
        return bulk.adjust_cards(
            merchant=merchant, **words, actor=asked.actor, request=asked.request_about(merchant), at=asked.at
        )


urlpatterns = [
    path("cards/bulk/deactivate", BulkDeactivate.as_view()),
    path("cards/bulk/adjust", BulkAdjust.as_view()),
]
