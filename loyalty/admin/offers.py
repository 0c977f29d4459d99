"""What makes a program attractive: campaigns and rewards."""

from django import forms
from django.contrib import admin

from loyalty.admin.screens import MerchantFilter, Screen, ScreenForm
from loyalty.models import Campaign, Reward


class CampaignForm(ScreenForm):
    def clean(self) -> None:
        super().clean()
        program = self.cleaned_data.get("program") or getattr(self.instance, "program", None)
        stores = self.cleaned_data.get("stores")
        if program and stores is not None and stores.exclude(merchant=program.merchant_id).exists():
            self.add_error("stores", forms.ValidationError("Choose only stores of the program's merchant."))


@admin.register(Campaign)
class CampaignAdmin(Screen):
    menu = "Merchants"
    merchant_path = "program__merchant"
    form = CampaignForm
    list_display = ("name", "program", "multiplier", "bonus_points", "starts_at", "ends_at", "is_active")
    list_select_related = ("program",)
    list_filter = ("is_active", MerchantFilter)
    search_fields = ("name__istartswith",)
    search_help_text = "The beginning of a name."
    autocomplete_fields = ("program", "stores")
    fixed_fields = ("program",)
    fieldsets = (
        (None, {"fields": ("program", "name", "is_active")}),
        ("What it gives", {"fields": ("multiplier", "bonus_points", "minimum_purchase_minor")}),
        ("When and where", {"fields": ("starts_at", "ends_at", "weekdays", "stores")}),
    )


@admin.register(Reward)
class RewardAdmin(Screen):
    menu = "Merchants"
    merchant_path = "program__merchant"
    list_display = ("name", "program", "points_cost", "stock", "active_from", "active_to", "is_active")
    list_select_related = ("program",)
    list_filter = ("is_active", MerchantFilter)
    search_fields = ("name__istartswith",)
    search_help_text = "The beginning of a name."
    autocomplete_fields = ("program",)
    fixed_fields = ("program",)
    fields = ("program", "name", "points_cost", "stock", "active_from", "active_to", "is_active")
