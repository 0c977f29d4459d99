"""Cards: their facts, their story in words, and what may be done to one by hand, or to several."""

from collections import Counter
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from loyalty.admin import card_actions
from loyalty.admin.actions import Action, ReasonForm, WithActions, add_refusal, form_page
from loyalty.admin.card_actions import MAY_CHANGE, MERGE, MergeForm, TargetForm
from loyalty.admin.card_sections import sections_of
from loyalty.admin.screens import MerchantFilter, ViewOnly, counted, day_of, link_to
from loyalty.errors import LoyaltyError
from loyalty.models import Card, CardBalance, ExemptionChange, Merchant
from loyalty.services import bulk, merging
from loyalty.services.explaining import Movement, explain, keeps_until
from loyalty.services.finding import look_up
from loyalty.services.searching import card_ids, cards_called

# Each is a field of the form, and Django takes no form with more than 1,000.
MOST_AT_ONCE = 500


class SuspendSelectedForm(ReasonForm):
    """The page between the list and its action: the same choice again, with a reason."""

    action = forms.CharField(widget=forms.HiddenInput)
    _selected_action = forms.Field(widget=forms.MultipleHiddenInput)


def _movement(movement: Movement) -> dict[str, str]:
    return {
        "url": reverse("admin:loyalty_transaction_change", args=[movement.transaction_id]),
        "day": day_of(movement.happened_on),
        "sentence": movement.sentence,
        "points": f"{movement.points_delta:+,}" if movement.points_delta else "",
        "balance": f"{movement.points_balance_after:,}",
    }


def _chosen(request: HttpRequest, cards: list[Card]) -> dict[str, Any]:
    return {"action": request.POST.get("action"), "_selected_action": [card.pk for card in cards]}


