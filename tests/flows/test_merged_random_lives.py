"""Random sales, suspensions and merges; what went of points that had been on several cards must be justified.

The proof looks at ledger rows and mails alone, of all cards that the points had been on.
"""

import random
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from loyalty.errors import LoyaltyError
from loyalty.models import Store, Transaction
from loyalty.services import adjustments, card_status, earning, merging, redeeming, restoring
from loyalty.services.ledger_check import check_ledger
from notifications.models import Message
from tests.factories import days, make_card, make_merchant, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db
BEGIN = datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
TERM, NOTICE = timedelta(days=10), timedelta(days=4)


class Shop:
    """Cards that are used, stopped and merged at random, with a run every night."""

    def __init__(self, zone: str, dice: random.Random) -> None:
        merchant = make_merchant(timezone=zone, points_expiration_days=10, expiration_warning_days=4)
        self.dice, self.zone = dice, ZoneInfo(zone)
        self.store: Store = make_store(merchant)
        self.cards = [make_card(merchant, points=100, at=BEGIN) for _ in range(12)]

    def live(self, number_of_days: int) -> None:
        for number in range(number_of_days):
            for _ in range(self.dice.randrange(4)):
                self._something_happens(BEGIN + days(number) + timedelta(minutes=self.dice.randrange(720)))
            report = expire(BEGIN + days(number + 1) - timedelta(hours=6))
            assert report.failed_card_ids == []

    def _something_happens(self, at: datetime) -> None:
        card, other = self.dice.sample(self.cards, 2)
        merchant = self.store.merchant
        how: dict[str, Any] = {"reason": "Dice", "actor": "dice", "at": at}
        late = at - timedelta(hours=self.dice.choice([0, 0, 30, 71]))
        acts = [
            lambda: earning.earn(store=self.store, card_id=card.pk, amount_minor=900, at=at, transaction_at=late),
            lambda: redeeming.redeem_points(store=self.store, card_id=card.pk, points=9, at=at),
            lambda: adjustments.adjust(merchant=merchant, card_id=card.pk, points=-9, **how),
            lambda: restoring.restore_points(merchant=merchant, card_id=card.pk, points=9, **how),
            lambda: card_status.suspend_card(merchant=merchant, card_id=card.pk, **how),
            lambda: card_status.reactivate_card(merchant=merchant, card_id=card.pk, **how),
            lambda: merging.merge_cards(merchant=merchant, source_id=card.pk, target_id=other.pk, **how),
            lambda: self.cards.append(make_card(merchant, points=100, at=at)),
        ]
        with suppress(LoyaltyError):  # a refusal is fine
            self.dice.choice(acts)()

    def local(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Kiritimati"])
def test_every_expiry_of_random_merged_cards_is_justified(zone, settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 0
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    shop = Shop(zone, random.Random(seed))

    shop.live(number_of_days=100)

    expiries = Transaction.objects.filter(type="POINTS_EXPIRED").order_by("pk")
    assert any(came_in_before(row) for row in expiries)
    for row in expiries:
        assert_idle_and_promised_to_nobody(shop, row)
        assert_announced_with_all_its_points(shop, row)
    assert check_ledger().mismatches == []


def came_in_before(row: Transaction) -> list[Transaction]:
    return list(Transaction.objects.filter(card=row.card_id, type="MERGE_IN", seq__lt=row.seq).order_by("seq"))


def family(row: Transaction) -> set[int]:
    """The card of an expiry with all cards whose points came to it before, through any number of merges."""
    return {row.card_id}.union(*(family(earlier_owner(come_in)) for come_in in came_in_before(row)))


def earlier_owner(come_in: Transaction) -> Transaction:
    return Transaction.objects.get(card=come_in.details["merged_from"], type="MERGE_OUT")


def assert_idle_and_promised_to_nobody(shop: Shop, row: Transaction) -> None:
    cards, gone_on = family(row), shop.local(row.created_at)
    used = [
        other.transaction_at
        for other in Transaction.objects.filter(card__in=cards, pk__lt=row.pk)
        if other.type in Transaction.COUNTS_AS_ACTIVITY or (other.type == "ADMIN_ADJUSTMENT" and other.points_delta > 0)
    ]
    mails = Message.objects.filter(kind="loyalty_points_expiring", reference__in=map(str, cards))
    promised = [mail.context["expires_on"] for mail in mails.filter(created_at__lt=row.created_at)]
    assert gone_on > shop.local(max(used)) + TERM
    assert gone_on > date.fromisoformat(max(promised))


def assert_announced_with_all_its_points(shop: Shop, row: Transaction) -> None:
    since = max([come_in.created_at for come_in in came_in_before(row) if come_in.points_delta], default=BEGIN)
    warned_at, warned_for = datetime.fromisoformat(row.details["warned_at"]), row.details["warned_for"]
    assert warned_at > since
    assert shop.local(row.created_at) > date.fromisoformat(warned_for) >= shop.local(warned_at) + NOTICE
    about = Message.objects.about(str(row.card_id)).filter(kind="loyalty_points_expiring", created_at=warned_at)
    assert [mail.context["expires_on"] for mail in about] == [warned_for]
    assert about[0].context["points"] >= -row.points_delta
