"""What we write to customers: which figures each kind of message carries. notifications sends it."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from loyalty.models import Card, Customer, Program
from notifications import services as notifications
from notifications.services import NewMessage


def addressed(
    *, kind: str, program: Program, card_id: int, card_number: str, to: Customer, cycle: str, figures: Mapping[str, Any]
) -> NewMessage:
    """A message about a card. `cycle` makes it the only one of its kind for what happened once."""
    merchant = program.merchant
    return NewMessage(
        kind=kind,
        scope=str(merchant.pk),
        reference=str(card_id),
        recipient=to.email,
        locale=to.locale or merchant.locale,
        dedupe_key=f"{kind}:{card_id}:{cycle}",
        context={
            "merchant_name": merchant.name,
            "support_email": merchant.support_email,
            "card_name": program.name,
            "card_number": card_number,
            "first_name": to.first_name,
            **figures,
        },
    )


def about_card(card: Card, *, kind: str, cycle: str, figures: Mapping[str, Any]) -> NewMessage:
    return addressed(
        kind=kind,
        program=card.program,
        card_id=card.pk,
        card_number=card.card_number,
        to=card.customer,
        cycle=cycle,
        figures=figures,
    )


def queue_enrolment(card: Card, *, welcome_bonus: int, at: datetime) -> None:
    figures = {"points_balance": card.balance.points_balance, "welcome_bonus_points": welcome_bonus}
    notifications.queue(about_card(card, kind="loyalty_enrollment", cycle="once", figures=figures), at=at)


def queue_restored(card: Card, *, points: int, transaction_id: int, at: datetime) -> None:
    """Tell that points are back, and drop what would still say that they go or are gone."""
    notifications.cancel(
        reference=str(card.pk),
        kinds=["loyalty_points_expiring", "loyalty_points_expired"],
        at=at,
        reason="the points were restored",
    )
    keeps_until = card.program.policy.keeps_until(card.balance.cycle) if card.program.expires else None
    figures = {
        "points": points,
        "points_balance": card.balance.points_balance,
        "keeps_until_on": keeps_until.isoformat() if isinstance(keeps_until, date) else None,
    }
    message = about_card(card, kind="loyalty_points_restored", cycle=str(transaction_id), figures=figures)
    notifications.queue(message, at=at)