@admin.register(Card)
class CardAdmin(WithActions, ViewOnly):
    menu = "Cards"
    merchant_path = "program__merchant"
    page_actions = (
        *(card_actions.RESTORE, card_actions.ADJUST, card_actions.EXEMPT, card_actions.END_EXEMPTION),
        *(card_actions.SUSPEND, card_actions.REACTIVATE, card_actions.REPLACE, MERGE, card_actions.CLOSE),
    )
    actions = ("suspend_selected",)
    change_form_template = "admin/loyalty/card/change_form.html"

    list_display = ("card_number", "holder", "merchant", "state", "points", "last_activity", "last_day")
    list_filter = ("status", "expiration_exempt", MerchantFilter)
    search_fields = ("card_number__exact",)
    search_help_text = "Exactly: a card number, an e-mail address, a phone number (+352...) or an external id."
    fieldsets = (
        (None, {"fields": ("card_number", "holder", "merchant", "program", "state", "merged_into")}),
        ("Points", {"fields": ("points", "stamps", "lifetime", "last_activity", "last_day", "warned")}),
        ("Beginnings", {"fields": ("created_at", "enrolled_at_store")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Card | None = None) -> Any:
        if obj and obj.merged_into_id:
            return self.fieldsets
        (_, first), *rest = self.fieldsets
        return [(None, {"fields": [name for name in first["fields"] if name != "merged_into"]}), *rest]

    def found(self, request: HttpRequest, text: str) -> Q:
        return cards_called(text, merchants=Merchant.objects.readable_by(request.user))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Card]:
        return super().get_queryset(request).select_related("customer", "program__merchant", "balance")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        card = self.get_object(request, unquote(object_id))
        context: dict[str, Any] = {}
        if card:
            told = explain(merchant=card.program.merchant, card_id=card.pk, at=timezone.now())
            context = {
                "title": "Card",
                "story": told,
                "movements": [_movement(movement) for movement in told.movements],
                "exemptions": list(ExemptionChange.objects.filter(card=card).order_by("-pk")[:5]),
                "transactions_url": f"{reverse('admin:loyalty_transaction_changelist')}?card={card.pk}",
                "sections": sections_of(request, card),
                "messages_url": f"{reverse('admin:notifications_message_changelist')}?q={card.pk}",
            }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def _form_page(self, request: HttpRequest, thing: Any, action: Action, form: forms.Form) -> HttpResponse:
        if action is MERGE and not form.is_bound:
            return self._choose_target(request, thing)
        return super()._form_page(request, thing, action, form)

    def _choose_target(self, request: HttpRequest, card: Card) -> HttpResponse:
        """Which card takes over; once that is known, what would move, and the form that does it. Reads only."""
        form = TargetForm(request.GET if "other" in request.GET else None)
        page: dict[str, Any] = {
            "title": "Merge into another card",
            "subtitle": str(card),
            "intro": MERGE.intro,
            "back": reverse("admin:loyalty_card_change", args=[card.pk]),
            "thing": card,
        }
        if form.is_bound and form.is_valid():
            try:
                target = look_up(merchant=card.program.merchant, q=form.cleaned_data["other"])
                report = merging.preview_merge(
                    merchant=card.program.merchant, source_id=card.pk, target_id=target.pk, at=timezone.now()
                )
            except LoyaltyError as refusal:
                add_refusal(form, refusal)
            else:
                page |= {"facts": card_actions.foreseen(card, target, report), "seen_version": card.balance.version}
                return form_page(self, request, MergeForm(initial={"target": target.pk}), submit=MERGE.label, **page)
        page |= {"facts": card_actions.story(card, timezone.now()), "method": "get"}
        return form_page(self, request, form, submit="Show what would move", **page)

    def has_suspend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(MAY_CHANGE)

    @admin.action(description="Suspend selected cards", permissions=["suspend"])
    def suspend_selected(self, request: HttpRequest, queryset: QuerySet[Card]) -> HttpResponse | None:
        cards = list(queryset[: MOST_AT_ONCE + 1])
        merchants = {card.program.merchant for card in cards}
        if len(merchants) != 1 or len(cards) > MOST_AT_ONCE:
            sentence = f"Choose up to {MOST_AT_ONCE} cards of one merchant. The filter on the right helps."
            self.message_user(request, sentence, messages.ERROR)
            return None
        [merchant] = merchants
        if not Merchant.objects.managed_by(request.user).filter(pk=merchant.pk).exists():
            raise PermissionDenied
        form = SuspendSelectedForm(request.POST if "reason" in request.POST else None, initial=_chosen(request, cards))
        if not (form.is_bound and form.is_valid()):
            return form_page(
                self,
                request,
                form,
                title="Suspend selected cards",
                intro=card_actions.SUSPEND.intro,
                facts=[f"Cards of {merchant}: {', '.join(map(str, cards))}"],
                submit=f"Suspend {counted(len(cards), 'card')}",
                back=request.get_full_path(),
            )
        report = bulk.deactivate_cards(
            merchant=merchant,
            card_ids=[card.pk for card in cards],
            reason=form.cleaned_data["reason"],
            actor=request.user.get_username(),
            at=timezone.now(),
        )
        self._tell(request, cards, report)
        return None

    def _tell(self, request: HttpRequest, cards: list[Card], report: bulk.BulkReport) -> None:
        done = set(report.done_card_ids)
        for card in cards:
            if card.pk in done:
                self.log_change(request, card, f"{card_actions.SUSPEND.label}.")
        self.message_user(request, f"Suspended {counted(len(done), 'card')}.", messages.SUCCESS)
        for sentence, number in Counter(skipped.sentence for skipped in report.skipped).items():
            self.message_user(request, f"Left {counted(number, 'card')} alone: {sentence}", messages.WARNING)
        if failed := report.failed_card_ids:
            self.message_user(request, f"Failed, see the log: {', '.join(map(str, failed))}.", messages.ERROR)

    @admin.display(description="customer")
    def holder(self, card: Card) -> SafeString | str:
        return link_to(card.customer)

    @admin.display(description="merchant")
    def merchant(self, card: Card) -> str:
        return card.program.merchant.name

    @admin.display(description="status")
    def state(self, card: Card) -> str:
        return (
            f"{card.get_status_display()}, exempt from expiry" if card.expiration_exempt else card.get_status_display()
        )

    @admin.display(description="points")
    def points(self, card: Card) -> str:
        return f"{card.balance.points_balance:,}"

    @admin.display(description="stamps")
    def stamps(self, card: Card) -> str:
        return f"{card.balance.stamp_count:,}"

    @admin.display(description="so far")
    def lifetime(self, card: Card) -> str:
        balance = card.balance
        return (
            f"{balance.lifetime_points_earned:,} earned, {balance.lifetime_points_redeemed:,} redeemed, "
            f"{balance.lifetime_points_expired:,} expired"
        )

    @admin.display(description="last activity")
    def last_activity(self, card: Card) -> str:
        return day_of(card.program.policy.local_date(card.balance.last_activity_at))

    @admin.display(description="keeps until")
    def last_day(self, card: Card) -> str:
        last_day = keeps_until(card, at=timezone.now())
        return day_of(last_day) if last_day else "-"

    @admin.display(description="warned")
    def warned(self, card: Card) -> str:
        warned_at, warned_for = card.balance.last_expiration_warning_at, card.balance.expiration_warned_for
        if warned_at is None or warned_for is None:
            return "not since the last activity"
        return f"{day_of(card.program.policy.local_date(warned_at))}, with {day_of(warned_for)} as the last day"


@admin.register(CardBalance)
class CardBalanceAdmin(ViewOnly):
    """The row behind a card's figures, for who looks for a fault; the menu leads to cards only."""

    menu = "Records"
    merchant_path = "program__merchant"
    list_display = ("card", "points_balance", "stamp_count", "last_seq", "version", "last_activity_at", "changed_at")
    list_select_related = ("card",)
    list_filter = (MerchantFilter,)
    search_fields = ("card__card_number__exact",)
    search_help_text = "Exactly: a card number, or a customer's e-mail address, phone number (+352...) or external id."
    fields = tuple(field.name for field in CardBalance._meta.fields)

    def found(self, request: HttpRequest, text: str) -> Q:
        return Q(card__in=card_ids(text, merchants=Merchant.objects.readable_by(request.user)))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False
