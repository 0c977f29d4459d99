"""Customers: who they are, their cards, and what is done when they ask for their data or its erasure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.db.models.functions import Lower
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from loyalty.admin.actions import Action, Outcome, ReasonForm, WithActions, form_page, page_of
from loyalty.admin.screens import MerchantFilter, ScreenForm, counted, link_to
from loyalty.errors import InvalidInput, LoyaltyError
from loyalty.models import Customer, Merchant
from loyalty.models.contact import normalised_email, normalised_phone
from loyalty.services.privacy import erase_customer, export_customer, preview_erasure
from loyalty.services.searching import customer_ids

MAY_CHANGE = "loyalty.change_customer"


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


class EraseForm(ReasonForm):
    sure = forms.BooleanField(label="I know that this cannot be undone")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["reason"].help_text = "Kept for good, so it must not name the customer: the date of a letter, say."


def erase(customer: Customer, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    report = erase_customer(
        merchant=customer.merchant, customer_id=customer.pk, reason=answers["reason"], actor=actor, at=at
    )
    # The admin's log is about to note what this is called.
    customer.refresh_from_db()
    return Outcome(f"Erased. {counted(len(report.card_ids), 'card')} closed, {counted(report.points, 'point')} gone.")


def what_would_go(customer: Customer, at: datetime) -> list[str]:
    try:
        report = preview_erasure(merchant=customer.merchant, customer_id=customer.pk)
    except LoyaltyError as refusal:
        return [refusal.sentence]
    facts = [
        f"{counted(len(report.card_ids), 'card')} with {counted(report.points, 'point')} and "
        f"{counted(report.stamps, 'stamp')}: closed and emptied, and the old numbers and QR codes lead nowhere.",
        f"{counted(report.messages, 'message')}: emptied, and not sent any more.",
        f"{counted(report.answered_requests, 'kept answer')} to tills and "
        f"{counted(report.import_lines, 'waiting line')} of imports: deleted.",
        "Purchases, points and dates stay in the ledger, without notes that could tell who it was.",
        "The person may enrol again, as somebody new.",
    ]
    if report.merged_customer_ids:
        others = ", ".join(map(str, report.merged_customer_ids))
        facts.append(f"Cards were merged with those of customers {others}, who stay. Are they the same person?")
    return facts


ERASE = Action(
    slug="erase",
    label="Erase",
    intro="Erases all personal data of this customer, for good.",
    permission=MAY_CHANGE,
    form=EraseForm,
    perform=erase,
    fits=lambda customer: customer.erased_at is None,
    facts=what_would_go,
)


@admin.register(Customer)
class CustomerAdmin(WithActions):
    menu = "Cards"
    form = CustomerForm
    page_actions = (ERASE,)
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

    def save_model(self, request: HttpRequest, obj: Customer, form: Any, change: bool) -> None:
        if not Customer.objects.select_for_update(no_key=True).filter(pk=obj.pk, erased_at=None).exists():
            # Since this page was read; what it says must not come back.
            raise PermissionDenied
        super().save_model(request, obj, form, change)

    def get_urls(self) -> list[URLPattern]:
        export = path(
            "<path:object_id>/export/",
            self.admin_site.admin_view(self.export_view),
            name="loyalty_customer_export",
        )
        return [export, *super().get_urls()]

    def _buttons(self, request: HttpRequest, thing: Any) -> list[dict[str, str]]:
        buttons = super()._buttons(request, thing)
        if self._may_export(request, thing):
            buttons.insert(0, {"label": "Export", "url": reverse("admin:loyalty_customer_export", args=[thing.pk])})
        return buttons

    def _may_export(self, request: HttpRequest, customer: Customer) -> bool:
        return self.may(request, ERASE, customer)

    def export_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, then download: a browser that looks ahead must not fetch somebody's whole life."""
        customer = self.get_object(request, unquote(object_id))
        if customer is None:
            raise Http404
        if not self._may_export(request, customer):
            raise PermissionDenied
        if request.method != "POST":
            return self._export_page(request, customer)
        document = export_customer(merchant=customer.merchant, customer_id=customer.pk, at=timezone.now())
        self.log_change(request, customer, "Export.")
        headers = {"Content-Disposition": f'attachment; filename="customer-{customer.pk}.json"'}
        return JsonResponse(document, json_dumps_params={"indent": 2}, headers=headers)

    def _export_page(self, request: HttpRequest, customer: Customer) -> HttpResponse:
        return form_page(
            self,
            request,
            forms.Form(),
            title="Export",
            subtitle=str(customer),
            intro="Downloads everything that is held about this customer as a JSON file. The admin's log notes that.",
            submit="Export",
            back=page_of(self, customer),
            thing=customer,
        )

    @admin.display(description="customer")
    def name(self, customer: Customer) -> str:
        return str(customer)

    @admin.display(description="cards")
    def cards(self, customer: Customer) -> SafeString | str:
        cards = customer.cards.select_related("balance").order_by("-pk")
        lines = [(link_to(card), card.get_status_display(), f"{card.balance.points_balance:,}") for card in cards[:20]]
        return format_html_join("\n", "<div>{} ({}), {} points</div>", lines) or "none"
