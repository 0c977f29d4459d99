"""What a back office does to a card: stopped and started, exempted, replaced, merged."""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.cards import FullCardOut
from loyalty.api.admin.finding import find_card
from loyalty.api.admin.restoring import BY_HAND, LARGEST, ONCE, SEEN
from loyalty.api.answers import TransactionOut, iso
from loyalty.api.fields import Id, In, Reason, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.store.answers import DAY
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Card, Transaction
from loyalty.services import adjustments, card_status, merging, replacing
from loyalty.services.merging import MergeReport

EXEMPTED = [
    errors.CardNotFound,
    errors.CardNotActive,
    errors.NothingToChange,
    errors.ReasonRequired,
    errors.InvalidInput,
    errors.IdempotencyKeyReused,
]


class CardReasonIn(In):
    example: dict[str, Any] = {"reason": "The card was found again"}

    reason = Reason()


class CardChangeIn(CardReasonIn):
    example = {"reason": "The customer has lost it", "seen_version": 9}

    seen_version = Whole(required=False, allow_null=True, default=None, min_value=0, max_value=LARGEST, help_text=SEEN)


def _by_hand(asked: AskedByUser, card_id: int) -> dict[str, Any]:
    """What every change by hand is told, once the card is known to be one of the user's."""
    merchant = find_card(asked, card_id).program.merchant
    return {"merchant": merchant, "actor": asked.actor, "request": asked.request_about(merchant), "at": asked.at}


