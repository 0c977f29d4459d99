"""Points adjusted and restored by a back office, over HTTP."""

import pytest

from loyalty.models import Transaction
from tests.factories import NOON, balance_of, days, make_card
from tests.loyalty.api.offices import Office
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db


def test_a_manager_gives_points_back_once():
    card = make_card()
    office = Office(card.program.merchant, role="manager")
    body = {"points": 500, "reason": "Was in hospital"}

    first = office.post(f"cards/{card.pk}/restore-points", body, key="restore-1")
    again = office.post(f"cards/{card.pk}/restore-points", body, key="restore-1")

    assert first.status_code == 201
    assert first.json()["points_balance_after"] == 500
    assert first.json()["warning"].startswith("500 points have now been restored")
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert balance_of(card).points_balance == 500


def test_without_a_key_it_is_done_each_time():
    card = make_card()
    office = Office(card.program.merchant, role="manager")
    for _ in range(2):
        assert office.post(f"cards/{card.pk}/adjust", {"points": 5, "reason": "Sorry"}).status_code == 201

    assert balance_of(card).points_balance == 10


def test_support_may_not_adjust():
    card = make_card()
    office = Office(card.program.merchant, role="support")

    refused = office.post(f"cards/{card.pk}/adjust", {"points": 5, "reason": "Sorry"})

    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert Transaction.objects.filter(card=card).count() == 1


@pytest.mark.parametrize("role", ["manager", "support"])
def test_a_card_of_another_merchant_is_not_known(role):
    card, own = make_card(), make_card()
    office = Office(own.program.merchant, role=role)

    foreign = office.post(f"cards/{card.pk}/restore-points", {"points": 5, "reason": "Sorry"}).json()
    unknown = office.post("cards/999999999/restore-points", {"points": 5, "reason": "Sorry"}).json()

    assert foreign["code"] == "card_not_found"
    assert {**foreign, "request_id": ""} == {**unknown, "request_id": ""}


def test_support_gives_back_what_has_expired_and_no_more():
    card = make_card(points=30)
    merchant = card.program.merchant
    expire(NOON + days(170), merchant=merchant)
    expire(NOON + days(190), merchant=merchant)
    office = Office(merchant, role="support")

    for points, status in ((31, 409), (20, 201), (11, 409), (10, 201), (1, 409)):
        answer = office.post(f"cards/{card.pk}/restore-points", {"points": points, "reason": "was ill"})
        assert answer.status_code == status, answer.content
    assert answer.json()["code"] == "more_than_expired"
    assert balance_of(card).points_balance == 30
