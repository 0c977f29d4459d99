"""Programs: their rules, and when points expire, which changes only after its impact was shown."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date

from loyalty.admin.actions import form_page
from loyalty.admin.screens import MerchantFilter, Screen, ScreenForm, ViewOnly, counted, day_of, minute_of
from loyalty.errors import ConfirmationRequired, InvalidInput, InvalidPolicy, NothingToChange
from loyalty.models import PolicyChange, Program
from loyalty.services import policies, programs
from loyalty.services.keys import require_text
from loyalty.services.policies import POLICY_FIELDS, PolicyTerms
from loyalty.services.programs import ProgramSettings


class ProgramForm(ScreenForm):
    terms: PolicyTerms | None = None

    class Meta:
        labels: ClassVar = {
            "points_expiration_days": "Points expire after (days)",
            "expiration_warning_days": "Warned before (days)",
            "require_expiration_notice": "Only after a warning",
            "expiration_paused_until": "Paused until",
        }

    def clean_name(self) -> str:
        return self._text("name")

    def clean_stamps_reward(self) -> str:
        return self._text("stamps_reward")

    def _text(self, name: str) -> str:
        try:
            return require_text(self.cleaned_data[name], field=name)
        except InvalidInput as refusal:
            raise forms.ValidationError(refusal.sentence) from None

    def clean(self) -> None:
        super().clean()
        if not self.cleaned_data.keys() >= POLICY_FIELDS:
            return
        self.terms = PolicyTerms(**{name: self.cleaned_data[name] for name in POLICY_FIELDS})
        try:
            policies.validate_terms(self.terms)
        except InvalidPolicy as refusal:
            self.add_error("points_expiration_days", refusal.sentence)


class PolicyConfirmation(forms.Form):
    """What comes back from the page that shows the impact."""

    confirmed_cards = forms.IntegerField(min_value=0, widget=forms.HiddenInput)
    policy_reason = forms.CharField(
        label="Why",
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text="Optional. Kept with the change.",
    )


class _Unconfirmed(Exception):
    """Ends the saving of the form when its policy needs a confirmation first."""

    def __init__(self, program: Program, terms: PolicyTerms, impact: dict[str, Any]) -> None:
        super().__init__()
        self.program, self.terms, self.impact = program, terms, impact


def policy_in_words(policy: Mapping[str, Any]) -> str:
    """A policy as it is kept with its changes, such as "180 days, warned 14 days before"."""
    if not policy["points_expiration_days"]:
        return "never"
    words = f"{policy['points_expiration_days']} days, warned {policy['expiration_warning_days']} days before"
    if not policy["require_expiration_notice"]:
        words += ", also without a notice"
    paused = parse_date(policy["expiration_paused_until"] or "")
    return f"{words}, paused until {day_of(paused)}" if paused else words


@admin.register(Program)
class ProgramAdmin(Screen):
    menu = "Merchants"
    form = ProgramForm
    change_form_template = "admin/loyalty/program/change_form.html"
    list_display = ("name", "merchant", "kind", "points_expiration_days", "expiration_warning_days", "is_active")
    list_select_related = ("merchant",)
    list_filter = ("kind", "is_active", MerchantFilter)
    search_fields = ("name__istartswith", "merchant__slug__istartswith", "merchant__name__istartswith")
    search_help_text = "The beginning of the name of a card or a merchant."
    autocomplete_fields = ("merchant",)
    fixed_fields = ("merchant",)
    fieldsets = (
        (None, {"fields": ("merchant", "name", "kind", "is_active")}),
        (
            "When points expire",
            {
                "fields": (
                    "points_expiration_days",
                    "expiration_warning_days",
                    "require_expiration_notice",
                    "expiration_paused_until",
                ),
                "description": "A change that takes points sooner first shows what it means, and asks.",
            },
        ),
        (
            "Earning",
            {
                "fields": (
                    *("points_per_unit", "minimum_purchase_minor", "welcome_bonus_points"),
                    *("max_points_per_transaction", "max_daily_earns"),
                )
            },
        ),
        ("Redeeming", {"fields": ("minimum_redemption_points", "point_value_minor")}),
        ("Stamps", {"fields": ("stamps_target", "stamps_reward", "cooldown_minutes", "max_daily_stamps")}),
        (
            "At the till",
            {
                "fields": (
                    *("staff_pin_policy", "pin_attempts", "pin_lock_minutes", "allow_void", "void_window_hours"),
                    *("refund_policy", "require_receipt_number", "allow_self_enrollment", "allow_cross_store"),
                    "log_client_address",
                ),
                "classes": ("collapse",),
            },
        ),
        (
            "How the card looks",
            {
                "fields": (
                    *("barcode", "background_colour", "text_colour", "logo_url"),
                    *("terms_text", "terms_url", "privacy_url"),
                ),
                "classes": ("collapse",),
            },
        ),
    )

    def get_form(self, request: HttpRequest, obj: Program | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        warning = form.base_fields.get("expiration_warning_days")
        if warning and obj:
            warning.help_text = f"{warning.help_text} {policies.notice_hint(obj.merchant)}".strip()
        return form

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        program = self.get_object(request, unquote(object_id))
        changes = PolicyChange.objects.filter(program=program).order_by("-pk")[:5]
        context = {"policy_changes": [_change_in_words(change) for change in changes]}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except _Unconfirmed as asked:
            # Nothing of the form was saved: its transaction ended with the refusal.
            return self._ask(request, asked)

    def save_model(self, request: HttpRequest, obj: Program, form: Any, change: bool) -> None:
        if not change:
            obj.save()
            return
        changed = set(form.changed_data)
        if changed & POLICY_FIELDS:
            self._change_policy(request, obj, form.terms)
        if rules := changed - POLICY_FIELDS:
            self._change_rules(obj, {name: form.cleaned_data[name] for name in rules})

    def _change_rules(self, program: Program, rules: dict[str, Any]) -> None:
        try:
            programs.update_program(program=program, settings=cast(ProgramSettings, rules))
        except NothingToChange:
            # Somebody else, or the same form sent twice, has made this change.
            return

    def _change_policy(self, request: HttpRequest, program: Program, terms: PolicyTerms) -> None:
        confirmation = PolicyConfirmation(request.POST)
        answers = confirmation.cleaned_data if confirmation.is_valid() else {}
        try:
            policies.change_policy(
                program_id=program.pk,
                terms=terms,
                actor=request.user.get_username(),
                at=timezone.now(),
                confirmed_cards=answers.get("confirmed_cards"),
                reason=answers.get("policy_reason", ""),
            )
        except ConfirmationRequired as refusal:
            raise _Unconfirmed(program, terms, refusal.details["impact"]) from refusal
        except NothingToChange:
            # Somebody else, or the same form sent twice, has made this change.
            return

    def _ask(self, request: HttpRequest, asked: _Unconfirmed) -> HttpResponse:
        """The page between: what the change means, and the same form again with the number to confirm."""
        impact, first_loss_on = asked.impact, parse_date(asked.impact["first_loss_on"] or "")
        program = Program.objects.select_related("merchant").get(pk=asked.program.pk)
        asked_again = "confirmed_cards" in request.POST
        answers = {**request.POST.dict(), "confirmed_cards": str(impact["cards_past_limit"])}
        confirmation = PolicyConfirmation(answers) if asked_again else PolicyConfirmation(initial=answers)
        kept = [item for item in request.POST.lists() if item[0] not in ("csrfmiddlewaretoken", *confirmation.fields)]
        return form_page(
            self,
            request,
            confirmation,
            template="admin/loyalty/program/confirm_policy.html",
            title="Points would expire sooner",
            subtitle=f"{program}, {program.merchant}",
            thing=program,
            before=policy_in_words(PolicyTerms.of(program).as_json()),
            after=policy_in_words(asked.terms.as_json()),
            cards=f"{impact['cards_past_limit']:,}",
            points=f"{impact['points_past_limit']:,}",
            warnings=f"{impact['warnings']:,}",
            first_loss_on=day_of(first_loss_on) if first_loss_on else "none",
            asked_again=asked_again,
            answers=[(name, value) for name, values in kept for value in values],
            confirm=f"Yes, change it for {counted(impact['cards_past_limit'], 'card')}",
            back=reverse("admin:loyalty_program_change", args=[program.pk]),
        )


def _change_in_words(change: PolicyChange) -> dict[str, Any]:
    return {
        "when": minute_of(change.changed_at),
        "actor": change.actor,
        "reason": change.reason,
        "before": policy_in_words(change.old_policy),
        "after": policy_in_words(change.new_policy),
        "cards": change.impact.get("cards_past_limit", 0),
    }


@admin.register(PolicyChange)
class PolicyChangeAdmin(ViewOnly):
    menu = "Expiry"
    merchant_path = "program__merchant"
    list_display = ("changed", "program", "before", "after", "cards_past_limit", "actor", "reason")
    list_select_related = ("program",)
    list_filter = (MerchantFilter,)
    fields = ("program", "changed_at", "before", "after", "actor", "reason", "impact")

    @admin.display(description="when (UTC)")
    def changed(self, change: PolicyChange) -> str:
        return minute_of(change.changed_at)

    @admin.display(description="points expired after")
    def before(self, change: PolicyChange) -> str:
        return policy_in_words(change.old_policy)

    @admin.display(description="now after")
    def after(self, change: PolicyChange) -> str:
        return policy_in_words(change.new_policy)

    @admin.display(description="cards past the limit then")
    def cards_past_limit(self, change: PolicyChange) -> str:
        return f"{change.impact.get('cards_past_limit', 0):,}"
