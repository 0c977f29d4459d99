"""What may be done to one card by hand: each a button, a small form that asks why, and one verb."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms

from loyalty.admin.actions import Action, Outcome, ReasonForm
from loyalty.admin.screens import counted, day_of
from loyalty.models import Card, Transaction, TransactionType
from loyalty.services import adjustments, card_status, merging, replacing, restoring
from loyalty.services.explaining import explain
from loyalty.services.merging import MergeReport


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


class ReplaceForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text="Asked so that nobody does it by mistake. The log keeps who did it and when, and not why.",
    )


class TargetForm(forms.Form):
    """The first page of a merge; the second shows what would move."""

    other = forms.CharField(
        label="The other card",
        max_length=254,
        help_text="It takes over all points and stamps. Its number, or its customer's e-mail address or phone number.",
    )


class MergeForm(ReasonForm):
    target = forms.IntegerField(widget=forms.HiddenInput)


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


def suspend(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    card_status.suspend_card(**_of(card, answers, actor, at))
    return Outcome("The card is suspended.")


def reactivate(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    card_status.reactivate_card(**_of(card, answers, actor, at))
    return Outcome("The card is active. The customer is warned in time before anything expires.")


def close(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    row = card_status.close_card(**_of(card, answers, actor, at))
    left = counted(row.points_balance_after, "point")
    return Outcome("The card is closed.", f"It still holds {left}." if row.points_balance_after else "")


def replace(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    replaced = replacing.replace_card(**_of(card, answers, actor, at))
    return Outcome(f"Replaced. The card's number is now {replaced}.")


def merge(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    report = merging.merge_cards(
        merchant=card.program.merchant,
        source_id=card.pk,
        target_id=answers["target"],
        reason=answers["reason"],
        actor=actor,
        at=at,
        seen_version=answers["seen_version"],
    )
    target = Card.objects.get(pk=report.target_id)
    return Outcome(f"Merged into {target}, which now holds {counted(report.points_balance, 'point')}.")


def _of(card: Card, answers: Mapping[str, Any], actor: str, at: datetime) -> dict[str, Any]:
    """What the verbs that change the card as a whole are told."""
    return {
        "merchant": card.program.merchant,
        "card_id": card.pk,
        "reason": answers["reason"],
        "actor": actor,
        "at": at,
        "seen_version": answers["seen_version"],
    }


def foreseen(source: Card, target: Card, report: MergeReport) -> list[str]:
    """What to know before two cards are merged."""
    moves = " and ".join([counted(report.points, "point"), counted(report.stamps, "stamp")])
    holds = " and ".join([counted(report.points_balance, "point"), counted(report.stamp_count, "stamp")])
    keeps = f", and its points keep at least until {day_of(report.keeps_until)}" if report.keeps_until else ""
    return [
        f"{moves} would move from card {source} of {source.customer} to card {target} of {target.customer}.",
        f"Card {target} would then hold {holds}{keeps}.",
        f"Whoever asks for card {source} would find card {target}. This cannot be undone.",
    ]


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
SUSPEND = Action(
    slug="suspend",
    label="Suspend",
    intro="Stops the card until it is reactivated: it cannot be used, and nothing on it expires.",
    permission=MAY_CHANGE,
    perform=suspend,
    fits=lambda card: card.status == Card.Status.ACTIVE,
    facts=story,
    version=version,
)
REACTIVATE = Action(
    slug="reactivate",
    label="Reactivate",
    intro="Takes the card into use again. The customer is warned again, in full time, before anything expires.",
    permission=MAY_CHANGE,
    perform=reactivate,
    fits=lambda card: card.status in (Card.Status.SUSPENDED, Card.Status.CLOSED),
    facts=story,
    version=version,
)
CLOSE = Action(
    slug="close",
    label="Close",
    intro="Ends the card: its points stay on it and are of no use, and the customer may be given a new card.",
    permission=MAY_CHANGE,
    perform=close,
    fits=in_use,
    facts=story,
    version=version,
)
REPLACE = Action(
    slug="replace",
    label="Replace",
    intro="Gives the card a new number and QR code. It keeps all that it holds; the old number leads nowhere.",
    permission=MAY_CHANGE,
    form=ReplaceForm,
    perform=replace,
    fits=in_use,
    facts=story,
    version=version,
)
MERGE = Action(
    slug="merge",
    label="Merge",
    intro="Moves all that this card holds to another card of the merchant, and ends this one.",
    permission=MAY_CHANGE,
    form=MergeForm,
    perform=merge,
    fits=in_use,
    facts=story,
    version=version,
)
