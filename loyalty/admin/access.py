"""Who may do what. Keys, tokens and PINs are neither shown nor typed here."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from loyalty.admin.screens import MerchantFilter, Screen, ScreenForm, ViewOnly
from loyalty.models import Membership, StaffMember, StaffSession, StoreApiKey, UserApiKey


class StaffMemberForm(ScreenForm):
    def clean(self) -> None:
        super().clean()
        merchant = self.cleaned_data.get("merchant") or getattr(self.instance, "merchant", None)
        stores = self.cleaned_data.get("stores")
        if merchant and stores is not None and stores.exclude(merchant=merchant).exists():
            self.add_error("stores", forms.ValidationError("Choose only stores of the same merchant."))


@admin.register(StaffMember)
class StaffMemberAdmin(Screen):
    menu = "Access"
    form = StaffMemberForm
    list_display = ("display_name", "merchant", "role", "is_active", "failed_attempts", "locked_until")
    list_select_related = ("merchant",)
    list_filter = ("role", "is_active", MerchantFilter)
    search_fields = ("display_name__istartswith",)
    search_help_text = "The beginning of a name."
    autocomplete_fields = ("merchant", "stores")
    fixed_fields = ("merchant",)
    readonly_fields = ("failed_attempts", "locked_until")
    fieldsets = (
        (None, {"fields": ("merchant", "display_name", "role", "stores", "is_active")}),
        ("PIN", {"fields": ("failed_attempts", "locked_until")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: StaffMember | None = None) -> Any:
        return self.fieldsets if obj else self.fieldsets[:1]


@admin.register(StaffSession)
class StaffSessionAdmin(ViewOnly):
    menu = "Access"
    merchant_path = "staff_member__merchant"
    list_display = ("staff_member", "store", "created_at", "expires_at")
    list_select_related = ("staff_member", "store")
    list_filter = (MerchantFilter,)
    fields = list_display


@admin.register(StoreApiKey)
class StoreApiKeyAdmin(ViewOnly):
    menu = "Access"
    merchant_path = "store__merchant"
    list_display = ("label", "prefix", "store", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("store",)
    list_filter = (MerchantFilter,)
    search_fields = ("prefix__startswith", "label__istartswith")
    search_help_text = "The beginning of a key or of a label."
    fields = list_display


@admin.register(UserApiKey)
class UserApiKeyAdmin(ViewOnly):
    """Keys belong to users, not to merchants: everybody sees their own, platform admins all."""

    menu = "Access"
    list_display = ("label", "prefix", "user", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    search_fields = ("prefix__startswith", "user__username__exact")
    search_help_text = "The beginning of a key, or exactly a user name."
    fields = list_display

    def get_queryset(self, request: HttpRequest) -> QuerySet[UserApiKey]:
        keys = admin.ModelAdmin.get_queryset(self, request)
        return keys if request.user.is_superuser else keys.filter(user=request.user.pk)


@admin.register(Membership)
class MembershipAdmin(Screen):
    menu = "Access"
    list_display = ("user", "merchant", "role")
    list_select_related = ("user", "merchant")
    list_filter = ("role", MerchantFilter)
    search_fields = ("user__username__istartswith",)
    search_help_text = "The beginning of a user name."
    autocomplete_fields = ("user", "merchant")

    def has_delete_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        """The one thing that is deleted here: without its row, a user sees nothing of a merchant any more."""
        may = admin.ModelAdmin.has_delete_permission(self, request, obj)
        return may and (obj is None or self.has_change_permission(request, obj))
