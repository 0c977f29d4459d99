"""A day at the till, over HTTP."""

from decimal import Decimal

import pytest
from django.core.cache import cache
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from loyalty.models import Program, Store, Transaction
from tests.factories import balance_of, make_card, make_reward
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def till(db):
    till = Till(kind="hybrid", welcome_bonus_points=5, timezone="Europe/Luxembourg")
    till.sign_in()
    return till


def test_a_card_is_given_out_found_charged_and_redeemed(till):
    enrolled = till.post("cards", {"first_name": "Ana", "email": "ana@example.com", "accepts_terms": True})
    assert enrolled.status_code == 201
    assert enrolled.json()["points_balance"] == 5
    card = enrolled.json()["card_id"]

    earned = till.post(f"cards/{card}/earn", {"amount": "12.99", "receipt_number": "R1"})
    assert earned.status_code == 201
    assert earned.json()["points_delta"] == 12
    assert earned.json()["amount"] == "12.99"
    assert earned.json()["actor"] == "Kim"

    for q in (enrolled.json()["card_number"], enrolled.json()["qr_token"], "ANA@example.com"):
        found = till.post("cards/lookup", {"q": q}, key=None)
        assert found.status_code == 200
        assert found.json()["points_balance"] == 17
        assert found.json()["customer"] == {"name": "A…", "email": "a…@e…", "phone": ""}

    reward = make_reward(till.merchant, points_cost=10)
    redeemed = till.post(f"cards/{card}/redeem", {"reward_id": reward.pk})
    assert redeemed.json()["points_balance_after"] == 7

    voided = till.post(f"transactions/{redeemed.json()['id']}/void", {"reason": "changed her mind"})
    assert voided.json()["points_balance_after"] == 17

    refunded = till.post(f"transactions/{earned.json()['id']}/refund", {"amount": "6.00", "reason": "returned"})
    assert refunded.json()["points_delta"] == -6

    history = till.get(f"cards/{card}/transactions").json()
    assert [row["type"] for row in history["results"]][:2] == ["POINTS_VOIDED", "REDEMPTION_VOIDED"]


def test_a_repeat_gets_the_same_answer(till):
    card = make_card(till.merchant)
    first = till.post(f"cards/{card.pk}/earn", {"amount": "10.00"}, key="same-key")
    again = till.post(f"cards/{card.pk}/earn", {"amount": "10.00"}, key="same-key")

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert Transaction.objects.filter(card=card, type="POINTS_EARNED").count() == 1

    other = till.post(f"cards/{card.pk}/earn", {"amount": "11.00"}, key="same-key")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert balance_of(card).points_balance == 15


def test_a_refusal_is_a_problem_with_a_sentence(till):
    card = make_card(till.merchant)
    refused = till.post(f"cards/{card.pk}/redeem", {"points": 50})

    assert refused.status_code == 409
    assert refused.headers["Content-Type"] == "application/problem+json"
    problem = refused.json()
    assert problem["code"] == "insufficient_points"
    assert problem["details"] == {"points_balance": 5}
    assert problem["request_id"]


def test_the_description_can_be_made(client):
    answer = client.get("/docs/openapi.yaml")
    assert answer.status_code == 200
    assert b"store_cards_earn" in answer.content


@pytest.mark.parametrize(
    ("currency", "rate", "amount", "points", "written"),
    [
        ("EUR", "100", "4.35", 435, "4.35"),
        ("EUR", "100", "4.3500", 435, "4.35"),
        ("EUR", "0.1", "25", 2, "25.00"),
        ("JPY", "0.01", "1299", 12, "1299"),
        ("JPY", "1", "1299.0", 1299, "1299"),
        ("KWD", "1000", "4.355", 4355, "4.355"),
        ("KWD", "1", "0.999", 0, "0.999"),
    ],
)
def test_amounts_are_exact_in_every_currency(currency, rate, amount, points, written):
    till = Till(currency=currency, points_per_unit=Decimal(rate), staff_pin_policy="disabled")
    card = make_card(till.merchant)

    preview = till.post(f"cards/{card.pk}/earn/preview", {"amount": amount}, key=None).json()
    sale = till.post(f"cards/{card.pk}/earn", {"amount": amount}).json()

    assert preview["points"] == sale["points_delta"] == points
    assert (sale["amount"], sale["currency"]) == (written, currency)


def test_one_key_of_two_merchants_names_two_requests():
    tills = [Till(staff_pin_policy="disabled") for _ in range(2)]
    cards = [make_card(till.merchant) for till in tills]

    for till, card in zip(tills, cards, strict=True):
        answer = till.post(f"cards/{card.pk}/earn", {"amount": "10.00"}, key="the-same-key")
        assert answer.status_code == 201
        assert "Idempotency-Replayed" not in answer.headers
    assert [balance_of(card).points_balance for card in cards] == [10, 10]


def test_refunds_in_three_parts_take_what_was_earned_whatever_the_rate_is_meanwhile():
    till = Till(points_per_unit=Decimal("0.1"), staff_pin_policy="disabled")
    card = make_card(till.merchant)
    sale = till.post(f"cards/{card.pk}/earn", {"amount": "25.00"}).json()
    assert sale["points_delta"] == 2
    taken = []
    for rate, amount in (("5", "6.00"), ("0", "6.00"), ("0.5", "13.00")):
        Program.objects.filter(merchant=till.merchant).update(points_per_unit=Decimal(rate))
        answer = till.post(f"transactions/{sale['id']}/refund", {"amount": amount, "reason": "returned"})
        taken.append(answer.json()["points_delta"])

    assert taken == [-1, 0, -1]
    more = till.post(f"transactions/{sale['id']}/refund", {"amount": "0.01", "reason": "returned"})
    assert (more.status_code, more.json()["code"]) == (422, "refund_exceeds_purchase")


def test_the_log_says_which_store_was_refused_and_why(till):
    card = make_card(till.merchant)

    with capture_logs(processors=[merge_contextvars]) as logs:
        refused = till.post(f"cards/{card.pk}/redeem", {"points": 50})

    [event] = [line for line in logs if line["event"] == "loyalty.request_refused"]
    assert (event["reason"], event["status"]) == ("insufficient_points", refused.status_code)
    assert (event["merchant_id"], event["store_id"]) == (till.merchant.pk, till.store.pk)
    assert event["request_id"] == refused.json()["request_id"]


def test_the_log_says_which_store_is_throttled(till):
    Store.objects.filter(pk=till.store.pk).update(throttle_factor=1)
    cache.clear()

    with capture_logs(processors=[merge_contextvars]) as logs:
        answers = [till.post("transactions/17/void", {"reason": "x"}).status_code for _ in range(21)]

    throttled = [line for line in logs if line.get("reason") == "throttled"]
    assert answers[-1] == 429
    assert {(line["event"], line["store_id"]) for line in throttled} == {
        ("loyalty.request_refused", till.store.pk),
    }
