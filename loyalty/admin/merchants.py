"""Merchants and their stores."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from loyalty.admin.screens import MerchantFilter, Screen, ViewOnly, link_to
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

ROWS_OF_A_MERCHANT: tuple[type[Model], ...] = (Store, Card, Customer, Transaction, ExpirationRun, StaffMember)


@admin.register(Merchant)
class MerchantAdmin(Screen):
    menu = "Merchants"
    merchant_path = "pk"
    list_display = ("name", "slug", "currency", "timezone", "country", "is_active")
    list_filter = ("is_active",)
    search_fields = ("slug__istartswith", "name__istartswith")
    search_help_text = "The beginning of a name or a slug."
    prepopulated_fields = {"slug": ("name",)}
    fieldsets = (
        (None, {"fields": ("name", "slug", "is_active", "program_link", "rows")}),
        ("Where and how", {"fields": ("timezone", "currency", "country", "locale", "support_email")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Merchant | None = None) -> Any:
        if obj:
            return self.fieldsets
        (_, first), *rest = self.fieldsets
        return [(None, {**first, "fields": ("name", "slug", "is_active")}), *rest]

    def get_readonly_fields(self, request: HttpRequest, obj: Merchant | None = None) -> tuple[str, ...]:
        fixed = ("program_link", "rows")
        if obj and Transaction.objects.filter(merchant=obj).exists():
            # Points were earned and amounts written down in it.
            return (*fixed, "currency")
        return fixed

    def get_prepopulated_fields(self, request: HttpRequest, obj: Merchant | None = None) -> dict[str, Any]:
        # Only while typing a new one: a slug that changes breaks commands and links.
        return {} if obj else {"slug": ("name",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        # Others could not see what they added, having no membership of it.
        return bool(request.user.is_superuser)

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
