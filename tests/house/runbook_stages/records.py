"""Stages of ledger.md and data-requests.md."""

from django.db import connection
from django.utils import timezone

from loyalty.models import Card
from loyalty.services.privacy import erase_customer
from tests.factories import make_cards, make_merchant
from tests.house.runbook_stages.staging import Stage, stage
from tests.loyalty.test_commands import spoil
from tests.loyalty.test_operators_commands import break_ledger

LEDGER = "ledger.md"


@stage(LEDGER)
def a_balance_that_was_changed(scene: Stage) -> None:
    merchant = make_merchant()
    card, _ = make_cards(merchant, 2, at=scene.at)
    spoil(card)
    scene.values |= {"CARD": str(card.pk), "MERCHANT": merchant.slug}


@stage(LEDGER, "Correct what a customer holds", "Undo", "Check it worked")
def a_ledger_that_is_right(scene: Stage) -> None:
    card, _ = make_cards(make_merchant(), 2, at=scene.at)
    scene.values["CARD"] = str(card.pk)


@stage(LEDGER, "The ledger is broken")
def a_row_that_was_changed(scene: Stage) -> None:
    a_ledger_that_is_right(scene)
    break_ledger(Card.objects.get(pk=scene.values["CARD"]))


DATA = "data-requests.md"


@stage(DATA)
def a_customer(scene: Stage) -> Card:
    merchant = make_merchant()
    (card,) = make_cards(merchant, 1, at=scene.at)
    scene.values |= {
        "MERCHANT": merchant.slug,
        "CUSTOMER": str(card.customer_id),
        "customer.json": str(scene.folder / "customer.json"),
        "BACKUPS": str(scene.folder),
    }
    return card


@stage(DATA, "Check it worked")
def a_customer_who_was_erased(scene: Stage) -> None:
    card = a_customer(scene)
    merchant = card.program.merchant
    erase_customer(merchant=merchant, customer_id=card.customer_id, reason="letter 17", actor="ana", at=timezone.now())


@stage(LEDGER, "LoyaltyLedgerMismatch")
def triggers_that_are_not_in_force(scene: Stage) -> None:
    a_balance_that_was_changed(scene)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE loyalty_cardbalance DISABLE TRIGGER USER")
