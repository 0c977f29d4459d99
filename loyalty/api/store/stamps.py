"""Stamps at the till."""

from loyalty import errors
from loyalty.api.answers import TransactionOut
from loyalty.api.fields import In, Moment, Whole
from loyalty.api.operations import operation
from loyalty.api.store.sales import ONCE, SOLD_AT, USABLE
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.models import Transaction
from loyalty.services import stamps


class StampsIn(In):
    example = {"count": 1}

    count = Whole(required=False, default=1, min_value=1, max_value=1000)
    transaction_at = Moment(required=False, allow_null=True, default=None, help_text=SOLD_AT)


class Stamps(StoreView):
    @operation(
        name="store_cards_stamps_add",
        summary="Give stamps",
        body=StampsIn,
        answer=TransactionOut,
        status=201,
        refusals=[
            *USABLE,
            errors.InvalidInput,
            errors.NotInThisProgram,
            errors.MomentNotAccepted,
            errors.StampCooldown,
            errors.DailyStampsReached,
            *ONCE,
        ],
        changes=True,
        keyed=True,
        throttle="stamps",
    )
    def post(self, asked: AskedAtStore, card_id: int) -> Transaction:
        """The answer says when the next stamp is possible and how many are left today; so does a refusal."""
        return stamps.add_stamps(
            store=asked.store,
            card_id=card_id,
            count=asked.body["count"],
            transaction_at=asked.body["transaction_at"],
            staff_member=asked.staff_member,
            actor=asked.actor,
            client=asked.client,
            request=asked.request,
            at=asked.at,
        )


class RedeemStamps(StoreView):
    @operation(
        name="store_cards_stamps_redeem",
        summary="Exchange a full card of stamps",
        answer=TransactionOut,
        status=201,
        refusals=[*USABLE, errors.NotInThisProgram, errors.NotEnoughStamps, *ONCE],
        changes=True,
        keyed=True,
        throttle="redeem",
    )
    def post(self, asked: AskedAtStore, card_id: int) -> Transaction:
        """Takes the program's `stamps_target`; stamps above it stay on the card."""
        return stamps.redeem_stamps(
            store=asked.store,
            card_id=card_id,
            staff_member=asked.staff_member,
            actor=asked.actor,
            client=asked.client,
            request=asked.request,
            at=asked.at,
        )
