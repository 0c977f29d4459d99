"""Exports: cards, transactions, and balances as of a day, sent while they are read."""

from django.http import StreamingHttpResponse
from django.urls import path
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer

from loyalty import errors
from loyalty.api.fields import Day, In
from loyalty.api.files import CsvRenderer, streamed
from loyalty.api.operations import Access, operation
from loyalty.api.views import AdminView, AskedByUser
from loyalty.services import exporting

CARDS = [
    *("external_id", "first_name", "last_name", "email", "phone", "birth_date", "locale", "points", "stamps"),
    *("last_activity_on", "card_id", "card_number", "status"),
]
TRANSACTIONS = [
    *("id", "card_id", "card_number", "seq", "type", "points_delta", "stamps_delta", "points_balance_after"),
    *("stamps_balance_after", "amount", "currency", "store_id", "staff_member_id", "actor", "receipt_number"),
    *("reward_id", "reverses_id", "reason", "transaction_at", "created_at"),
]
BALANCES = ["as_of", "card_id", "card_number", "status", "points", "stamps"]


class FormQuery(In):
    form = serializers.ChoiceField(["csv", "json"], required=False, default="csv", help_text="The form of the file.")


class TransactionsQuery(FormQuery):
    first = Day(help_text="The first local day on which they were written.")
    last = Day(help_text="The last one.")


class BalancesQuery(FormQuery):
    as_of = Day(required=False, help_text="The end of this local day. By default today, so far.")


class ExportView(AdminView):
    renderer_classes = (JSONRenderer, CsvRenderer)


class Cards(ExportView):
    @operation(
        name="admin_exports_cards",
        summary="Export cards with customers and balances",
        query=FormQuery,
        answer=None,
        file_of=CARDS,
        refusals=[errors.MerchantNotFound],
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> StreamingHttpResponse:
        """In the columns of an import, and with each card's id, number and status.

        In CSV, texts that a spreadsheet would take for a formula begin with an apostrophe.
        """
        rows = exporting.cards(merchant=asked.merchant(merchant_id))
        return streamed(rows, CARDS, form=asked.query["form"], name="cards")


class Transactions(ExportView):
    @operation(
        name="admin_exports_transactions",
        summary="Export transactions",
        query=TransactionsQuery,
        answer=None,
        file_of=TRANSACTIONS,
        refusals=[errors.MerchantNotFound, errors.InvalidInput],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> StreamingHttpResponse:
        """Those that were written on these local days, the oldest first."""
        merchant = asked.merchant(merchant_id)
        rows = exporting.transactions(merchant=merchant, first=asked.query["first"], last=asked.query["last"])
        return streamed(rows, TRANSACTIONS, form=asked.query["form"], name="transactions")


class Balances(ExportView):
    @operation(
        name="admin_exports_balances",
        summary="Export balances as of a day",
        query=BalancesQuery,
        answer=None,
        file_of=BALANCES,
        refusals=[errors.MerchantNotFound, errors.InvalidInput],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> StreamingHttpResponse:
        """What each card held at the end of the day, by the ledger. Their sum is the liability of that day."""
        merchant = asked.merchant(merchant_id)
        as_of = asked.query.get("as_of") or asked.at.astimezone(merchant.zone).date()
        rows = exporting.balances(merchant=merchant, as_of=as_of, at=asked.at)
        return streamed(rows, BALANCES, form=asked.query["form"], name="balances")


urlpatterns = [
    path("merchants/<id:merchant_id>/exports/cards", Cards.as_view()),
    path("merchants/<id:merchant_id>/exports/transactions", Transactions.as_view()),
    path("merchants/<id:merchant_id>/exports/balances", Balances.as_view()),
]
