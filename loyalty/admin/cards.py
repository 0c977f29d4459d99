"""Cards: their facts, their story in words, and what may be done to one by hand."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from loyalty.admin.actions import Action, Outcome, ReasonForm, WithActions
from loyalty.admin.screens import MerchantFilter, ViewOnly, counted, day_of, link_to
from loyalty.models import Card, CardBalance, ExemptionChange, Merchant, Transaction, TransactionType
from loyalty.services import adjustments, restoring
from loyalty.services.explaining import Movement, explain, keeps_until
from loyalty.services.searching import card_ids, cards_called


class AdjustForm(ReasonForm):
    points = forms.IntegerField(
        required=False,
        initial=0,
        help_text="To add, such as 50, or to take, such as -50. Only added points are activity.",
    )
    stamps = forms.IntegerField(required=False, initial=0, help_text="To add, or to take with a minus sign.")
    field_order = ("points", "stamps", "reason")


class RestoreForm(ReasonForm):
    points = forms.IntegerField(min_value=1, help_text="Suggested: what last expired and was not given back.")
    field_order = ("points", "reason")


def adjust(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    row = adjustments.adjust(
        merchant=card.program.merchant,
        card_id=card.pk,
        points=answers["points"] or 0,
        stamps=answers["stamps"] or 0,
        reason=answers["reason"],
        actor=actor,
        at=at,
        seen_version=answers["seen_version"],
    )
    return Outcome(f"Adjusted. The card now holds {counted(row.points_balance_after, 'point')}.")


def restore(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    restoration = restoring.restore_points(
        merchant=card.program.merchant,
        card_id=card.pk,
        points=answers["points"],
        reason=answers["reason"],
        actor=actor,
        at=at,
        seen_version=answers["seen_version"],
    )
    restored, holds = counted(answers["points"], "point"), counted(restoration.points_balance, "point")
    return Outcome(f"Restored {restored}. The card now holds {holds}.", restoration.warning)


def exempt(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    adjustments.exempt_from_expiry(
        merchant=card.program.merchant, card_id=card.pk, reason=answers["reason"], actor=actor, at=at
    )
    return Outcome("The card is exempt from expiry.")


def end_exemption(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    adjustments.end_exemption(
        merchant=card.program.merchant, card_id=card.pk, reason=answers["reason"], actor=actor, at=at
    )
    return Outcome("The exemption has ended. The customer is warned in time before anything expires.")


def story(card: Card, at: datetime) -> list[str]:
    """What the card holds and why, and what last happened to it."""
    told = explain(merchant=card.program.merchant, card_id=card.pk, at=at, movements=3)
    return [*told.sentences, *(f"{day_of(move.happened_on)}: {move.sentence}" for move in told.movements)]


def last_expired(card: Card) -> dict[str, Any]:
    """The points of the latest expiry that nobody has given back."""
    expiries = Transaction.objects.filter(card=card, type=TransactionType.POINTS_EXPIRED)
    latest = expiries.not_given_back().order_by("-seq").first()
    return {"points": -latest.points_delta} if latest else {}


def version(card: Card) -> int:
    return card.balance.version


def in_use(card: Card) -> bool:
    return card.status in Card.IN_USE


def _movement(movement: Movement) -> dict[str, str]:
    return {
        "url": reverse("admin:loyalty_transaction_change", args=[movement.transaction_id]),
        "day": day_of(movement.happened_on),
        "sentence": movement.sentence,
        "points": f"{movement.points_delta:+,}" if movement.points_delta else "",
        "balance": f"{movement.points_balance_after:,}",
    }


MAY_CHANGE = "loyalty.change_card"
ADJUST = Action(
    slug="adjust",
    label="Adjust",
    intro="Adds or takes points or stamps by hand. The customer is not told.",
    permission=MAY_CHANGE,
    form=AdjustForm,
    perform=adjust,
    fits=in_use,
    facts=story,
    version=version,
)
RESTORE = Action(
    slug="restore-points",
    label="Restore points",
    intro="Gives expired points back. They live a full term again, and the customer is told by mail.",
    permission=MAY_CHANGE,
    form=RestoreForm,
    perform=restore,
    fits=in_use,
    facts=story,
    initial=last_expired,
    version=version,
    restores=True,
)
EXEMPT = Action(
    slug="exempt",
    label="Exempt from expiry",
    intro="Takes the card out of expiry: no warnings, and nothing expires, until the exemption is ended.",
    permission=MAY_CHANGE,
    perform=exempt,
    fits=lambda card: in_use(card) and not card.expiration_exempt,
    facts=story,
)
END_EXEMPTION = Action(
    slug="end-exemption",
    label="End exemption",
    intro="Puts the card back into expiry. The customer is warned again, in full time, before anything expires.",
    permission=MAY_CHANGE,
    perform=end_exemption,
    fits=lambda card: in_use(card) and card.expiration_exempt,
    facts=story,
)


@admin.register(Card)
class CardAdmin(WithActions, ViewOnly):
    menu = "Cards"
    merchant_path = "program__merchant"
    page_actions = (RESTORE, ADJUST, EXEMPT, END_EXEMPTION)
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
                "messages_url": f"{reverse('admin:notifications_message_changelist')}?q={card.pk}",
            }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

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
