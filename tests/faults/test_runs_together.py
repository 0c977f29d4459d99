"""Several runs at once share the work, whatever tills and kills do meanwhile."""

import os
import random
import threading
import time
from functools import partial

import pytest
from django.db import connection
from django.db.models import F, Sum

from loyalty.errors import LoyaltyError
from loyalty.models import CardBalance, ExpirationRun, Store, Transaction
from loyalty.services import earning, redeeming
from loyalty.services.ledger_check import check_ledger
from notifications.models import Message
from tests.factories import NOON, days, make_cards, make_merchant, make_store
from tests.fakes.celery_process import broker, wait_until
from tests.faults.expiry_process import ExpiryProcess, two_runs_at_once, wait_until_nobody_else_is_connected
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db(transaction=True)
WARNED, GONE = NOON + days(166), NOON + days(181)


@pytest.fixture(autouse=True)
def no_wake_ups_left():
    yield
    with broker() as client:
        client.delete("notifications")


def totals() -> tuple[int, int]:
    """Cards and points that the rows of all runs as of that night claim, whatever became of the runs."""
    found = ExpirationRun.objects.filter(as_of=GONE).aggregate(cards=Sum("cards_expired"), points=Sum("points_expired"))
    return found["cards"] or 0, found["points"] or 0


def assert_each_card_expired_at_most_once() -> None:
    rows = Transaction.objects.filter(type="POINTS_EXPIRED")
    assert rows.count() == rows.values("card").distinct().count()
    told = Message.objects.filter(kind="loyalty_points_expired").values_list("reference", flat=True)
    assert sorted(map(int, told)) == sorted(rows.values_list("card", flat=True))
    assert check_ledger().mismatches == []


def test_two_runs_at_once_share_the_cards_and_their_counts_add_up():
    for _ in range(4):
        make_cards(make_merchant(), 500, points=10)
    expire(WARNED)

    ends = two_runs_at_once(GONE, batch_size=20)

    assert [code for code, _, _ in ends] == [0, 0], ends
    assert totals() == (2000, 20_000)
    assert all(run.cards_expired for run in ExpirationRun.objects.filter(as_of=GONE))
    assert Transaction.objects.filter(type="POINTS_EXPIRED").count() == 2000
    assert_each_card_expired_at_most_once()
    assert counts(expire(GONE)) == (0, 0, 0)


def test_two_runs_at_once_warn_each_customer_once():
    make_cards(make_merchant(), 600, points=10)

    ends = two_runs_at_once(WARNED, batch_size=10)

    assert [code for code, _, _ in ends] == [0, 0], ends
    assert sum(ExpirationRun.objects.values_list("warnings", flat=True)) == 600
    assert Message.objects.filter(kind="loyalty_points_expiring").count() == 600
    assert CardBalance.objects.filter(last_expiration_warning_at=WARNED, version=3).count() == 600


class Tills:
    """Threads that earn and redeem on random cards until they are told to stop."""

    def __init__(self, store: Store, card_ids: list[int], *, number: int, seed: int) -> None:
        self.store, self.card_ids = store, card_ids
        self.closing = threading.Event()
        self.served = 0
        self.threads = [threading.Thread(target=self._serve, args=[random.Random(seed + n)]) for n in range(number)]

    def __enter__(self) -> "Tills":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for thread in self.threads:
            thread.join(60)

    def _serve(self, dice: random.Random) -> None:
        try:
            while not self.closing.is_set():
                self._ring_up(dice, dice.choice(self.card_ids))
                time.sleep(0.005)
        finally:
            connection.close()

    def _ring_up(self, dice: random.Random, card_id: int) -> None:
        try:
            if dice.random() < 0.7:
                earning.earn(store=self.store, card_id=card_id, amount_minor=dice.randrange(5000), at=GONE)
            else:
                redeeming.redeem_points(store=self.store, card_id=card_id, points=dice.randint(1, 9), at=GONE)
            self.served += 1
        except LoyaltyError:
            pass


def storm(*, cards: int, kills: int, batch_size: int) -> None:
    """Two runs are always working and get killed again and again, while tills sell to the same cards."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    store = make_store()
    card_ids = [card.pk for card in make_cards(store.merchant, cards, points=10)]
    expire(WARNED)
    with Tills(store, card_ids, number=2, seed=seed) as tills:
        for _ in range(kills):
            enough = totals()[0] + dice.randint(1, 200)
            with ExpiryProcess(GONE, batch_size=batch_size), ExpiryProcess(GONE, batch_size=batch_size):
                wait_until(partial(has_expired, enough), seconds=90)
    wait_until_nobody_else_is_connected()
    expire(GONE)

    assert tills.served > 0
    assert counts(expire(GONE)) == (0, 0, 0)
    assert totals()[0] == Transaction.objects.filter(type="POINTS_EXPIRED").count() > 0
    assert_each_card_expired_at_most_once()
    assert_nobody_lost_points_who_was_there_before(cards)
    assert not ExpirationRun.objects.filter(status="running").exists()


def has_expired(cards: int) -> bool:
    """Whether the runs have taken points from so many cards, or from all that there were."""
    return totals()[0] >= cards or not CardBalance.objects.filter(points_balance__gt=0, last_activity_at=NOON).exists()


def assert_nobody_lost_points_who_was_there_before(cards: int) -> None:
    """An expiry is the first thing that happens to a card that night, or it does not happen."""
    expired = Transaction.objects.filter(type="POINTS_EXPIRED")
    assert not expired.exclude(seq=3).exists()
    idle = CardBalance.objects.filter(last_activity_at=NOON)
    assert not idle.exclude(points_balance=0).exists()
    saved = CardBalance.objects.filter(last_activity_at=GONE, lifetime_points_expired=0).count()
    assert expired.count() + saved == cards
    assert not CardBalance.objects.filter(lifetime_points_expired__gt=F("lifetime_points_earned") + 10).exists()


def test_a_storm_of_kills_and_tills_takes_each_card_once_or_not_at_all():
    storm(cards=1200, kills=3, batch_size=5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_long_storm():
    storm(cards=int(os.environ.get("STORM_CARDS", "20000")), kills=12, batch_size=25)
