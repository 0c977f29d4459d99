"""Stages of ledger.md and data-requests.md."""

import os

from django.db import connection
from django.utils import timezone

from loyalty.models import Card
from loyalty.services.privacy import erase_customer
from loyalty_site.backup import clients
from tests.factories import make_cards, make_merchant
from tests.fakes.celery_process import database_url
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
    the_superuser(scene)
    scene.values |= {name: str(scene.folder / name) for name in ("evidence.json", "card.txt")}
    scene.stack.callback(switch_triggers, "ENABLE")
    switch_triggers("DISABLE")


def switch_triggers(how: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE loyalty_cardbalance {how} TRIGGER ALL")


def the_superuser(scene: Stage) -> None:
    """The role of the tests is one, and its client programs may be in a wheel only."""
    scene.values["sudo -u postgres psql DATABASE"] = f"psql {database_url()}"
    scene.monkeypatch.setenv("PATH", f"{clients._fitting('psql').parent}{os.pathsep}{os.environ['PATH']}")
