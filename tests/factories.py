"""What tests begin with. Each takes only what a test cares about."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from loyalty.models import Card, CardBalance, Customer, Merchant, Program, Reward, Store, Transaction, TransactionType
from loyalty.services import enrolment, ledger
from loyalty.services.enrolment import Person
from loyalty.services.ledger import Move

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def make_merchant(*, timezone: str = "UTC", currency: str = "EUR", **program: Any) -> Merchant:
    """A merchant with a program: 1 point per euro, 180 days, 14 days of notice."""
    number = next(_numbers)
    merchant = Merchant.objects.create(
        name=f"Shop {number}", slug=f"shop-{number}", timezone=timezone, currency=currency
    )
    Program.objects.create(merchant=merchant, name="Points card", **{"points_expiration_days": 180, **program})
    return merchant


def make_store(merchant: Merchant | None = None, **fields: Any) -> Store:
    merchant = merchant or make_merchant()
    return Store.objects.create(merchant=merchant, name="Main Street", **{"code": f"s{next(_numbers)}", **fields})


def make_card(merchant: Merchant | None = None, *, points: int = 0, at: datetime = NOON, **person: Any) -> Card:
    """A card with points, last active `at`, by the real verbs."""
    merchant = merchant or make_merchant()
    person.setdefault("email", f"customer{next(_numbers)}@example.com")
    card = enrolment.enrol(merchant=merchant, person=Person(**person), at=at)
    if points:
        give(card, points, at=at)
    return Card.objects.select_related("balance", "program__merchant", "customer").get(pk=card.pk)


@transaction.atomic
def make_cards(merchant: Merchant, count: int, *, points: int = 100, at: datetime = NOON) -> list[Card]:
    """Many cards with points and e-mail addresses at once, by the ledger's own bulk opening."""
    program = merchant.program
    first = next(_numbers) * 1_000_000
    customers = Customer.objects.bulk_create(
        Customer(merchant=merchant, email=f"c{first + n}@example.com", first_name="Ana", created_at=at)
        for n in range(count)
    )
    cards = Card.objects.bulk_create(Card(program=program, customer=c, created_at=at) for c in customers)
    moves = [
        Move(type=TransactionType.CARD_CREATED, transaction_at=at),
        Move(type=TransactionType.BALANCE_IMPORTED, points=points, transaction_at=at),
    ]
    ledger.open_balances([ledger.Opening(card, moves) for card in cards], at=at)
    return cards


@transaction.atomic
def give(card: Card, points: int, *, at: datetime) -> Transaction:
    """Points for a card, as an import would bring them."""
    locked = ledger.lock(card.pk, merchant=card.program.merchant)
    return ledger.post(locked, Move(type=TransactionType.BALANCE_IMPORTED, points=points, transaction_at=at), at=at)


def make_reward(merchant: Merchant, **fields: Any) -> Reward:
    return Reward.objects.create(program=merchant.program, **{"name": "Coffee", "points_cost": 50, **fields})


def balance_of(card: Card) -> CardBalance:
    return CardBalance.objects.get(card=card)


def days(number: float) -> timedelta:
    return timedelta(days=number)
