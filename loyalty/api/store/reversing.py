"""Sales and redemptions taken back at the till."""

from loyalty import errors
from loyalty.api.answers import TransactionOut
from loyalty.api.fields import Amount, In, Reason
from loyalty.api.operations import operation
from loyalty.api.store.sales import ONCE
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.models import Transaction
from loyalty.models.money import to_minor
from loyalty.services import reversing

REVERSED = [
    errors.TransactionNotFound,
    errors.CardNotActive,
    errors.CardOfAnotherStore,
    errors.NotVoidable,
    errors.AlreadyVoided,
    errors.PointsAlreadySpent,
    errors.ReasonRequired,
    errors.InvalidInput,
]


class VoidIn(In):
    example = {"reason": "Wrong customer"}

    reason = Reason()


class Void(StoreView):
    @operation(
        name="store_transactions_void",
        summary="Void a sale, stamps or a redemption",
        body=VoidIn,
        answer=TransactionOut,
        status=201,
        refusals=[*REVERSED, errors.VoidNotAllowed, errors.VoidWindowPassed, *ONCE],
        changes=True,
        keyed=True,
        throttle="reverse",
    )
    def post(self, asked: AskedAtStore, transaction_id: int) -> Transaction:
        """Takes it back whole, or what refunds left of it. Its receipt may earn again.

        A cashier may do it within the program's `void_window_hours`, a supervisor at any time. When the customer has
        spent the points, the program either takes what there is (`shortfall_points` says what is missing) or refuses.
        """
        return reversing.void(
            store=asked.store,
            merchant=asked.merchant,
            transaction_id=transaction_id,
            reason=asked.body["reason"],
            staff_member=asked.staff_member,
            actor=asked.actor,
            client=asked.client,
            request=asked.request,
            at=asked.at,
        )


class RefundIn(In):
    example = {"amount": "6.00", "reason": "One of two returned"}

    amount = Amount(help_text="What the customer gets back.")
    reason = Reason()


class Refund(StoreView):
    @operation(
        name="store_transactions_refund",
        summary="Refund a part of a sale",
        body=RefundIn,
        answer=TransactionOut,
        status=201,
        refusals=[*REVERSED, errors.InvalidAmount, errors.RefundExceedsPurchase, *ONCE],
        changes=True,
        keyed=True,
        throttle="reverse",
    )
    def post(self, asked: AskedAtStore, transaction_id: int) -> Transaction:
        """The card keeps what the rest of the purchase earns at the rate of the sale, whatever the program says today.

        Goods come back when they come back: neither `void_window_hours` nor `allow_void` matters here. Refunds of a
        whole purchase, in any number of parts, take exactly the points that it earned.
        """
        return reversing.refund(
            store=asked.store,
            merchant=asked.merchant,
            transaction_id=transaction_id,
            amount_minor=to_minor(asked.body["amount"], asked.merchant.currency),
            reason=asked.body["reason"],
            staff_member=asked.staff_member,
            actor=asked.actor,
            client=asked.client,
            request=asked.request,
            at=asked.at,
        )
