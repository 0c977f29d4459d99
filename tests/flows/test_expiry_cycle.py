"""A year of nights: who is warned, who expires and who is rescued."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from loyalty.models import Card, Merchant, Store, Transaction
from loyalty.services import earning, restoring
from loyalty.services.ledger_check import check_ledger
from notifications.models import Message
from tests.factories import balance_of, make_card, make_merchant, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db
LOS_ANGELES = ZoneInfo("America/Los_Angeles")
FIRST_NIGHT = datetime(2026, 1, 2, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def merchant():
    return make_merchant(timezone="America/Los_Angeles", points_expiration_days=90)


def local(day: date, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime.combine(day, time(hour, minute, second), LOS_ANGELES)


class Year:
    """Nightly runs at 02:00 UTC, with what happens at the tills in between."""

    def __init__(self, merchant: Merchant) -> None:
        self.store: Store = make_store(merchant)
        self.sales: list[tuple[datetime, Card]] = []
        self.warned: dict[int, list[date]] = {}
        self.expired: dict[int, list[datetime]] = {}

    def sell(self, card: Card, at: datetime) -> None:
        self.sales.append((at, card))

    def live(self, nights: int = 365) -> None:
        for moment in self._moments(nights):
            for at, card in [sale for sale in self.sales if moment - DAY <= sale[0] < moment]:
                earning.earn(store=self.store, card_id=card.pk, amount_minor=1000, at=at)
            report = expire(moment)
            assert report.status == "succeeded"
            self._note(moment)

    def _moments(self, nights: int) -> Iterator[datetime]:
        return (FIRST_NIGHT + night * DAY for night in range(nights))

    def _note(self, moment: datetime) -> None:
        for mail in Message.objects.filter(created_at=moment):
            card_id, day = int(mail.reference), date.fromisoformat(mail.context["expires_on"])
            if mail.kind == "loyalty_points_expiring":
                self.warned.setdefault(card_id, []).append(day)
            else:
                self.expired.setdefault(card_id, []).append(moment)


def test_a_year_in_los_angeles(merchant):
    begin = date(2026, 1, 1)
    last_day = begin + timedelta(days=90)
    idle, rescued, rescued_late, regular, lost_twice = (
        make_card(merchant, points=100, at=local(begin, 12)) for _ in range(5)
    )
    empty = make_card(merchant, at=local(begin, 12))
    year = Year(merchant)
    year.sell(rescued, local(last_day, 23, 59, 59))
    year.sell(rescued_late, local(last_day + DAY, 9))  # after the promised day, before that night's run
    for week in range(1, 52):
        year.sell(regular, local(begin + timedelta(weeks=week), 18))
    year.sell(lost_twice, local(date(2026, 6, 1), 10))

    year.live()

    summer_last_day = date(2026, 6, 1) + timedelta(days=90)
    rescued_last_day, late_last_day = last_day + timedelta(days=90), last_day + DAY + timedelta(days=90)
    assert year.warned == {
        idle.pk: [last_day],
        rescued.pk: [last_day, rescued_last_day],
        rescued_late.pk: [last_day, late_last_day],
        lost_twice.pk: [last_day, summer_last_day],
    }
    assert {
        card_id: [first_run_after(day) for day in days] for card_id, days in last_days(year).items()
    } == year.expired
    assert [balance_of(card).points_balance for card in (idle, rescued, rescued_late, lost_twice, empty)] == [0] * 5
    assert balance_of(regular).points_balance == 100 + 10 * 51
    assert check_ledger().mismatches == []


def last_days(year: Year) -> dict[int, list[date]]:
    """The promised days that came true: those after which the card was not active any more."""
    come_true: dict[int, list[date]] = {}
    for row in Transaction.objects.filter(type="POINTS_EXPIRED").order_by("seq"):
        come_true.setdefault(row.card_id, []).append(date.fromisoformat(row.details["warned_for"]))
    return come_true


def first_run_after(day: date) -> datetime:
    """The first 02:00 UTC at which the local day is over."""
    over = datetime.combine(day + DAY, time.min, LOS_ANGELES)
    night = FIRST_NIGHT
    while night < over:
        night += DAY
    return night


def test_restored_points_live_another_full_term(merchant):
    begin = date(2026, 1, 1)
    card = make_card(merchant, points=100, at=local(begin, 12))
    year = Year(merchant)
    year.live(nights=100)
    restored_at = local(date(2026, 4, 20), 12)
    restoring.restore_points(
        merchant=merchant, card_id=card.pk, points=100, reason="Was ill", actor="kim", at=restored_at
    )

    again = Year(merchant)
    for night in range(110, 215):
        moment = FIRST_NIGHT + night * DAY
        expire(moment)
        again._note(moment)

    assert again.warned == {card.pk: [date(2026, 4, 20) + timedelta(days=90)]}
    assert again.expired == {card.pk: [first_run_after(date(2026, 7, 19))]}


def test_nights_that_were_missed_shorten_nobodys_notice(merchant):
    card = make_card(merchant, points=100, at=local(date(2026, 1, 1), 12))
    for night in (*range(60), *range(95, 130)):  # down for five weeks around the warning and the limit
        moment = FIRST_NIGHT + night * DAY
        expire(moment)
        if balance_of(card).points_balance == 0:
            break

    warned_on = (FIRST_NIGHT + 95 * DAY).astimezone(LOS_ANGELES).date()
    assert moment == first_run_after(warned_on + timedelta(days=14))
