"""Whatever the APIs are asked after an erasure, none of their answers tells who the customer was."""

from collections.abc import Iterator
from typing import Any

import pytest

from loyalty.models import Card, Transaction
from notifications.models import Message
from tests.loyalty.api import described
from tests.loyalty.api.described import World, ask
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till
from tests.loyalty.personal import EMAIL, PHONE, Life, found, live

pytestmark = pytest.mark.django_db
SHOWN = {"first name", "last name", "e-mail", "phone", "birth date", "external id", "number of the card"}
NOTED = {"reason of an adjustment", "reason of an exemption", "reason of a merge"}


class Askers:
    """A manager in the back office and one at the till, who read all that there is about the merchant of a life."""

    def __init__(self, life: Life) -> None:
        self.world, self.life = World(), life
        self.office, self.till = Office(life.merchant, "manager"), Till(life.store)
        self.till.sign_in("manager")

    def told(self) -> dict[str, set[str]]:
        """The traces of the customer that are in an answer, by operation."""
        told: dict[str, set[str]] = {}
        for name, answer in self._answers():
            text = answer.getvalue().decode().lower()
            traces = {trace for trace, word in self.life.traces.items() if word.lower() in text}
            told[name] = told.get(name, set()) | traces
        return told

    def _answers(self) -> Iterator[tuple[str, Any]]:
        ids = self._ids()
        for operation in described.operations():
            if operation.method != "get":
                continue
            asker = self.till if operation.is_of_store else self.office
            [name] = operation.path_names or [""]
            for number in ids.get(name, [0]):
                yield operation.name, ask(self.world, operation, asker=asker, path={name: number} if number else {})

    def _ids(self) -> dict[str, list[int]]:
        cards = Card.objects.filter(program__merchant=self.life.merchant)
        return {
            "merchant_id": [self.life.merchant.pk],
            "store_id": [self.life.store.pk],
            "program_id": [self.life.merchant.program.pk],
            "card_id": [card.pk for card in cards],
            "customer_id": [card.customer_id for card in cards],
            "transaction_id": list(Transaction.objects.filter(card__in=cards).values_list("pk", flat=True)),
            "message_id": list(Message.objects.filter(scope=str(self.life.merchant.pk)).values_list("pk", flat=True)),
        }


def test_no_answer_and_no_log_tells_who_was_erased(caplog, capfd):
    life = live()
    askers = Askers(life)
    before = askers.told()
    assert set().union(*before.values()) >= SHOWN | NOTED
    assert before["admin_customers_export"] >= SHOWN
    caplog.clear()
    capfd.readouterr()

    erased = askers.office.post(f"customers/{life.customer.pk}/erase", {"reason": "letter 17"}, key="erase-them")
    again = askers.office.post(f"customers/{life.customer.pk}/erase", {"reason": "letter 17"}, key="erase-them")

    assert (erased.status_code, again.content) == (200, erased.content)
    after = askers.told()
    assert set(after) == set(before)
    assert {name: traces for name, traces in after.items() if traces} == {}
    assert found(life.traces) == {}
    printed = capfd.readouterr()
    logged = (caplog.text + printed.out + printed.err).lower()
    assert "loyalty.customer_erased" in logged
    assert [name for name, word in life.traces.items() if word.lower() in logged] == []


def test_who_was_erased_is_found_by_nothing_that_was_theirs():
    life = live()
    askers = Askers(life)
    words = [EMAIL, PHONE, life.card.card_number, life.card.qr_token, life.old_card.card_number]
    assert [askers.till.post("cards/lookup", {"q": word}, key=None).status_code for word in words][:4] == [200] * 4

    askers.office.post(f"customers/{life.customer.pk}/erase", {"reason": "letter 17"})

    for word in words:
        answer = askers.till.post("cards/lookup", {"q": word}, key=None)
        assert (answer.status_code, answer.json()["code"]) == (404, "card_not_found")
        assert word.lower() not in answer.content.decode().lower()
        assert askers.office.get("customers", q=word).json()["results"] == []
        assert askers.office.get("cards", q=word).json()["results"] == []
