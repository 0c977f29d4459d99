"""What a till shows: a card, the program's rules, the rewards on offer."""

from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import Q, QuerySet

from loyalty.models import Campaign, Card, Program, Reward, Store
from loyalty.services.enrolment import open_program
from loyalty.services.explaining import keeps_until


@dataclass(frozen=True)
class CardAtTill:
    """A card with what a cashier is asked about it: until when it keeps, and which reward comes next."""

    card: Card
    keeps_until: date | None
    next_reward: Reward | None


@dataclass(frozen=True)
class ProgramAtTill:
    """The rules as they are in one store at one moment."""

    program: Program
    store: Store
    campaigns: list[Campaign]


def shown_card(card: Card, *, at: datetime) -> CardAtTill:
    """The card as a till shows it. `next_reward` is the cheapest one offered that the points do not reach."""
    dearer = _offered(card.program, at=at).filter(points_cost__gt=card.balance.points_balance)
    return CardAtTill(card, keeps_until(card, at=at), dearer.first())


def shown_program(*, store: Store, at: datetime) -> ProgramAtTill:
    """The program as a till of this store shows it, with the campaigns that run now.

    Raises:
        EnrolmentClosed: the merchant has no active program.
    """
    program = open_program(store.merchant)
    campaigns = Campaign.objects.running(program=program, at=at).filter(Q(stores=None) | Q(stores=store))
    return ProgramAtTill(program, store, list(campaigns.order_by("pk")))


def offered_rewards(*, store: Store, at: datetime) -> list[Reward]:
    """Rewards that can be had today, the cheapest first.

    Raises:
        EnrolmentClosed: the merchant has no active program.
    """
    return list(_offered(open_program(store.merchant), at=at))


def _offered(program: Program, *, at: datetime) -> QuerySet[Reward]:
    rewards = Reward.objects.offered(program.policy.local_date(at)).filter(program=program)
    return rewards.exclude(stock=0).order_by("points_cost", "pk")
