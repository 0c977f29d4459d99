"""Files of cards that were imported, and the lines that still wait."""

from django.contrib import admin

from loyalty.admin.screens import MerchantFilter, ViewOnly
from loyalty.models import CardImport, CardImportRow


@admin.register(CardImport)
class CardImportAdmin(ViewOnly):
    menu = "Records"
    list_display = ("file_name", "merchant", "actor", "rows", "imported", "skipped", "created_at", "finished_at")
    list_select_related = ("merchant",)
    list_filter = (MerchantFilter,)
    search_fields = ("file_name__istartswith",)
    search_help_text = "The beginning of a file name."
    fields = (*list_display, "sha256")


@admin.register(CardImportRow)
class CardImportRowAdmin(ViewOnly):
    """Lines are deleted when their import ends, so a long list is an interrupted import."""

    menu = "Records"
    merchant_path = "card_import__merchant"
    list_display = ("line", "card_import", "external_id", "problems")
    list_select_related = ("card_import",)
    list_filter = (MerchantFilter,)
    fields = (
        *("card_import", "line", "external_id", "first_name", "last_name", "email", "phone", "birth_date", "locale"),
        *("points", "stamps", "last_activity_on", "problems"),
    )
