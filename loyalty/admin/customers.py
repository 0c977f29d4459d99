"""Customers: who they are, and their cards."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from loyalty.admin.screens import MerchantFilter, Screen, ScreenForm, link_to
from loyalty.admin.searching import customer_ids
from loyalty.errors import InvalidInput
from loyalty.models import Customer, Merchant
from loyalty.models.contact import normalised_email, normalised_phone


class CustomerForm(ScreenForm):
    """Contact data in the one form in which it is kept, and each once per merchant."""

    def clean_email(self) -> str:
        email = self._normalised(normalised_email, self.cleaned_data["email"])
        return self._free("e-mail address", email, Q(lowered=email.lower()) & ~Q(email=""))

    def clean_phone(self) -> str:
        phone = self._normalised(normalised_phone, self.cleaned_data["phone"], country=self.instance.merchant.country)
        return self._free("phone number", phone, Q(phone=phone))

    def clean_external_id(self) -> str:
        external_id = self.cleaned_data["external_id"]
        return self._free("external id", external_id, Q(external_id=external_id))

    def _normalised(self, normalise: Any, raw: str, **options: str) -> str:
        try:
            return str(normalise(raw, **options))
        except InvalidInput as refusal:
            raise forms.ValidationError(refusal.sentence) from None

    def _free(self, what: str, value: str, taken: Q) -> str:
        customers = Customer.objects.alias(lowered=Lower("email")).filter(merchant=self.instance.merchant)
        if value and customers.filter(taken).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(f"Another customer of this merchant has this {what}.")
        return value


@admin.register(Customer)
class CustomerAdmin(Screen):
    menu = "Cards"
    form = CustomerForm
    list_display = ("name", "email", "phone", "merchant", "external_id", "created_at", "erased_at")
    list_select_related = ("merchant",)
    list_filter = (MerchantFilter,)
    search_fields = ("external_id__exact",)
    search_help_text = "Exactly: an e-mail address, a phone number (+352...) or an external id."
    readonly_fields = (
        "merchant",
        "cards",
        "terms_accepted_at",
        "marketing_consent_at",
        "created_at",
        "erased_at",
    )
    fieldsets = (
        (None, {"fields": ("merchant", "cards", "first_name", "last_name", "email", "phone", "birth_date", "locale")}),
        (
            "Records",
            {"fields": ("external_id", "terms_accepted_at", "marketing_consent_at", "created_at", "erased_at")},
        ),
    )

    def found(self, request: HttpRequest, text: str) -> Q:
        return Q(pk__in=customer_ids(text, merchants=Merchant.objects.readable_by(request.user)))

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A customer comes with a card, at a till or by an import.
        return False

    def has_change_permission(self, request: HttpRequest, obj: Customer | None = None) -> bool:
        return not (obj and obj.erased_at) and super().has_change_permission(request, obj)

    @admin.display(description="customer")
    def name(self, customer: Customer) -> str:
        return str(customer)

    @admin.display(description="cards")
    def cards(self, customer: Customer) -> SafeString | str:
        cards = customer.cards.select_related("balance").order_by("-pk")
        lines = [(link_to(card), card.get_status_display(), f"{card.balance.points_balance:,}") for card in cards[:20]]
        return format_html_join("\n", "<div>{} ({}), {} points</div>", lines) or "none"
