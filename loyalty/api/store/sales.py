"""Sales at the till: points earned and redeemed."""

from typing import Any

from loyalty import errors
from loyalty.api.answers import TransactionOut
from loyalty.api.fields import Amount, Id, In, Moment, Text, Whole
from loyalty.api.operations import operation
from loyalty.api.store.answers import WorthOut
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.errors import InvalidInput
from loyalty.models import Transaction
from loyalty.models.money import to_minor
from loyalty.services import earning, redeeming

ONCE = [errors.IdempotencyKeyReused, errors.IdempotencyKeyExpired]
USABLE = [errors.CardNotFound, errors.CardNotActive, errors.CardOfAnotherStore]
SALE = [
    errors.InvalidAmount,
    errors.InvalidInput,
    errors.BelowMinimumPurchase,
    errors.ReceiptRequired,
    errors.NotInThisProgram,
    errors.MomentNotAccepted,
]
LARGEST = 2_000_000_000
SOLD_AT = "When the sale took place, if the till was offline: at most 72 hours ago. By default now."


class PreviewIn(In):
    example = {"amount": "24.90"}

    amount = Amount(help_text="What the customer pays, after any discount paid with points.")
    transaction_at = Moment(required=False, allow_null=True, default=None, help_text=SOLD_AT)


class EarnIn(PreviewIn):
    example = {"amount": "24.90", "receipt_number": "R-2026-0815"}

    receipt_number = Text(
        max_length=64, required=False, allow_blank=True, default="", help_text="Earns once in each store."
    )


class Preview(StoreView):
    @operation(
        name="store_cards_earn_preview",
        summary="See what a purchase would earn",
        body=PreviewIn,
        answer=WorthOut,
        refusals=[*USABLE, *SALE],
        throttle="earn",
    )
    def post(self, asked: AskedAtStore, card_id: int) -> dict[str, Any]:
        """Nothing is written and no key is needed. The same rules apply as to the sale, limits of the day apart."""
        worth = earning.preview(
            store=asked.store,
            card_id=card_id,
            amount_minor=to_minor(asked.body["amount"], asked.merchant.currency),
            at=asked.at,
            transaction_at=asked.body["transaction_at"],
        )
        return {
            "points": worth.points,
            "points_balance_after": worth.points_balance_after,
            "campaign": worth.campaign.name if worth.campaign else None,
        }


class Earn(StoreView):
    @operation(
        name="store_cards_earn",
        summary="Give points for a purchase",
        body=EarnIn,
        answer=TransactionOut,
        status=201,
        refusals=[*USABLE, *SALE, errors.DuplicateReceipt, errors.DailyLimitReached, *ONCE],
        changes=True,
        keyed=True,
        throttle="earn",
    )
    def post(self, asked: AskedAtStore, card_id: int) -> Transaction:
        """The program's rate, or the best running campaign. A purchase worth 0 points is noted too.

        The warning `activity_predates_expiration` tells that points of the card expired after this offline sale.
        """
        return earning.earn(
            store=asked.store,
            card_id=card_id,
            amount_minor=to_minor(asked.body["amount"], asked.merchant.currency),
            receipt_number=asked.body["receipt_number"],
            transaction_at=asked.body["transaction_at"],
            staff_member=asked.staff_member,
            actor=asked.actor,
            client=asked.client,
            request=asked.request,
            at=asked.at,
        )


class RedeemIn(In):
    example = {"reward_id": 2}

    points = Whole(required=False, min_value=1, max_value=LARGEST, help_text="As a discount. Instead of `reward_id`.")
    reward_id = Id(required=False, help_text="One of the program's rewards. Instead of `points`.")


class Redeem(StoreView):
    @operation(
        name="store_cards_redeem",
        summary="Redeem points",
        body=RedeemIn,
        answer=TransactionOut,
        status=201,
        refusals=[
            *USABLE,
            errors.InvalidInput,
            errors.BelowMinimumRedemption,
            errors.InsufficientPoints,
            errors.RewardNotAvailable,
            errors.OutOfStock,
            *ONCE,
        ],
        changes=True,
        keyed=True,
        throttle="redeem",
    )
    def post(self, asked: AskedAtStore, card_id: int) -> Transaction:
        """Either a number of points as a discount, or one reward.

        `insufficient_points` carries the balance and, if points expired in the last 60 days, how many and when.
        """
        if len(asked.body) != 1:
            raise InvalidInput("Send either points or reward_id.")
        common: dict[str, Any] = {
            "store": asked.store,
            "card_id": card_id,
            "staff_member": asked.staff_member,
            "actor": asked.actor,
            "client": asked.client,
            "request": asked.request,
            "at": asked.at,
        }
        if "points" in asked.body:
            return redeeming.redeem_points(points=asked.body["points"], **common)
        return redeeming.redeem_reward(reward_id=asked.body["reward_id"], **common)
