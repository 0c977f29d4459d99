"""Days that are shorter, longer, without a midnight, or missing end when the shop's calendar says."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from loyalty.models import Card, CardBalance
from tests.factories import balance_of, make_card, make_merchant
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def no_guard(settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 0


@pytest.mark.parametrize(
    ("zone", "odd_day"),
    [
        ("Europe/Luxembourg", date(2026, 3, 29)),
        ("Europe/Luxembourg", date(2026, 10, 25)),
        ("America/Los_Angeles", date(2026, 3, 8)),
        ("America/Los_Angeles", date(2026, 11, 1)),
        ("America/New_York", date(2026, 11, 1)),
        ("America/Sao_Paulo", date(2018, 11, 4)),
        ("America/Sao_Paulo", date(2018, 2, 18)),
        ("Asia/Beirut", date(2026, 3, 29)),
        ("America/Havana", date(2026, 11, 1)),
        ("Pacific/Apia", date(2011, 12, 30)),
        ("Asia/Kathmandu", date(2026, 3, 29)),
    ],
    ids=lambda value: str(value).replace("/", "-"),
)
def test_points_can_be_used_to_the_last_moment_of_the_promised_day(zone, odd_day):
    merchant = make_merchant(timezone=zone, points_expiration_days=30, expiration_warning_days=7)
    tz = ZoneInfo(zone)
    last_days = [odd_day - timedelta(days=1), odd_day, odd_day + timedelta(days=1)]
    cards = {
        (day, hour): make_card(merchant, points=1, at=moment(day - timedelta(days=30), hour, tz))
        for day in last_days
        for hour in (0, 12, 23)
    }
    for day in last_days:
        expire(moment(day - timedelta(days=7), 12, tz))
    assert promised(cards) == {key: key[0] for key in cards}

    begin = datetime.combine(odd_day, time.min, UTC) - timedelta(days=2)
    lost: dict[tuple[date, int], datetime] = {}
    for hour in range(24 * 5):
        run_at = begin + hour * HOUR
        if expire(run_at).tally.cards_expired:
            lost |= dict.fromkeys((key for key, card in cards.items() if key not in lost and is_empty(card)), run_at)

    assert lost.keys() == cards.keys()
    for (day, _), run_at in lost.items():
        assert (run_at - HOUR).astimezone(tz).date() <= day < run_at.astimezone(tz).date()


def moment(day: date, hour: int, tz: ZoneInfo) -> datetime:
    return datetime.combine(day, time(hour, 30), tz).astimezone(UTC)


def promised(cards: dict[tuple[date, int], Card]) -> dict[tuple[date, int], date | None]:
    return {key: balance_of(card).expiration_warned_for for key, card in cards.items()}


def is_empty(card: Card) -> bool:
    return CardBalance.objects.filter(card=card, points_balance=0).exists()
