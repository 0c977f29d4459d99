"""What all screens have in common: whose rows they show, what may be changed, and lists that stay fast."""

from datetime import date, datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Model, Q, QuerySet
from django.db.models.fields.related import RelatedField
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from loyalty.models import Merchant
from notifications.admin import EstimatedCountPaginator

MERCHANTS_IN_FILTER = 25


def link_to(thing: Model | None, text: object = None) -> SafeString | str:
    """A link to the page of a thing, or a dash where there is none."""
    if thing is None:
        return "-"
    page = reverse(f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=[thing.pk])
    return format_html('<a href="{}">{}</a>', page, thing if text is None else text)


def day_of(moment: date) -> str:
    """A day as sentences about a card write it."""
    return date_format(moment)


def minute_of(moment: datetime | None) -> str:
    """A moment in UTC, short enough for a column."""
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with what it counts: 1 card, 2,000 cards."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class ScreenForm(forms.ModelForm):  # type: ignore[type-arg]
    def validate_unique(self) -> None:
        """Ask the constraints again, with the fields that are shown and not editable: a merchant, say."""
        super().validate_unique()
        if not self.errors:
            try:
                self.instance.validate_constraints()
            except ValidationError as refusal:
                self.add_error(None, refusal)


class Screen(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows of the merchants that the user looks after. Nothing is deleted: it has, or will have, a history.

    `merchant_path` leads from a row to its merchant; `menu` is the heading under which the index lists it;
    `fixed_fields` are chosen once, when a row is added.
    """

    menu: ClassVar[str] = "Loyalty"
    merchant_path: ClassVar[str] = "merchant"
    fixed_fields: ClassVar[tuple[str, ...]] = ()

    form = ScreenForm
    paginator = EstimatedCountPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    ordering = ("-pk",)
    sortable_by = ()
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        return self.of_merchants(rows, Merchant.objects.readable_by(request.user))

    def of_merchants(self, rows: "QuerySet[Any]", merchants: "QuerySet[Merchant]") -> "QuerySet[Any]":
        return rows.filter(**{f"{self.merchant_path}__in": merchants})

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(
            request, {"title": capfirst(self.opts.verbose_name_plural), **(extra_context or {})}
        )

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[Any]", search_term: str
    ) -> "tuple[QuerySet[Any], bool]":
        text = search_term.replace("\0", "").strip()
        found = self.found(request, text) if text else None
        if found is None:
            return super().get_search_results(request, queryset, text)
        return queryset.filter(found), False

    def found(self, request: HttpRequest, text: str) -> Q | None:
        """What a search means on this screen; None leaves it to `search_fields`."""
        return None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not super().has_change_permission(request, obj):
            return False
        if obj is None or request.user.is_superuser:
            return True
        row = self.model._default_manager.filter(pk=obj.pk)
        return self.of_merchants(row, Merchant.objects.managed_by(request.user)).exists()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write only what was edited: the rest, such as a stock, may have moved since the page was opened."""
        columns = {field.name for field in obj._meta.concrete_fields}
        obj.save(update_fields=columns & set(form.changed_data) if change else None)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), *(self.fixed_fields if obj else ()))

    def get_field_queryset(
        self, db: str | None, db_field: "RelatedField[Any, Any]", request: HttpRequest
    ) -> "QuerySet[Any] | None":
        """What can be chosen for a relation: only what belongs to a merchant that the user manages."""
        related = self.admin_site._registry.get(db_field.remote_field.model)
        choices = super().get_field_queryset(db, db_field, request)
        if request.user.is_superuser or not isinstance(related, Screen):
            return choices
        rows = related.model._default_manager.all() if choices is None else choices
        return related.of_merchants(rows, Merchant.objects.managed_by(request.user))


class ViewOnly(Screen):
    """Rows that verbs write and nobody edits."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MerchantFilter(admin.SimpleListFilter):
    """Rows of one merchant. With very many merchants only some are listed; a merchant's page links to its rows."""

    title = "merchant"
    parameter_name = "merchant"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: Any) -> None:
        self.path = model_admin.merchant_path
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        merchants = Merchant.objects.readable_by(request.user).order_by("name").values_list("pk", "name")
        return [(str(pk), name) for pk, name in merchants[:MERCHANTS_IN_FILTER]]

    def has_output(self) -> bool:
        return len(self.lookup_choices) > 1

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        chosen = self.value()
        if chosen is None:
            return queryset
        if not (chosen.isascii() and chosen.isdigit() and len(chosen) < 19):
            raise IncorrectLookupParameters
        return queryset.filter(**{self.path: int(chosen)})