class Suspend(AdminView):
    @operation(
        name="admin_cards_suspend",
        summary="Stop a card until it is reactivated",
        body=CardChangeIn,
        answer=TransactionOut,
        status=201,
        refusals=[*BY_HAND, errors.NothingToChange, *ONCE],
        changes=True,
        keyed=True,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Transaction:
        """Nobody can use it; nobody is warned about it and nothing on it expires."""
        return card_status.suspend_card(card_id=card_id, **asked.body, **_by_hand(asked, card_id))


class Close(AdminView):
    @operation(
        name="admin_cards_close",
        summary="End a card",
        body=CardChangeIn,
        answer=TransactionOut,
        status=201,
        refusals=[*BY_HAND, errors.NothingToChange, *ONCE],
        changes=True,
        keyed=True,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Transaction:
        """It is no longer its customer's card, who may be given a new one. What it holds stays and is of no use.

        It can be reactivated as long as the customer has no other card.
        """
        return card_status.close_card(card_id=card_id, **asked.body, **_by_hand(asked, card_id))


class Reactivate(AdminView):
    @operation(
        name="admin_cards_reactivate",
        summary="Take a suspended or closed card into use again",
        body=CardChangeIn,
        answer=TransactionOut,
        status=201,
        refusals=[*BY_HAND, errors.NothingToChange, errors.AlreadyEnrolled, *ONCE],
        changes=True,
        keyed=True,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Transaction:
        """The customer is warned again, in full time, before anything expires. A promised day stays promised."""
        return card_status.reactivate_card(card_id=card_id, **asked.body, **_by_hand(asked, card_id))


class Exempt(AdminView):
    @operation(
        name="admin_cards_exempt",
        summary="Take a card out of expiry",
        body=CardReasonIn,
        answer=FullCardOut,
        refusals=EXEMPTED,
        changes=True,
        card_of=lambda card: card.pk,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Card:
        """No warnings, and nothing expires, until the exemption is ended."""
        merchant = find_card(asked, card_id).program.merchant
        adjustments.exempt_from_expiry(merchant=merchant, card_id=card_id, **asked.body, actor=asked.actor, at=asked.at)
        return find_card(asked, card_id)


class EndExemption(AdminView):
    @operation(
        name="admin_cards_end_exemption",
        summary="Put a card back into expiry",
        body=CardReasonIn,
        answer=FullCardOut,
        refusals=EXEMPTED,
        changes=True,
        card_of=lambda card: card.pk,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Card:
        """The customer is warned again, in full time, before anything expires."""
        merchant = find_card(asked, card_id).program.merchant
        adjustments.end_exemption(merchant=merchant, card_id=card_id, **asked.body, actor=asked.actor, at=asked.at)
        return find_card(asked, card_id)


class ReplacedOut(serializers.Serializer[dict[str, Any]]):
    """A card's new number and QR code; the old ones lead nowhere."""

    example = {"card_id": 17, "card_number": "571204866030", "qr_token": "4V7tQ0yq1s2bM1x9rB0e3A"}

    card_id = serializers.IntegerField(source="card")
    card_number = serializers.CharField()
    qr_token = serializers.CharField(help_text="What the QR code of the card holds.")


class Replace(AdminView):
    @operation(
        name="admin_cards_replace",
        summary="Give a card a new number and QR code",
        body=CardChangeIn,
        answer=ReplacedOut,
        refusals=[*BY_HAND, *ONCE],
        changes=True,
        keyed=True,
        replay=lambda answer: answer,
    )
    def post(self, asked: AskedByUser, card_id: int) -> dict[str, Any]:
        """For a card that was lost or copied. It keeps all that it holds."""
        card = replacing.replace_card(card_id=card_id, **asked.body, **_by_hand(asked, card_id))
        return {"card": card.pk, "card_number": card.card_number, "qr_token": card.qr_token}


MERGED = [errors.CardNotFound, errors.CardNotActive, errors.InvalidInput]


class MergePreviewIn(In):
    example: dict[str, Any] = {"target_card_id": 18}

    target_card_id = Id(help_text="The card that is kept. It belongs to the same merchant.")


class MergeIn(MergePreviewIn, CardChangeIn):
    example = {"target_card_id": 18, "reason": "The customer had two cards", "seen_version": 9}


class MergePreviewOut(serializers.Serializer[MergeReport]):
    """What a merge would move, and what the card that is kept would hold."""

    example = {
        "source_card_id": 17,
        "target_card_id": 18,
        "points": 112,
        "stamps": 3,
        "points_balance": 150,
        "stamp_count": 4,
        "keeps_until": "2026-09-27",
    }

    source_card_id = serializers.IntegerField(source="source_id")
    target_card_id = serializers.IntegerField(source="target_id")
    points = serializers.IntegerField(help_text="That move.")
    stamps = serializers.IntegerField(help_text="That move.")
    points_balance = serializers.IntegerField(help_text="Of the card that is kept, afterwards.")
    stamp_count = serializers.IntegerField(help_text="Of the card that is kept, afterwards.")
    keeps_until = serializers.SerializerMethodField(help_text="The last day of its points then; null: none can expire.")

    @extend_schema_field(DAY)
    def get_keeps_until(self, report: MergeReport) -> str | None:
        return iso(report.keeps_until)


class PreviewMerge(AdminView):
    @operation(
        name="admin_cards_merge_preview",
        summary="See what a merge of two cards would do",
        body=MergePreviewIn,
        answer=MergePreviewOut,
        refusals=MERGED,
        access=Access.READ,
    )
    def post(self, asked: AskedByUser, card_id: int) -> MergeReport:
        """Nothing is changed and nothing is locked."""
        merchant = find_card(asked, card_id).program.merchant
        target = find_card(asked, asked.body["target_card_id"])
        return merging.preview_merge(merchant=merchant, source_id=card_id, target_id=target.pk, at=asked.at)


class Merge(AdminView):
    @operation(
        name="admin_cards_merge",
        summary="Merge a card into another one of the merchant",
        body=MergeIn,
        answer=TransactionOut,
        status=201,
        refusals=[*MERGED, errors.CardChanged, errors.ReasonRequired, *ONCE],
        changes=True,
        keyed=True,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Transaction | None:
        """All that the card holds moves to the target, and its number leads there from now on. This is final.

        The answer is the target's transaction. `seen_version` is that of the card in the path.
        """
        common, words = _by_hand(asked, card_id), dict(asked.body)
        target = find_card(asked, words.pop("target_card_id"))
        return merging.merge_cards(source_id=card_id, target_id=target.pk, **words, **common).transaction


urlpatterns = [
    path("cards/<id:card_id>/suspend", Suspend.as_view()),
    path("cards/<id:card_id>/close", Close.as_view()),
    path("cards/<id:card_id>/reactivate", Reactivate.as_view()),
    path("cards/<id:card_id>/exempt", Exempt.as_view()),
    path("cards/<id:card_id>/end-exemption", EndExemption.as_view()),
    path("cards/<id:card_id>/replace", Replace.as_view()),
    path("cards/<id:card_id>/merge/preview", PreviewMerge.as_view()),
    path("cards/<id:card_id>/merge", Merge.as_view()),
]
