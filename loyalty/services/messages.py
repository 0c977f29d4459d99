"""What we write to customers: which figures each kind of message carries. notifications sends it."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from loyalty.models import Card, Program
from loyalty.services.idle_cards import Candidate, PromisedWarning, Term
from notifications import services as notifications
from notifications.services import NewMessage


def about_card(card: Card, *, kind: str, cycle: str, figures: Mapping[str, Any]) -> NewMessage:
    """A message about a card. `cycle` makes it the only one of its kind for what happened once."""
    customer = card.customer
    return addressed(
        card.program,
        kind=kind,
        card_id=card.pk,
        card_number=card.card_number,
        first_name=customer.first_name,
        email=customer.email,
        locale=customer.locale,
        cycle=cycle,
        figures=figures,
    )


def addressed(
    program: Program,
    *,
    kind: str,
    card_id: int,
    card_number: str,
    first_name: str,
    email: str,
    locale: str,
    cycle: str,
    figures: Mapping[str, Any],
) -> NewMessage:
    merchant = program.merchant
    return NewMessage(
        kind=kind,
        scope=str(merchant.pk),
        reference=str(card_id),
        recipient=email,
        locale=locale or merchant.locale,
        dedupe_key=f"{kind}:{card_id}:{cycle}",
        context={
            "merchant_name": merchant.name,
            "support_email": merchant.support_email,
            "card_name": program.name,
            "card_number": card_number,
            "first_name": first_name,
            **figures,
        },
    )


def queue_expiring(warnings: Iterable[PromisedWarning], *, at: datetime) -> None:
    """One message per card and cycle: a cycle is one last activity and one promised day."""
    notifications.queue_many(
        [
            _about_expiry(
                warning.candidate,
                warning.term,
                kind="loyalty_points_expiring",
                cycle=f"{warning.candidate.cycle.last_activity_at.isoformat()}:{warning.promised}",
                figures={"expires_on": warning.promised.isoformat()},
            )
            for warning in warnings
        ],
        at=at,
    )


def queue_expired(expired: Iterable[tuple[Candidate, Term]], *, at: datetime) -> None:
    notifications.queue_many(
        [
            _about_expiry(
                candidate,
                term,
                kind="loyalty_points_expired",
                cycle=candidate.cycle.last_activity_at.isoformat(),
                figures={
                    "expires_on": term.policy.keeps_until(candidate.cycle).isoformat(),
                    "expired_on": term.today.isoformat(),
                },
            )
            for candidate, term in expired
        ],
        at=at,
    )


def _about_expiry(candidate: Candidate, term: Term, *, kind: str, cycle: str, figures: Mapping[str, Any]) -> NewMessage:
    return addressed(
        term.program,
        kind=kind,
        card_id=candidate.card_id,
        card_number=candidate.card_number,
        first_name=candidate.first_name,
        email=candidate.email,
        locale=candidate.locale,
        cycle=cycle,
        figures={
            "points": candidate.points,
            "last_activity_on": term.policy.local_date(candidate.cycle.last_activity_at).isoformat(),
            "expires_after_days": term.policy.expires_after_days,
            **figures,
        },
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
