"""The reports of random lives are what a plain loop over all ledger rows says."""

import random
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from loyalty.errors import LoyaltyError
from loyalty.models import Card, StaffMember, Store, Transaction
from loyalty.services import adjustments, earning, merging, redeeming, reports, restoring, reversing, stamps
from loyalty.services.ledger_check import check_ledger
from tests.factories import make_card, make_merchant, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 1, 8, 3, 0, tzinfo=UTC)
DAY = timedelta(days=1)
LIVED_DAYS = 75
END = BEGIN + LIVED_DAYS * DAY
VISITS = ("POINTS_EARNED", "POINTS_REDEEMED", "STAMP_EARNED", "STAMP_REDEEMED")
BY: dict[str, Any] = {"reason": "Dice", "actor": "dice"}


@dataclass
class Shop:
    """A shop with two stores, its staff and cards, of which more come."""

    stores: list[Store]
    staff: list[StaffMember]
    dice: random.Random
    cards: list[Card] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.merchant = self.stores[0].merchant

    def live(self) -> None:
        for number in range(LIVED_DAYS):
            moments = sorted(self.dice.randrange(1440) for _ in range(self.dice.randrange(6)))
            for minute in moments:
                self._something_happens(BEGIN + number * DAY + timedelta(minutes=minute))
            expire(BEGIN + (number + 1) * DAY)

    def _something_happens(self, at: datetime) -> None:
        if len(self.cards) < 3 or self.dice.randrange(12) == 0:
            self.cards.append(make_card(self.merchant, points=self.dice.choice([0, 30]), at=at))
        acts = [self._sell] * 8 + [self._redeem] * 2 + [self._void] * 2 + [self._refund] * 2
        acts += [self._adjust, self._restore, self._stamp, self._redeem_stamps, self._merge]
        with suppress(LoyaltyError):  # a refusal is fine
            self.dice.choice(acts)(self.dice.choice(self.cards), at)

    def _at_till(self, card: Card, at: datetime) -> dict[str, Any]:
        who = {"store": self.dice.choice(self.stores), "staff_member": self.dice.choice([None, *self.staff])}
        return {"card_id": card.pk, "at": at, **who}

    def _sell(self, card: Card, at: datetime) -> None:
        late = timedelta(hours=self.dice.choice([0, 0, 0, 5, 30, 71]))
        earning.earn(
            amount_minor=self.dice.randrange(9000), transaction_at=max(at - late, BEGIN), **self._at_till(card, at)
        )

    def _redeem(self, card: Card, at: datetime) -> None:
        redeeming.redeem_points(points=self.dice.randint(1, 60), **self._at_till(card, at))

    def _stamp(self, card: Card, at: datetime) -> None:
        stamps.add_stamps(count=self.dice.randint(1, 3), **self._at_till(card, at))

    def _redeem_stamps(self, card: Card, at: datetime) -> None:
        stamps.redeem_stamps(**self._at_till(card, at))

    def _void(self, card: Card, at: datetime) -> None:
        rows = Transaction.objects.filter(card=card, type__in=VISITS).order_by("-seq")[:3]
        reversing.void(
            store=self.dice.choice([None, *self.stores]),
            merchant=self.merchant,
            transaction_id=self.dice.choice([0, *rows.values_list("pk", flat=True)]),
            at=at,
            **BY,
        )

    def _refund(self, card: Card, at: datetime) -> None:
        rows = list(Transaction.objects.filter(card=card, type="POINTS_EARNED").order_by("-seq")[:2])
        if rows:
            row = self.dice.choice(rows)
            reversing.refund(
                store=self.dice.choice([None, *self.stores]),
                merchant=self.merchant,
                transaction_id=row.pk,
                amount_minor=self.dice.choice([100, row.amount_minor or 1]),
                at=at,
                **BY,
            )

    def _adjust(self, card: Card, at: datetime) -> None:
        points = self.dice.choice([-20, -1, 1, 20])
        adjustments.adjust(merchant=self.merchant, card_id=card.pk, points=points, at=at, **BY)

    def _restore(self, card: Card, at: datetime) -> None:
        restoring.restore_points(merchant=self.merchant, card_id=card.pk, points=10, at=at, **BY)

    def _merge(self, card: Card, at: datetime) -> None:
        target = self.dice.choice(self.cards)
        merging.merge_cards(merchant=self.merchant, source_id=card.pk, target_id=target.pk, at=at, **BY)

    # --- what the loops begin with

    def rows(self) -> list[Transaction]:
        return list(Transaction.objects.filter(merchant=self.merchant).order_by("pk"))

    def local(self, moment: datetime) -> date:
        return moment.astimezone(self.merchant.zone).date()


