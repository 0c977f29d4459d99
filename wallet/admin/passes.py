"""Passes: which card each shows, how true it is, and telling phones again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Count, Max, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from loyalty.admin.actions import Action, Outcome, WithActions
from loyalty.admin.screens import MerchantFilter, Screen, ViewOnly, counted, link_to, minute_of
from loyalty.models import Card, Merchant
from wallet.admin.resting import rest_in_full, rest_in_short, with_rest
from wallet.models import Pass, Platform
from wallet.models.passes import PassQuerySet
from wallet.services.passes import WAITING, Condition, condition_of, sync_again

MAY_SYNC = "wallet.sync_pass"
MOST_AT_ONCE = 500
FOUND_AT_MOST = 100
TOLD = "Phones are told within a minute."


def tell_again(wallet_pass: Pass, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    sync_again(passes=Pass.objects.filter(pk=wallet_pass.pk), at=at)
    return Outcome(TOLD)


SYNC_AGAIN = Action(
    slug="sync-again",
    label="Sync again",
    intro="Lets the next run tell phones what the card shows now, whatever they were told before. "
    "Failed attempts are forgotten.",
    permission=MAY_SYNC,
    form=forms.Form,
    perform=tell_again,
    fits=lambda wallet_pass: wallet_pass.is_in_phones,
)


class TroubleFilter(admin.SimpleListFilter):
    """Failing ones are few and have an index. Those behind, failing ones among them, take a look at every pass."""

    title = "trouble"
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("behind", "Behind"), ("failing", "Failing"), ("given-up", "Given up")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Pass]) -> QuerySet[Pass]:
        passes = cast(PassQuerySet, queryset)
        if self.value() is None:
            return passes
        if self.value() == "behind":
            return passes.stale()
        return passes.failing().filter(dead_at__isnull=self.value() != "given-up")


@admin.register(Pass)
class PassAdmin(WithActions, ViewOnly):
    menu = "Wallet"
    merchant_path = "card__program__merchant"
    page_actions = (SYNC_AGAIN,)
    actions = ("sync_selected_again",)
    list_display = ("number", "merchant", "platform", "condition", "shows", "why", "next_attempt")
    list_filter = (TroubleFilter, "platform", "status", MerchantFilter)
    search_fields = ("identifier__exact",)
    search_help_text = (
        "Exactly: a card number, a customer's e-mail address, phone number (+352...) or external id, "
        "or the serial number or object id of a pass."
    )
    fieldsets = (
        (None, {"fields": ("card_link", "merchant", "platform", "status", "condition")}),
        ("What phones were told", {"fields": ("shows", "look_shown", "synced", "calls")}),
        (
            "What went wrong",
            {"fields": ("problem_in_full", "failed", "attempts", "next_attempt", "dead")},
        ),
        ("Who has it", {"fields": ("phones", "created")}),
        ("Its names", {"fields": ("identifier", "issued_under"), "classes": ("collapse",)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Pass | None = None) -> Any:
        if obj is None or obj.last_error_code:
            return self.fieldsets
        return [fieldset for fieldset in self.fieldsets if "problem_in_full" not in fieldset[1]["fields"]]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Pass]:
        return with_rest(cast(PassQuerySet, super().get_queryset(request)).shown(), request)

    def found(self, request: HttpRequest, text: str) -> Q:
        cards = cast(Screen, self.admin_site._registry[Card]).found(request, text)
        of_cards = Card.objects.filter(cast(Q, cards)).values_list("pk", flat=True)[:FOUND_AT_MOST]
        return Q(card__in=list(of_cards)) | Q(identifier=text)

    def has_sync_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(MAY_SYNC)

    @admin.action(description="Sync selected passes again", permissions=["sync"])
    def sync_selected_again(self, request: HttpRequest, queryset: QuerySet[Pass]) -> None:
        ids = list(queryset.values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        if len(ids) > MOST_AT_ONCE:
            sentence = f"Choose at most {MOST_AT_ONCE} passes. For more, use the command manage.py sync_passes."
            self.message_user(request, sentence, messages.ERROR)
            return
        managed = Merchant.objects.managed_by(request.user)
        chosen = Pass.objects.filter(pk__in=ids, card__program__merchant__in=managed)
        LogEntry.objects.log_actions(cast(int, request.user.pk), chosen.in_phones(), CHANGE, f"{SYNC_AGAIN.label}.")
        told = sync_again(passes=chosen, at=timezone.now())
        self.message_user(request, f"{counted(told, 'pass', 'passes')} will be told again within a minute.")
        if left := len(ids) - told:
            sentence = f"Left {counted(left, 'pass', 'passes')} alone that no phone has, or that you do not manage."
            self.message_user(request, sentence, messages.WARNING)

    @admin.display(description="card")
    def number(self, wallet_pass: Pass) -> str:
        return wallet_pass.card.card_number

    @admin.display(description="card")
    def card_link(self, wallet_pass: Pass) -> SafeString | str:
        return link_to(wallet_pass.card)

    @admin.display(description="merchant")
    def merchant(self, wallet_pass: Pass) -> str:
        return wallet_pass.card.program.merchant.name

    @admin.display(description="how it is")
    def condition(self, wallet_pass: Pass) -> SafeString | str:
        condition = condition_of(wallet_pass)
        if condition is Condition.GIVEN_UP:
            return format_html('<span class="status failed">{}</span>', condition.label)
        return str(condition.label)

    @admin.display(description="version")
    def shows(self, wallet_pass: Pass) -> str:
        shown = _of(wallet_pass.synced_version, wallet_pass.card.balance.version)
        return f"{shown}, older look" if wallet_pass.synced_look < wallet_pass.newest_look else shown

    @admin.display(description="look shown")
    def look_shown(self, wallet_pass: Pass) -> str:
        return _of(wallet_pass.synced_look, wallet_pass.newest_look)

    @admin.display(description="why")
    def why(self, wallet_pass: Any) -> SafeString | str:
        code = wallet_pass.last_error_code
        if wallet_pass.rests_since is None or condition_of(wallet_pass) not in WAITING:
            return code or "-"
        rest = rest_in_short(wallet_pass)
        return format_html("{}; {}", code, rest) if code else rest

    @admin.display(description="calls")
    def calls(self, wallet_pass: Pass) -> SafeString | str:
        return rest_in_full(wallet_pass)

    @admin.display(description="last problem")
    def problem_in_full(self, wallet_pass: Pass) -> str:
        if not wallet_pass.last_error_code:
            return "none"
        return f"{wallet_pass.last_error_code}: {wallet_pass.last_error}"

    @admin.display(description="failed (UTC)")
    def failed(self, wallet_pass: Pass) -> str:
        return minute_of(wallet_pass.last_error_at)

    @admin.display(description="next try (UTC)")
    def next_attempt(self, wallet_pass: Pass) -> str:
        return minute_of(wallet_pass.next_attempt_at)

    @admin.display(description="given up (UTC)")
    def dead(self, wallet_pass: Pass) -> str:
        return minute_of(wallet_pass.dead_at)

    @admin.display(description="told (UTC)")
    def synced(self, wallet_pass: Pass) -> str:
        return minute_of(wallet_pass.synced_at)

    @admin.display(description="made (UTC)")
    def created(self, wallet_pass: Pass) -> str:
        return minute_of(wallet_pass.created_at)

    @admin.display(description="phones")
    def phones(self, wallet_pass: Pass) -> str:
        if wallet_pass.platform == Platform.GOOGLE:
            return _who_saved(wallet_pass)
        found = wallet_pass.registrations.aggregate(phones=Count("pk"), newest=Max("registered_at"))
        if not found["phones"]:
            return "No phone asks to be told of changes."
        newest = minute_of(found["newest"])
        return f"{counted(found['phones'], 'phone')} to be told of changes; the newest since {newest} (UTC)."


def _who_saved(wallet_pass: Pass) -> str:
    if not wallet_pass.saved:
        return "No customer has saved it."
    if not settings.GOOGLE_CALLBACKS:
        return "Its link was opened; Google does not tell us who keeps it."
    return "A customer has saved it."


def _of(shown: int, newest: int) -> str:
    return f"{shown:,}" if shown == newest else f"{shown:,} of {newest:,}"
