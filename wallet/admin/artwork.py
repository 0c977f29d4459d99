"""The logos that merchants give their passes."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from loyalty.admin.actions import Action, Outcome, WithActions
from loyalty.admin.screens import MerchantFilter, ScreenForm, ViewOnly, link_to, minute_of
from wallet import drawing
from wallet.errors import InvalidLogo
from wallet.models import Artwork
from wallet.services.artwork import logo_of, remove_logo, replace_logo

MAY_CHANGE = "wallet.change_artwork"
TOLD = "Phones are told within minutes."
FORMATS = "image/png,image/jpeg,image/webp"
WHICH = (
    "PNG, JPEG or WebP, at most 2 MB and 4096 x 4096 pixels. It is drawn anew to fit 480 x 150 pixels, "
    "and stands on the background colour of the card."
)


class LogoForm(forms.Form):
    """A picture, cleaned to its bytes."""

    picture = forms.FileField(help_text=WHICH, widget=forms.FileInput({"accept": FORMATS}))

    def clean_picture(self) -> bytes:
        upload: bytes = self.cleaned_data["picture"].read(drawing.LARGEST_UPLOAD_BYTES + 1)
        try:
            drawing.read_logo(upload)
        except InvalidLogo as refusal:
            raise forms.ValidationError(refusal.sentence) from None
        return upload


class NewLogoForm(LogoForm, ScreenForm):
    def validate_unique(self) -> None:
        """A logo that the program has is replaced."""


def replace(artwork: Artwork, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    replace_logo(program=artwork.program, upload=answers["picture"], actor=actor, at=at)
    return Outcome(f"Replaced. {TOLD}")


def remove(artwork: Artwork, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    remove_logo(program=artwork.program, actor=actor, at=at)
    return Outcome(f"Removed: passes show our own logo again. {TOLD}")


REPLACE = Action(
    slug="replace",
    label="Replace logo",
    intro="Passes of all cards of the program show this logo from now on.",
    permission=MAY_CHANGE,
    form=LogoForm,
    perform=replace,
)
REMOVE = Action(
    slug="remove",
    label="Remove logo",
    intro="Passes of all cards of the program show our own logo again.",
    permission=MAY_CHANGE,
    form=forms.Form,
    perform=remove,
    fits=lambda artwork: artwork.digest != "",
)


@admin.register(Artwork)
class ArtworkAdmin(WithActions, ViewOnly):
    menu = "Wallet"
    merchant_path = "program__merchant"
    page_actions = (REPLACE, REMOVE)
    list_display = ("program", "merchant", "which", "version", "changed", "uploaded_by")
    list_filter = (MerchantFilter,)
    search_fields = ("program__name__istartswith", "program__merchant__name__istartswith")
    search_help_text = "The beginning of the name of a card or a merchant."
    autocomplete_fields = ("program",)
    fields = ("program_link", "merchant", "which", "preview", "version", "changed", "uploaded_by")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Artwork]:
        shown: QuerySet[Artwork] = super().get_queryset(request)
        return shown.select_related("program__merchant").defer("logo")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_fieldsets(self, request: HttpRequest, obj: Artwork | None = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else [(None, {"fields": ("program", "picture")})]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs, **({} if obj else {"form": NewLogoForm}))

    def save_model(self, request: HttpRequest, obj: Artwork, form: Any, change: bool) -> None:
        upload, actor = form.cleaned_data["picture"], request.user.get_username()
        former, _ = logo_of(obj.program)
        artwork = replace_logo(program=obj.program, upload=upload, actor=actor, at=timezone.now())
        if former and former != artwork.digest:
            sentence = f"{obj.program} had a logo; this one has replaced it. {TOLD}"
            self.message_user(request, sentence, messages.WARNING)

    @admin.display(description="program")
    def program_link(self, artwork: Artwork) -> SafeString | str:
        return link_to(artwork.program)

    @admin.display(description="merchant")
    def merchant(self, artwork: Artwork) -> str:
        return artwork.program.merchant.name

    @admin.display(description="passes show")
    def which(self, artwork: Artwork) -> str:
        return "the merchant's own logo" if artwork.digest else "ours"

    @admin.display(description="on the card")
    def preview(self, artwork: Artwork) -> SafeString:
        # Drawn and not styled: a page takes no style of its own.
        return format_html(
            '<svg class="logo" viewBox="0 0 560 190" role="img" aria-label="The logo on the card\'s colour">'
            '<rect width="560" height="190" rx="16" fill="{}"/>'
            '<image x="40" y="20" href="data:image/png;base64,{}"/>'
            "</svg>",
            artwork.program.background_colour,
            b64encode(bytes(artwork.logo) or drawing.emblem(150)).decode(),
        )

    @admin.display(description="changed (UTC)")
    def changed(self, artwork: Artwork) -> str:
        return minute_of(artwork.uploaded_at)
