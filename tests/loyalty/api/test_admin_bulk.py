"""The same change to many cards by a back office, over HTTP."""

import pytest

from loyalty.models import Card, IdempotencyKey, Transaction
from tests.factories import balance_of, make_card, make_cards, make_merchant
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
UNKNOWN = 987_654_321
WHY = {"reason": "The shop was closed"}
BOTH = pytest.mark.parametrize(("path", "more"), [("deactivate", {}), ("adjust", {"points": 50})])


@pytest.fixture
def merchant():
    return make_merchant()


@pytest.fixture
def office(merchant):
    return Office(merchant, "manager")


def body(merchant, cards, **more):
    return {"merchant_id": merchant.pk, "card_ids": [getattr(card, "pk", card) for card in cards], **WHY, **more}


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    return {**answer.json(), "request_id": ""}


def test_many_cards_are_suspended_once(merchant, office):
    cards = make_cards(merchant, 3)

    first, again = (office.post("cards/bulk/deactivate", body(merchant, cards), key="stop-all") for _ in range(2))

    assert first.status_code == 200
    assert first.json() == {"done_card_ids": [card.pk for card in cards], "skipped": [], "failed_card_ids": []}
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert {card.status for card in Card.objects.all()} == {"suspended"}
    rows = Transaction.objects.filter(type="CARD_DEACTIVATED")
    assert {(row.actor, row.reason) for row in rows} == {(office.user.username, WHY["reason"])}
    assert rows.count() == 3
    other = body(merchant, cards[:2])
    refused(office.post("cards/bulk/deactivate", other, key="stop-all"), 422, "idempotency_key_reused")


def test_many_cards_are_adjusted_once(merchant, office):
    cards = make_cards(merchant, 3, points=10)

    first, again = (office.post("cards/bulk/adjust", body(merchant, cards, points=5), key="give-all") for _ in range(2))

    assert first.json()["done_card_ids"] == [card.pk for card in cards]
    assert again.content == first.content
    assert [balance_of(card).points_balance for card in cards] == [15, 15, 15]


def test_what_is_refused_for_one_card_stops_no_other(merchant, office):
    rich, poor, closed, foreign = (make_card(merchant, points=9), make_card(merchant), make_card(merchant), make_card())
    office.post(f"cards/{closed.pk}/close", WHY)

    told = office.post("cards/bulk/adjust", body(merchant, [rich, poor, closed, foreign, UNKNOWN], points=-5)).json()

    assert (told["done_card_ids"], told["failed_card_ids"]) == ([rich.pk], [])
    skipped = {row["card_id"]: row["code"] for row in told["skipped"]}
    assert skipped == {
        poor.pk: "insufficient_points",
        closed.pk: "card_not_active",
        foreign.pk: "card_not_found",
        UNKNOWN: "card_not_found",
    }
    sentences = {row["sentence"] for row in told["skipped"] if row["code"] == "card_not_found"}
    assert sentences == {"This card is not known here."}
    assert balance_of(foreign).points_balance == 0


@BOTH
def test_only_managers_of_the_merchant_change_many_cards(merchant, path, more):
    card, foreign = make_card(merchant), make_merchant()
    asked = body(merchant, [card], **more)

    refused(Office(merchant, "support").post(f"cards/bulk/{path}", asked), 403, "permission_denied")
    of_foreign = refused(Office(foreign, "manager").post(f"cards/bulk/{path}", asked), 404, "merchant_not_found")
    unknown = {**asked, "merchant_id": UNKNOWN}
    assert of_foreign == refused(
        Office(foreign, "manager").post(f"cards/bulk/{path}", unknown), 404, of_foreign["code"]
    )
    assert Transaction.objects.filter(card=card).count() == 1
    assert Office().post(f"cards/bulk/{path}", asked).json()["done_card_ids"] == [card.pk]


@BOTH
@pytest.mark.parametrize(
    "card_ids",
    [
        [],
        None,
        1,
        "1",
        {"1": 1},
        ["1"],
        [0],
        [-1],
        [1.0],
        [True],
        [None],
        [[1]],
        [10**30],
        [7, 8, 7],
        [*range(1, 1002)],
    ],
    ids=lambda value: str(value)[:40],
)
def test_card_ids_that_are_none_are_refused(office, merchant, path, more, card_ids):
    refusal = refused(
        office.post(f"cards/bulk/{path}", {**body(merchant, [], **more), "card_ids": card_ids}), 400, "invalid_request"
    )
    assert refusal["errors"][0]["pointer"].startswith("/card_ids")


def test_a_hundred_thousand_ids_get_one_complaint(office, merchant):
    refusal = refused(office.post("cards/bulk/deactivate", body(merchant, ["x"] * 100_000)), 400, "invalid_request")
    assert [error["pointer"] for error in refusal["errors"]] == ["/card_ids"]


@pytest.mark.parametrize("points", [None, "5", 1.5, True, 10**30, -(10**30)])
def test_points_that_are_no_number_are_refused(office, merchant, points):
    refused(office.post("cards/bulk/adjust", body(merchant, [1], points=points)), 400, "invalid_request")


def test_nothing_and_no_reason_are_refused(office, merchant):
    zero = refused(office.post("cards/bulk/adjust", body(merchant, [1], points=0)), 400, "invalid_input")
    assert zero["errors"][0]["pointer"] == "/points"
    refused(office.post("cards/bulk/deactivate", {**body(merchant, [1]), "reason": " "}), 400, "invalid_request")
    assert not IdempotencyKey.objects.exists()


def test_a_thousand_cards_are_one_call(office, merchant):
    cards = make_cards(merchant, 1000)

    told = office.post("cards/bulk/adjust", body(merchant, cards, points=1)).json()

    assert len(told["done_card_ids"]) == 1000
