"""The ledger and what keeps it unique: to read, never to write."""

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from loyalty.admin.screens import MerchantFilter, ViewOnly, link_to, minute_of
from loyalty.models import IdempotencyKey, Merchant, ReceiptClaim, Store, Transaction
from loyalty.models.money import spelled
from loyalty.services.searching import card_ids


@admin.register(Transaction)
class TransactionAdmin(ViewOnly):
    menu = "Cards"
    list_display = ("happened", "card_link", "merchant", "type", "points", "balance_after", "store", "actor")
    list_select_related = ("card", "merchant", "store")
    list_filter = ("type", MerchantFilter)
    search_fields = ("card__card_number__exact",)
    search_help_text = "Exactly: a card number, or a customer's e-mail address, phone number (+352...) or external id."
    fieldsets = (
        (None, {"fields": ("card_link", "merchant", "seq", "type", "points", "balance_after", "stamps", "reason")}),
        (
            "The sale",
            {"fields": ("amount", "points_per_unit", "store", "staff_member", "actor", "receipt_number", "reward")},
        ),
        ("When", {"fields": ("transaction_at", "created_at")}),
        (
            "Belongs to",
            {"fields": ("reverses_link", "run_link", "cycle_started_at", "idempotency_key")},
        ),
        ("Details", {"fields": ("details", "client_address", "client_agent"), "classes": ("collapse",)}),
    )

    def found(self, request: HttpRequest, text: str) -> Q:
        return Q(card__in=card_ids(text, merchants=Merchant.objects.readable_by(request.user)))

    @admin.display(description="when (UTC)")
    def happened(self, row: Transaction) -> str:
        return minute_of(row.transaction_at)

    @admin.display(description="card")
    def card_link(self, row: Transaction) -> SafeString | str:
        return link_to(row.card)

    @admin.display(description="points")
    def points(self, row: Transaction) -> str:
        return f"{row.points_delta:+,}" if row.points_delta else "0"

    @admin.display(description="balance after")
    def balance_after(self, row: Transaction) -> str:
        return f"{row.points_balance_after:,}"

    @admin.display(description="stamps")
    def stamps(self, row: Transaction) -> str:
        return f"{row.stamps_delta:+,}, then {row.stamps_balance_after:,}" if row.stamps_delta else "-"

    @admin.display(description="amount")
    def amount(self, row: Transaction) -> str:
        return "-" if row.amount_minor is None else spelled(row.amount_minor, row.merchant.currency)

    @admin.display(description="puts right")
    def reverses_link(self, row: Transaction) -> SafeString | str:
        reversed_row = link_to(row.reverses)
        return format_html("{}, in part", reversed_row) if row.reverses and not row.reverses_in_full else reversed_row

    @admin.display(description="expiration run")
    def run_link(self, row: Transaction) -> SafeString | str:
        return link_to(row.expiration_run)


@admin.register(ReceiptClaim)
class ReceiptClaimAdmin(ViewOnly):
    menu = "Records"
    merchant_path = "store__merchant"
    list_display = ("receipt_number", "store", "transaction_link")
    list_select_related = ("store", "transaction")
    list_filter = (MerchantFilter,)
    search_fields = ("receipt_number__exact",)
    search_help_text = "Exactly a receipt number."
    fields = ("receipt_number", "store", "transaction_link")

    def found(self, request: HttpRequest, text: str) -> Q:
        # The index begins with the store: it is asked once per store.
        stores = Store.objects.filter(merchant__in=Merchant.objects.readable_by(request.user))
        return Q(store__in=stores, receipt_number=text)

    @admin.display(description="transaction")
    def transaction_link(self, claim: ReceiptClaim) -> SafeString | str:
        return link_to(claim.transaction)


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ViewOnly):
    menu = "Records"
    list_display = ("key", "merchant", "user", "status", "created_at")
    list_select_related = ("merchant", "user")
    list_filter = (MerchantFilter,)
    search_fields = ("key__exact",)
    search_help_text = "Exactly a key."
    fields = ("key", "merchant", "user", "status", "fingerprint", "created_at")

    def found(self, request: HttpRequest, text: str) -> Q:
        return Q(merchant__in=Merchant.objects.readable_by(request.user), key=text)
