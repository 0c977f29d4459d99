"""The ledger, read by a back office, and what was wrong taken back."""

from datetime import timedelta
from typing import Any

from django.db.models import Max, Min, QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_card, find_store, find_transaction, in_sight, transactions_shown
from loyalty.api.admin.restoring import ONCE
from loyalty.api.answers import TransactionOut
from loyalty.api.fields import LARGEST_ID, Moment
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.store.answers import MovementOut
from loyalty.api.store.reversing import RefundIn, VoidIn
from loyalty.api.views import AdminView, AskedByUser
from loyalty.errors import InvalidInput
from loyalty.models import Transaction, TransactionType
from loyalty.models.money import to_minor
from loyalty.services import reversing

LONGEST_WINDOW = timedelta(days=7)
MOST_ROWS = 10**9  # all; but what is cut the planner reads by itself
BOUNDED = f"Needs `card_id`, or `created_from` and `created_before` at most {LONGEST_WINDOW.days} days apart."
REVERSED = [
    errors.TransactionNotFound,
    errors.CardNotActive,
    errors.NotVoidable,
    errors.AlreadyVoided,
    errors.PointsAlreadySpent,
    errors.ReasonRequired,
    errors.InvalidInput,
]


class TransactionsQuery(PageQuery):
    merchant_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    card_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    store_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID, help_text=BOUNDED)
    type = serializers.ChoiceField(choices=TransactionType.choices, required=False, help_text=BOUNDED)
    created_from = Moment(required=False, help_text="Written at this moment or later; such as 2026-03-01T00:00:00Z.")
    created_before = Moment(required=False, help_text="Written before this moment.")


class Transactions(AdminView):
    @operation(
        name="admin_transactions_list",
        summary="List transactions",
        query=TransactionsQuery,
        answer=MovementOut,
        refusals=[errors.MerchantNotFound, errors.CardNotFound, errors.StoreNotFound, errors.InvalidInput],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[Transaction]":
        """Of all merchants that the user looks after, or of one of them; the newest first, each with a sentence.

        The ledger is long: what has no index is only looked for on one card, or among the transactions of a week.
        """
        seen = in_sight(asked, "merchant", asked.query.get("merchant_id"))
        rows = transactions_shown().filter(seen, **_named(asked), **_bounded(asked.query))
        return rows if "card_id" in asked.query or "created_from" not in asked.query else _cut(rows)


def _cut(rows: "QuerySet[Transaction]") -> "QuerySet[Transaction]":
    """The same rows of a time, with their first and last id: those the planner can go to.

    It does not know that ids grow with time, and would walk back through the whole ledger to find the newest ones.
    """
    found = rows.order_by()[:MOST_ROWS].aggregate(first=Min("pk"), last=Max("pk"))
    return rows.filter(pk__range=(found["first"], found["last"])) if found["first"] else rows.none()


def _named(asked: AskedByUser) -> dict[str, Any]:
    """The card and the store that the query names, found where the user may look."""
    named: dict[str, Any] = {}
    if "card_id" in asked.query:
        named["card"] = find_card(asked, asked.query["card_id"])
    if "store_id" in asked.query:
        store = find_store(asked, asked.query["store_id"])
        named |= {"store": store, "merchant": store.merchant}
    return named


def _bounded(query: dict[str, Any]) -> dict[str, Any]:
    """Filters by type and time, unless they would read a whole ledger to find a few rows."""
    created_from, created_before = query.get("created_from"), query.get("created_before")
    is_window = created_from and created_before and created_before - created_from <= LONGEST_WINDOW
    needs_bounds = "type" in query or "store_id" in query or created_from or created_before
    if needs_bounds and not is_window and "card_id" not in query:
        raise InvalidInput(
            f"Name a card, or a time of at most {LONGEST_WINDOW.days} days with created_from and created_before."
        )
    names = {"type": "type", "created_from": "created_at__gte", "created_before": "created_at__lt"}
    return {column: query[name] for name, column in names.items() if name in query}


class OneTransaction(AdminView):
    @operation(
        name="admin_transactions_get",
        summary="See a transaction",
        answer=MovementOut,
        refusals=[errors.TransactionNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, transaction_id: int) -> Transaction:
        """As it was written, and what it means in a sentence."""
        return find_transaction(asked, transaction_id)


class VoidTransaction(AdminView):
    @operation(
        name="admin_transactions_void",
        summary="Void a sale, stamps or a redemption by a back office",
        body=VoidIn,
        answer=TransactionOut,
        status=201,
        refusals=[*REVERSED, *ONCE],
        changes=True,
        keyed=True,
    )
    def post(self, asked: AskedByUser, transaction_id: int) -> Transaction:
        """Takes it back whole, or what refunds left of it, however long ago it was. Its receipt may earn again.

        When the customer has spent the points, the program either takes what there is (`shortfall_points` says what
        is missing) or refuses.
        """
        merchant = find_transaction(asked, transaction_id).merchant
        return reversing.void(
            store=None,
            merchant=merchant,
            transaction_id=transaction_id,
            reason=asked.body["reason"],
            actor=asked.actor,
            request=asked.request_about(merchant),
            at=asked.at,
        )


class RefundTransaction(AdminView):
    @operation(
        name="admin_transactions_refund",
        summary="Refund a part of a sale by a back office",
        body=RefundIn,
        answer=TransactionOut,
        status=201,
        refusals=[*REVERSED, errors.InvalidAmount, errors.RefundExceedsPurchase, *ONCE],
        changes=True,
        keyed=True,
    )
    def post(self, asked: AskedByUser, transaction_id: int) -> Transaction:
        """The card keeps what the rest of the purchase earns at the rate of the sale, whatever the program says today.

        Refunds of a whole purchase, in any number of parts, take exactly the points that it earned.
        """
        merchant = find_transaction(asked, transaction_id).merchant
        return reversing.refund(
            store=None,
            merchant=merchant,
            transaction_id=transaction_id,
            amount_minor=to_minor(asked.body["amount"], merchant.currency),
            reason=asked.body["reason"],
            actor=asked.actor,
            request=asked.request_about(merchant),
            at=asked.at,
        )


urlpatterns = [
    path("transactions", Transactions.as_view()),
    path("transactions/<id:transaction_id>", OneTransaction.as_view()),
    path("transactions/<id:transaction_id>/void", VoidTransaction.as_view()),
    path("transactions/<id:transaction_id>/refund", RefundTransaction.as_view()),
]
