"""Points changed by hand: adjusted, and restored after an expiry."""

from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_card
from loyalty.api.answers import TransactionOut
from loyalty.api.fields import In, Reason, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Transaction
from loyalty.services import adjustments, restoring

LARGEST = 2_000_000_000
ONCE = [errors.IdempotencyKeyReused, errors.IdempotencyKeyExpired]
BY_HAND = [errors.CardNotFound, errors.CardNotActive, errors.CardChanged, errors.ReasonRequired, errors.InvalidInput]
SEEN = "The version of the card on which this was decided. With another one nothing is done (`card_changed`)."


class RestoreIn(In):
    example = {"points": 500, "reason": "Was in hospital"}

    points = Whole(min_value=1, max_value=LARGEST)
    reason = Reason()
    seen_version = Whole(required=False, allow_null=True, default=None, min_value=0, max_value=LARGEST, help_text=SEEN)


class RestoredOut(TransactionOut):
    """The adjustment that gave the points back."""

    example = {**TransactionOut.example, "type": "ADMIN_ADJUSTMENT", "warning": ""}

    warning = serializers.SerializerMethodField(help_text="When more came back than ever expired; else empty.")

    def get_warning(self, row: Transaction) -> str:
        return str(row.details.get("warning", "")) if isinstance(row.details, dict) else ""


class RestorePoints(AdminView):
    @operation(
        name="admin_cards_restore_points",
        summary="Give expired points back",
        body=RestoreIn,
        answer=RestoredOut,
        status=201,
        refusals=[*BY_HAND, errors.MoreThanExpired, *ONCE],
        changes=True,
        keyed=True,
        access=Access.RESTORE,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Transaction:
        """Counts as an activity, so the points live a full term again. The customer gets a mail about it.

        Support gives back what has expired, and no more (`more_than_expired`); a manager may, with a `warning`.
        """
        card = find_card(asked, card_id)
        return restoring.restore_points(
            merchant=card.program.merchant,
            card_id=card_id,
            **asked.body,
            only_expired=not asked.manages(card.program.merchant),
            actor=asked.actor,
            request=asked.request_about(card.program.merchant),
            at=asked.at,
        ).transaction


class AdjustIn(In):
    example = {"points": -50, "reason": "Counted twice"}

    points = Whole(required=False, default=0, min_value=-LARGEST, max_value=LARGEST)
    stamps = Whole(required=False, default=0, min_value=-LARGEST, max_value=LARGEST)
    reason = Reason()
    seen_version = Whole(required=False, allow_null=True, default=None, min_value=0, max_value=LARGEST, help_text=SEEN)


class Adjust(AdminView):
    @operation(
        name="admin_cards_adjust",
        summary="Add or take points or stamps",
        body=AdjustIn,
        answer=TransactionOut,
        status=201,
        refusals=[*BY_HAND, errors.InsufficientPoints, *ONCE],
        changes=True,
        keyed=True,
    )
    def post(self, asked: AskedByUser, card_id: int) -> Transaction:
        """More points count as an activity, fewer do not."""
        card = find_card(asked, card_id)
        return adjustments.adjust(
            merchant=card.program.merchant,
            card_id=card_id,
            **asked.body,
            actor=asked.actor,
            request=asked.request_about(card.program.merchant),
            at=asked.at,
        )


urlpatterns = [
    path("cards/<id:card_id>/restore-points", RestorePoints.as_view()),
    path("cards/<id:card_id>/adjust", Adjust.as_view()),
]