@pytest.fixture(params=["UTC", "America/Los_Angeles", "Pacific/Kiritimati"])
def shop(request, settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 0
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    merchant = make_merchant(
        timezone=request.param,
        kind="hybrid",
        welcome_bonus_points=5,
        point_value_minor=3,
        points_expiration_days=12,
        expiration_warning_days=4,
        stamps_target=4,
    )
    stores = [make_store(merchant), make_store(merchant)]
    staff = [StaffMember.objects.create(merchant=merchant, display_name=name) for name in ("Ana", "Bo")]
    shop = Shop(stores, staff, random.Random(seed))
    shop.live()
    elsewhere = make_store()
    make_card(elsewhere.merchant, points=1000, at=BEGIN)
    assert check_ledger().mismatches == []
    return shop


def test_the_reports_of_a_random_life_are_what_a_loop_over_the_ledger_says(shop):
    rows = shop.rows()
    assert {"POINTS_EXPIRED", "POINTS_VOIDED", "POINTS_REDEEMED"} <= {row.type for row in rows}

    check_accounting_and_liability(shop, rows)
    check_breakage(shop, rows)
    check_revenue(shop, rows)
    check_days_of_stores(shop, rows)
    check_cohorts(shop, rows)
    check_active_customers(shop, rows)
    check_cards_at_risk(shop, rows)
    check_staff(shop, rows)


def column(row: Transaction) -> str:
    if row.type == "ADMIN_ADJUSTMENT":
        return "restored" if "restores" in row.details else "adjusted_up" if row.points_delta > 0 else "adjusted_down"
    return {
        "POINTS_EARNED": "earned",
        "WELCOME_BONUS": "welcome_bonus",
        "BALANCE_IMPORTED": "imported",
        "POINTS_REDEEMED": "redeemed",
        "REDEMPTION_VOIDED": "redemption_voided",
        "POINTS_VOIDED": "voided",
        "POINTS_EXPIRED": "expired",
        "MERGE_IN": "merged_in",
        "MERGE_OUT": "merged_out",
    }[row.type]


def check_accounting_and_liability(shop: Shop, rows: list[Transaction]) -> None:
    first, last = shop.local(BEGIN + 9 * DAY), shop.local(END - 9 * DAY)
    accounting = reports.points_accounting(merchant=shop.merchant, first=first, last=last, at=END)
    assert [line.day for line in accounting.days] == [first + n * DAY for n in range((last - first).days + 1)]
    assert accounting.difference == 0
    for line in accounting.days:
        moved: Counter[str] = Counter()
        held: dict[int, tuple[int, int]] = {}
        for row in rows:
            if shop.local(row.created_at) <= line.day:
                held[row.card_id] = (row.points_balance_after, row.stamps_balance_after)
            if shop.local(row.created_at) == line.day and row.points_delta:
                moved[column(row)] += row.points_delta
        figures = asdict(line)
        assert {name: figures[name] for name in moved} == dict(moved)
        assert line.opening + sum(moved.values()) == line.closing == sum(points for points, _ in held.values())
    liability = reports.liability(merchant=shop.merchant, as_of=last, at=END)
    assert (liability.points, liability.value_minor) == (accounting.closing, accounting.closing * 3)
    assert liability.cards_with_points == sum(points > 0 for points, _ in held.values())
    assert liability.stamps == sum(count for _, count in held.values())


def check_breakage(shop: Shop, rows: list[Transaction]) -> None:
    report = reports.breakage(merchant=shop.merchant, first=shop.local(BEGIN), last=shop.local(END))
    sums: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for row in rows:
        day = shop.local(row.created_at)
        if row.points_delta:
            sums[day.year, day.month][column(row)] += row.points_delta
    for month in report.months:
        moved = sums[month.first.year, month.first.month]
        issued = sum(moved[name] for name in ("earned", "welcome_bonus", "imported", "adjusted_up", "voided"))
        assert month.issued == issued
        assert month.redeemed == -moved["redeemed"] - moved["redemption_voided"]
        assert month.expired == -moved["expired"] - moved["restored"]
    assert report.total.issued == sum(month.issued for month in report.months)


def taken_back(row: Transaction) -> int:
    return (row.amount_minor or 0) if row.type == "POINTS_VOIDED" else 0


def check_revenue(shop: Shop, rows: list[Transaction]) -> None:
    by_id = {row.pk: row for row in rows}
    expected: dict[tuple[date, int | None], Counter[str]] = defaultdict(Counter)
    for row in rows:
        store_id = row.store_id
        if store_id is None and row.reverses_id:
            store_id = by_id[row.reverses_id].store_id
        figures = expected[shop.local(row.transaction_at).replace(day=1), store_id]
        if row.type == "POINTS_EARNED":
            figures["sales"] += 1
            figures["amount"] += row.amount_minor or 0
        if row.type == "POINTS_VOIDED":
            figures["sales"] -= row.reverses_in_full
            figures["amount"] -= taken_back(row)
            figures["back"] += taken_back(row)
        if row.type in ("POINTS_REDEEMED", "REDEMPTION_VOIDED"):
            figures["redeemed"] -= row.points_delta
    report = reports.revenue(merchant=shop.merchant, at=END, months_back=3)
    for month in report.months:
        for line in month.stores:
            figures = expected[month.month, line.store_id]
            assert (line.sales, line.amount_minor) == (figures["sales"], figures["amount"])
            assert (line.taken_back_minor, line.points_redeemed) == (figures["back"], figures["redeemed"])
        assert month.total.amount_minor == sum(
            figures["amount"] for (first, _), figures in expected.items() if first == month.month
        )
    assert sum(month.total.sales for month in report.months) > 0


def check_days_of_stores(shop: Shop, rows: list[Transaction]) -> None:
    for number in range(0, LIVED_DAYS, 10):
        at = BEGIN + number * DAY
        for store in shop.stores:
            here = [
                row for row in rows if row.store_id == store.pk and shop.local(row.transaction_at) == shop.local(at)
            ]
            earns = [row for row in here if row.type == "POINTS_EARNED"]
            summary = reports.summary_of_day(store=store, at=at)
            assert (summary.earns, summary.points_earned) == (len(earns), sum(row.points_delta for row in earns))
            assert summary.amount_minor == sum(row.amount_minor or 0 for row in earns)
            assert summary.taken_back_minor == sum(map(taken_back, here))
            assert summary.voids == sum(row.type.endswith("_VOIDED") for row in here)


def check_cohorts(shop: Shop, rows: list[Transaction]) -> None:
    visits = {(row.card_id, shop.local(row.transaction_at).replace(day=1)) for row in rows if row.type in VISITS}
    listed = reports.cohorts(merchant=shop.merchant, at=END, months_back=3)
    months = [cohort.month for cohort in listed]
    for number, cohort in enumerate(listed):
        cards = [card.pk for card in shop.cards if shop.local(card.created_at).replace(day=1) == cohort.month]
        assert cohort.cards == len(cards)
        assert cohort.active == [sum((card, month) in visits for card in cards) for month in months[number:]]
    assert sum(cohort.cards for cohort in listed) == len(shop.cards)


def check_active_customers(shop: Shop, rows: list[Transaction]) -> None:
    holders = {card.pk: card for card in Card.objects.filter(program__merchant=shop.merchant)}
    in_use = {card.pk for card in holders.values() if card.status == "active"}
    latest: dict[int, datetime] = {}
    for row in rows:
        if row.type in VISITS:
            holder = holders[row.card_id].merged_into_id or row.card_id
            latest[holder] = max(latest.get(holder, row.transaction_at), row.transaction_at)
    found = reports.active_customers(merchant=shop.merchant, at=END)
    assert found.enrolled == len(in_use)
    for count, days in [(found.within_30_days, 30), (found.within_90_days, 90)]:
        since = shop.local(END) - (days - 1) * DAY
        assert count == sum(shop.local(moment) >= since for card, moment in latest.items() if card in in_use)


def check_cards_at_risk(shop: Shop, rows: list[Transaction]) -> None:
    visits: dict[int, set[date]] = defaultdict(set)
    for row in rows:
        if row.type in VISITS:
            visits[row.card_id].add(shop.local(row.transaction_at))
    today = shop.local(END)
    expected = set()
    for card in Card.objects.select_related("balance").filter(program__merchant=shop.merchant, status="active"):
        days_ = sorted(visits[card.pk]) or [shop.local(card.balance.last_activity_at)]
        gaps = [(later - earlier).days for earlier, later in pairwise(days_)]
        patience = 2 * sum(gaps) / len(gaps) if len(gaps) >= 2 else 60
        if (today - days_[-1]).days > patience:
            expected.add((card.pk, days_[-1], card.balance.points_balance))
    found = reports.cards_at_risk(merchant=shop.merchant, at=END, limit=200)
    assert {(line.card_id, line.last_activity_on, line.points_balance) for line in found} == expected
    assert [line.points_balance for line in found] == sorted((points for *_, points in expected), reverse=True)


def check_staff(shop: Shop, rows: list[Transaction]) -> None:
    first, last = shop.local(BEGIN + 5 * DAY), shop.local(END - 5 * DAY)
    report = reports.staff_activity(merchant=shop.merchant, first=first, last=last)
    mine = [row for row in rows if row.staff_member_id and first <= shop.local(row.transaction_at) <= last]
    for member in report.members:
        theirs = [row for row in mine if row.staff_member_id == member.staff_member_id]
        assert member.earns == sum(row.type == "POINTS_EARNED" for row in theirs)
        assert member.points == sum(row.points_delta for row in theirs if row.type == "POINTS_EARNED")
        assert member.redemptions == sum(row.type in ("POINTS_REDEEMED", "STAMP_REDEEMED") for row in theirs)
        assert member.stamps == sum(row.stamps_delta for row in theirs if row.type == "STAMP_EARNED")
    earned = Counter((row.staff_member_id, row.card_id) for row in mine if row.type == "POINTS_EARNED")
    of_all = Counter(row.staff_member_id for row in mine if row.type == "POINTS_EARNED")
    assert {(flag.staff_member_id, flag.card_id) for flag in report.flags if flag.reason.endswith("purchases")} == {
        (staff, card) for (staff, card), count in earned.items() if of_all[staff] >= 10 and count * 5 > of_all[staff]
    }
