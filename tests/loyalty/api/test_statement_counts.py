"""A sale costs at most 6 statements, sign-in, idempotency, BEGIN and COMMIT included, whatever the history."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Campaign
from tests.factories import give, make_card, make_reward
from tests.loyalty.api.tills import Till
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db(transaction=True)
MOST = 6


@pytest.fixture
def till():
    till = Till(max_daily_earns=1000, points_per_unit=Decimal(10), log_client_address=True)
    till.sign_in()
    till.get("program")  # the key is noted as used, at most once in some minutes
    return till


def statements(till, path, body, **options) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = till.post(path, body, **options)
    assert answer.status_code == 201, answer.content
    return [query["sql"] for query in captured]


def test_an_earn(till):
    card = make_card(till.merchant)
    program = till.merchant.program
    now = timezone.now()
    for number in range(3):
        campaign = Campaign.objects.create(
            program=program, name=f"C{number}", starts_at=now - timedelta(days=1), ends_at=now + timedelta(days=1)
        )
        campaign.stores.add(till.store)

    for receipt in ("R1", "R2"):
        made = statements(till, f"cards/{card.pk}/earn", {"amount": "12.99", "receipt_number": receipt})
        assert len(made) <= MOST, made


def test_an_offline_sale_on_a_card_whose_points_have_expired(till):
    now = timezone.now()
    card = make_card(till.merchant, points=10, at=now - timedelta(days=400))
    expire(now - timedelta(days=230))
    assert expire(now - timedelta(hours=1)).tally.cards_expired == 1
    sold_at = (now - timedelta(hours=2)).isoformat()

    made = statements(till, f"cards/{card.pk}/earn", {"amount": "1.00", "transaction_at": sold_at})

    assert len(made) <= MOST, made


def test_a_redemption_of_points_and_of_a_reward(till):
    card = make_card(till.merchant, points=1000)
    reward = make_reward(till.merchant, stock=10)

    for body in ({"points": 10}, {"reward_id": reward.pk}):
        made = statements(till, f"cards/{card.pk}/redeem", body)
        assert len(made) <= MOST, made


def test_a_repeat(till):
    card = make_card(till.merchant)
    statements(till, f"cards/{card.pk}/earn", {"amount": "12.99"}, key="again-and-again")

    assert len(statements(till, f"cards/{card.pk}/earn", {"amount": "12.99"}, key="again-and-again")) <= MOST


def test_a_long_history_costs_no_more(till):
    card = make_card(till.merchant)
    short = statements(till, f"cards/{card.pk}/earn", {"amount": "12.99"})
    for number in range(200):
        give(card, 1, at=timezone.now() + timedelta(seconds=number))

    assert len(statements(till, f"cards/{card.pk}/earn", {"amount": "12.99"})) == len(short)
