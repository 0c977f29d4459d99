import random
from datetime import timedelta

import pytest
from django.db import connection, transaction

from loyalty.models import Card, CardBalance
from loyalty.services import expiration
from loyalty.services.expiration import ExpirationReport
from tests.factories import NOON, days, make_card, make_cards, make_merchant
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db
TONIGHT = NOON + days(190)


@pytest.fixture
def base():
    """Two merchants with cards everywhere around their limits, some warned, some exempt."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    merchants = [make_merchant(require_expiration_notice=notice) for notice in (True, False)]
    for merchant in merchants:
        for card in make_cards(merchant, 25, points=dice.randint(1, 50)):
            CardBalance.objects.filter(card=card).update(last_activity_at=NOON + days(dice.randint(-20, 30)))
    for night in range(166, 190, 4):
        expire(NOON + days(night))
    for card in dice.sample(list(Card.objects.all()), 8):
        Card.objects.filter(pk=card.pk).update(expiration_exempt=True, expiration_exempt_reason="VIP")
    return merchants


CHOICES = [{}, {"without_notice": True}, {"batch_size": 3}, {"confirmed_cards": 100}]


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.parametrize("scope", ["all", "one"])
def test_a_run_does_what_its_preview_said(base, settings, choices, scope):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 3
    merchant = base[1] if scope == "one" else None

    told = expiration.preview_expiration(as_of=TONIGHT, merchant=merchant, **choices)
    done = expire(TONIGHT, merchant=merchant, reason="Old base", **choices)

    assert comparable(told) == comparable(done)


def test_a_preview_writes_and_locks_nothing(base):
    before = table_hashes()

    expiration.preview_expiration(as_of=TONIGHT)

    assert table_hashes() == before


@pytest.mark.django_db(transaction=True)
def test_a_preview_works_where_nothing_can_be_written():
    make_card(points=5)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        report = expiration.preview_expiration(as_of=TONIGHT)

    assert report.tally.warnings == 1


def test_a_preview_is_no_run():
    report = expiration.preview_expiration(as_of=TONIGHT)

    assert (report.run_id, report.status, report.sentence) == (
        None,
        "preview",
        "Expired 0 cards, 0 points, 0 warnings",
    )


def test_a_preview_does_not_wait_for_the_future():
    make_card(points=5)

    assert expiration.preview_expiration(as_of=NOON + timedelta(days=165)).tally.warnings == 0
    assert expiration.preview_expiration(as_of=NOON + timedelta(days=166)).tally.warnings == 1


def comparable(report: ExpirationReport) -> dict[str, object]:
    return {name: value for name, value in report.as_json().items() if name not in ("run_id", "status")}
