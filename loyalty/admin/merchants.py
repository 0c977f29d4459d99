"""Merchants and their stores."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from loyalty.admin.actions import Action, Outcome, WithActions
from loyalty.admin.screens import MerchantFilter, Screen, ScreenForm, ViewOnly, link_to
from loyalty.errors import InvalidInput, NothingToChange
from loyalty.models import (
    Card,
    Customer,
    ExpirationRun,
    Merchant,
    MerchantChange,
    Program,
    StaffMember,
    Store,
    Transaction,
)
from loyalty.services import merchants, setting_up
from loyalty.services.keys import require_text

ROWS_OF_A_MERCHANT: tuple[type[Model], ...] = (Store, Card, Customer, Transaction, ExpirationRun, StaffMember)


def deactivate(merchant: Merchant, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    merchants.deactivate_merchant(merchant=merchant, reason=answers["reason"], actor=actor, at=at)
    return Outcome("Switched off. Its cards cannot be used, and nothing expires.")


def restore(merchant: Merchant, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    merchants.restore_merchant(merchant=merchant, reason=answers["reason"], actor=actor, at=at)
    return Outcome("Switched on. Its customers are warned again before anything expires.")


DEACTIVATE = Action(
    slug="deactivate",
    label="Switch off",
    intro="Its tills are refused, nobody is warned and nothing expires. Nothing is deleted.",
    permission="loyalty.change_merchant",
    perform=deactivate,
    fits=lambda merchant: merchant.is_active,
)
RESTORE = Action(
    slug="restore",
    label="Switch on",
    intro="Brings back what was on before. Customers are warned again, in full time, before anything expires.",
    permission="loyalty.change_merchant",
    perform=restore,
    fits=lambda merchant: not merchant.is_active,
)


class MerchantForm(ScreenForm):
    def clean_name(self) -> str:
        try:
            return require_text(self.cleaned_data["name"], field="name")
        except InvalidInput as refusal:
            raise forms.ValidationError(refusal.sentence) from None


@admin.register(Merchant)
class MerchantAdmin(WithActions):
    menu = "Merchants"
    form = MerchantForm
    page_actions = (DEACTIVATE, RESTORE)
    merchant_path = "pk"
    list_display = ("name", "slug", "currency", "timezone", "country", "is_active")
    list_filter = ("is_active",)
    search_fields = ("slug__istartswith", "name__istartswith")
    search_help_text = "The beginning of a name or a slug."
    prepopulated_fields = {"slug": ("name",)}
    # Another slug would break commands and links.
    fixed_fields = ("slug",)
    fieldsets = (
        (None, {"fields": ("name", "slug", "is_active", "program_link", "rows")}),
        ("Where and how", {"fields": ("timezone", "currency", "country", "locale", "support_email")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Merchant | None = None) -> Any:
        if obj:
            return self.fieldsets
        (_, first), *rest = self.fieldsets
        return [(None, {**first, "fields": ("name", "slug")}), *rest]

    def get_readonly_fields(self, request: HttpRequest, obj: Merchant | None = None) -> tuple[str, ...]:
        fixed = (*super().get_readonly_fields(request, obj), "is_active", "program_link", "rows")
        return (*fixed, "currency") if obj and setting_up.is_currency_fixed(obj) else fixed

    def get_prepopulated_fields(self, request: HttpRequest, obj: Merchant | None = None) -> dict[str, Any]:
        return {} if obj else {"slug": ("name",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        # Others could not see what they added, having no membership of it.
        return bool(request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Merchant, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            return
        edited = {name: form.cleaned_data[name] for name in form.changed_data}
        # Nothing to change: the form was sent twice, or as it was.
        with suppress(NothingToChange):
            setting_up.update_merchant(merchant=obj, **edited, actor=request.user.get_username(), at=timezone.now())

    @admin.display(description="program")
    def program_link(self, merchant: Merchant) -> SafeString | str:
        return link_to(Program.objects.filter(merchant=merchant).first())

    @admin.display(description="see its")
    def rows(self, merchant: Merchant) -> SafeString:
        links = [
            (
                reverse(f"admin:loyalty_{model._meta.model_name}_changelist"),
                merchant.pk,
                model._meta.verbose_name_plural,
            )
            for model in ROWS_OF_A_MERCHANT
        ]
        return format_html_join(", ", '<a href="{}?merchant={}">{}</a>', links)


@admin.register(Store)
class StoreAdmin(Screen):
    menu = "Merchants"
    list_display = ("name", "code", "merchant", "is_active")
    list_select_related = ("merchant",)
    list_filter = ("is_active", MerchantFilter)
    search_fields = ("code__istartswith", "name__istartswith")
    search_help_text = "The beginning of a name or a code."
    autocomplete_fields = ("merchant",)
    fixed_fields = ("merchant",)
    fields = ("merchant", "name", "code", "is_active")


@admin.register(MerchantChange)
class MerchantChangeAdmin(ViewOnly):
    menu = "Merchants"
    list_display = ("merchant", "is_active", "reason", "actor", "changed_at")
    list_select_related = ("merchant",)
    list_filter = (MerchantFilter,)
    fields = list_display
