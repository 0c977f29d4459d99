import random
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any, NamedTuple

import pytest

from loyalty.errors import (
    AlreadyVoided,
    CardNotActive,
    CardOfAnotherStore,
    DuplicateReceipt,
    InvalidAmount,
    NotVoidable,
    PointsAlreadySpent,
    ReasonRequired,
    RefundExceedsPurchase,
    TransactionNotFound,
)
from loyalty.models import Campaign, Card, Merchant, Program, Store, Transaction
from loyalty.services import earning, explaining, redeeming, reversing
from loyalty.services.ledger_check import check_ledger
from loyalty.services.once import AnsweredBefore, Request
from tests.factories import NOON, balance_of, days, make_card, make_merchant, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.test_statement_counts import round_trips

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(hours=1)
DIGITS = {"EUR": 2, "JPY": 0, "KWD": 3}


@pytest.fixture
def store():
    return make_store()


@pytest.fixture
def card(store):
    return make_card(store.merchant)


def earn(store: Store, card: Card, amount_minor: int = 2500, **fields: Any) -> Transaction:
    return earning.earn(store=store, card_id=card.pk, amount_minor=amount_minor, at=NOON, **fields)


def refund(store: Store | None, row: Transaction, amount_minor: int, at=LATER, **fields: Any) -> Transaction:
    fields = {"merchant": row.merchant, "reason": "Did not fit", "actor": "kim", **fields}
    return reversing.refund(store=store, transaction_id=row.pk, amount_minor=amount_minor, at=at, **fields)


def void(store: Store, row: Transaction) -> Transaction:
    return reversing.void(
        store=store, merchant=row.merchant, transaction_id=row.pk, reason="Wrong card", actor="kim", at=LATER
    )


def spend(store: Store, card: Card, points: int) -> None:
    redeeming.redeem_points(store=store, card_id=card.pk, points=points, at=NOON)


def run_campaign(merchant: Merchant, **terms: Any) -> Campaign:
    return Campaign.objects.create(
        program=merchant.program, name="May", starts_at=NOON - days(1), ends_at=NOON + days(1), **terms
    )


def taken(rows: list[Transaction]) -> list[int]:
    return [-row.points_delta for row in rows]


# --- a part of a purchase


def test_a_refund_takes_the_points_of_its_part(store, card):
    sale = earn(store, card)

    row = refund(store, sale, 600)

    row.refresh_from_db()
    assert (row.type, row.points_delta, row.points_balance_after, row.amount_minor) == ("POINTS_VOIDED", -6, 19, 600)
    assert (row.reverses, row.reverses_in_full, row.points_per_unit) == (sale, False, Decimal(1))
    assert (row.reason, row.actor, row.store, row.details) == ("Did not fit", "kim", store, {"refunded_minor": 600})


def test_a_refund_is_no_activity_and_keeps_the_receipt(store, card):
    sale = earn(store, card, receipt_number="R1")
    refund(store, sale, 2500, NOON + days(1))

    assert balance_of(card).last_activity_at == NOON
    with pytest.raises(DuplicateReceipt):
        earn(store, card, receipt_number="R1")


def test_repeated_refunds_end_at_the_points_of_the_purchase():
    store = make_store(make_merchant(points_per_unit=Decimal("0.1")))
    sale = earn(store, make_card(store.merchant))
    assert sale.points_delta == 2

    rows = [refund(store, sale, 600)]
    Program.objects.update(points_per_unit=9)
    rows += [refund(store, sale, 600), refund(store, sale, 1300)]

    assert taken(rows) == [1, 0, 1]
    assert [row.details["refunded_minor"] for row in rows] == [600, 1200, 2500]
    with pytest.raises(RefundExceedsPurchase):
        refund(store, sale, 1)


@pytest.mark.parametrize(
    ("currency", "amount", "parts", "points"),
    [("JPY", 250, [99, 99, 52], [10, 10, 5]), ("KWD", 2500, [501, 501, 1498], [1, 0, 0])],
)
def test_the_parts_are_in_the_minor_units_of_the_currency(currency, amount, parts, points):
    rate = Decimal("0.1") if currency == "JPY" else Decimal("0.5")
    store = make_store(make_merchant(currency=currency, points_per_unit=rate))
    sale = earn(store, make_card(store.merchant), amount)

    assert taken([refund(store, sale, part) for part in parts]) == points
    assert sum(points) == sale.points_delta


# --- campaigns and caps


def test_the_multiplier_of_the_campaign_is_that_of_the_sale(store, card):
    campaign = run_campaign(store.merchant, multiplier=Decimal("1.5"))
    sale = earn(store, card, 1000)
    campaign.delete()

    assert taken([refund(store, sale, 100), refund(store, sale, 900)]) == [2, 13]


def test_a_bonus_stays_while_the_rest_meets_its_minimum(store, card):
    run_campaign(store.merchant, bonus_points=5, minimum_purchase_minor=1000)
    sale = earn(store, card, 2000)
    assert sale.points_delta == 25

    rows = [refund(store, sale, part) for part in (1000, 1, 999)]

    assert taken(rows) == [10, 6, 9]


def test_a_bonus_without_a_minimum_goes_with_the_last_cent(store, card):
    run_campaign(store.merchant, bonus_points=5)
    sale = earn(store, card, 1000)

    assert taken([refund(store, sale, 999), refund(store, sale, 1)]) == [10, 5]


def test_a_cap_stays_a_cap(store, card):
    Program.objects.update(max_points_per_transaction=20)
    sale = earn(store, card, 5000)
    Program.objects.update(max_points_per_transaction=None)

    rows = [refund(store, sale, part) for part in (2500, 600, 1900)]

    assert (sale.points_delta, taken(rows)) == (20, [0, 1, 19])


# --- how much


@pytest.mark.parametrize("amount_minor", [0, -1])
def test_a_refund_is_larger_than_zero(store, card, amount_minor):
    sale = earn(store, card)

    with pytest.raises(InvalidAmount):
        refund(store, sale, amount_minor)


@pytest.mark.parametrize(
    ("currency", "amount", "left", "spelled"),
    [("EUR", 2500, "7.05", "€7.05"), ("JPY", 2500, "705", "¥705"), ("KWD", 2500, "0.705", "KWD0.705")],
)
def test_no_more_is_refunded_than_was_paid(currency, amount, left, spelled):
    store = make_store(make_merchant(currency=currency))
    card = make_card(store.merchant)
    sale = earn(store, card, amount)
    refund(store, sale, amount - 705)
    before = balance_of(card)

    with pytest.raises(RefundExceedsPurchase) as refused:
        refund(store, sale, 706)

    assert f"only {spelled} of it" in refused.value.sentence
    assert refused.value.details == {"refundable": left, "refundable_minor": 705}
    assert (balance_of(card).version, balance_of(card).points_balance) == (before.version, before.points_balance)
    assert refund(store, sale, 705).reverses_in_full


def test_a_purchase_of_nothing_has_nothing_to_refund(store, card):
    with pytest.raises(RefundExceedsPurchase, match="nothing of it") as refused:
        refund(store, earn(store, card, 0), 1)

    assert refused.value.details == {"refundable": "0.00", "refundable_minor": 0}


# --- with voids


def test_a_void_takes_what_refunds_left(store, card):
    sale = earn(store, card)
    refund(store, sale, 600)

    row = void(store, sale)

    assert (row.points_delta, row.amount_minor, row.points_balance_after) == (-19, 1900, 0)
    with pytest.raises(AlreadyVoided, match="This was voided already"):
        refund(store, sale, 1)


def test_what_was_refunded_in_full_is_not_voided(store, card):
    sale = earn(store, card)
    refund(store, sale, 600)
    last = refund(store, sale, 1900)

    with pytest.raises(AlreadyVoided, match="This was refunded in full already") as refused:
        void(store, sale)

    assert refused.value.details == {"transaction_id": last.pk}
    assert balance_of(card).points_balance == 0


def test_a_refund_is_a_refund_itself_and_cannot_be_refunded(store, card):
    sale = earn(store, card)
    part = refund(store, sale, 600)
    redemption = redeeming.redeem_points(store=store, card_id=card.pk, points=1, at=NOON)

    for row in (part, redemption):
        with pytest.raises(NotVoidable, match="Only a purchase") as refused:
            refund(store, row, 1)
        assert refused.value.details == {"type": row.type}


# --- when the points are gone


def test_what_was_owed_and_not_there_is_not_taken_later(store, card):
    sale = earn(store, card)
    spend(store, card, 23)
    first = refund(store, sale, 600)
    earn(store, card, 10000)

    second = refund(store, sale, 600)
    last = refund(store, sale, 1300)

    assert (first.points_delta, first.details) == (-2, {"refunded_minor": 600, "shortfall": 4})
    assert taken([first, second, last]) == [2, 6, 13]
    assert balance_of(card).points_balance == 81


def test_a_void_does_not_take_what_a_refund_could_not(store, card):
    sale = earn(store, card)
    spend(store, card, 25)
    refund(store, sale, 600)
    earn(store, card, 10000)

    assert void(store, sale).points_delta == -19


def test_a_program_may_refuse_a_refund_of_spent_points(store, card):
    Program.objects.update(refund_policy="block")
    sale = earn(store, card)
    spend(store, card, 20)

    with pytest.raises(PointsAlreadySpent) as refused:
        refund(store, sale, 600)

    assert refused.value.details == {"points_balance": 5, "points_needed": 6}
    assert refund(store, sale, 500).points_balance_after == 0


# --- who and where


def test_goods_come_back_when_they_come_back(store, card):
    sale = earn(store, card)
    Program.objects.update(allow_void=False)

    assert refund(store, sale, 600, NOON + days(30)).points_delta == -6


def test_a_refund_needs_a_reason_a_purchase_of_the_merchant_and_a_card_in_use(store, card):
    sale = earn(store, card)

    with pytest.raises(ReasonRequired):
        refund(store, sale, 1, reason=" ")
    with pytest.raises(TransactionNotFound):
        refund(None, sale, 1, merchant=make_merchant())
    Program.objects.update(allow_cross_store=False)
    with pytest.raises(CardOfAnotherStore):
        refund(store, sale, 1)
    Card.objects.update(status="suspended")
    assert refund(None, sale, 100).points_delta == -1
    Card.objects.update(status="closed")
    with pytest.raises(CardNotActive):
        refund(None, sale, 1)


def test_refunds_are_told_in_words(store, card):
    sale = earn(store, card)
    spend(store, card, 20)
    refund(store, sale, 100)
    refund(store, sale, 600)

    sentences = [m.sentence for m in explaining.explain(merchant=store.merchant, card_id=card.pk, at=LATER).movements]

    assert sentences[:2] == [
        "A refund of €6.00 took back 4 points (2 more were no longer on the card): Did not fit",
        "A refund of €1.00 took back 1 point: Did not fit",
    ]


# --- any sequence of refunds


class Rules(NamedTuple):
    """The rules of a sale, and by themselves, what they give for an amount."""

    currency: str
    rate: Decimal
    multiplier: Decimal
    bonus: int
    minimum_minor: int
    cap: int | None

    def worth(self, amount_minor: int) -> int:
        """What a sale earns."""
        return self.worth_of_rest(amount_minor, amount_minor)

    def worth_of_rest(self, rest_minor: int, sold_minor: int) -> int:
        """What is kept of a sale: a campaign that gave it nothing more is none of its terms."""
        if rest_minor == 0:
            return 0
        gave_more = sold_minor >= self.minimum_minor and self._in_campaign(sold_minor) > self._plain(sold_minor)
        is_in_campaign = gave_more and rest_minor >= self.minimum_minor
        points = self._in_campaign(rest_minor) if is_in_campaign else self._plain(rest_minor)
        return points if self.cap is None else min(points, self.cap)

    def _plain(self, amount_minor: int) -> int:
        return floor(self._exactly(amount_minor))

    def _in_campaign(self, amount_minor: int) -> int:
        return floor(self._exactly(amount_minor) * Fraction(self.multiplier)) + self.bonus

    def _exactly(self, amount_minor: int) -> Fraction:
        return Fraction(amount_minor, 10 ** DIGITS[self.currency]) * Fraction(self.rate)


def some_rules(dice: random.Random) -> Rules:
    return Rules(
        currency=dice.choice(list(DIGITS)),
        rate=Decimal(dice.choice([dice.randint(0, 3000), dice.randint(0, 1_000_000)])).scaleb(-4),
        multiplier=Decimal(dice.choice([100, 150, 300, dice.randint(100, 500)])).scaleb(-2),
        bonus=dice.choice([0, 0, 1, dice.randint(1, 50)]),
        minimum_minor=dice.choice([0, dice.randint(1, 5000)]),
        cap=dice.choice([None, None, dice.randint(0, 100)]),
    )


def sale_by(rules: Rules, amount_minor: int) -> tuple[Store, Transaction]:
    merchant = make_merchant(currency=rules.currency, points_per_unit=rules.rate, max_points_per_transaction=rules.cap)
    run_campaign(
        merchant, multiplier=rules.multiplier, bonus_points=rules.bonus, minimum_purchase_minor=rules.minimum_minor
    )
    store = make_store(merchant)
    return store, earn(store, make_card(merchant), amount_minor)


def change_all_rules(dice: random.Random) -> None:
    Program.objects.update(points_per_unit=dice.randint(0, 50), max_points_per_transaction=dice.choice([None, 3]))
    Campaign.objects.update(multiplier=9, bonus_points=99, minimum_purchase_minor=0)


def parts_of(amount_minor: int, dice: random.Random) -> list[int]:
    """The amount in up to six parts, the smallest of one minor unit."""
    cuts = sorted({dice.randint(1, amount_minor) for _ in range(dice.randint(0, 5))} | {amount_minor})
    return [end - start for start, end in zip([0, *cuts], cuts, strict=False)]


@pytest.mark.parametrize("spends", [False, True], ids=["points stay", "points are spent"])
def test_the_points_kept_are_always_those_of_the_rest(spends):
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(25):
        rules, amount_minor = some_rules(dice), dice.choice([dice.randint(1, 60), dice.randint(1, 20_000)])
        store, sale = sale_by(rules, amount_minor)
        assert sale.points_delta == rules.worth(amount_minor), rules
        change_all_rules(dice)
        rest, kept = amount_minor, sale.points_delta
        for part in parts_of(amount_minor, dice):
            if spends and (balance := balance_of(sale.card).points_balance):
                spend(store, sale.card, dice.randint(1, balance))
            row = refund(store, sale, part)
            rest -= part
            kept += row.points_delta - row.details.get("shortfall", 0)
            assert kept == rules.worth_of_rest(rest, amount_minor), (rules, amount_minor, rest)
            assert row.points_delta <= 0 <= row.points_balance_after
            assert row.reverses_in_full == (rest == 0)
        with pytest.raises(RefundExceedsPurchase):
            refund(store, sale, 1)
        if not spends:
            assert balance_of(sale.card).points_balance == 0
    assert check_ledger().mismatches == []


# --- many at once, and again


def request_of(store: Store) -> Request:
    return Request(key="key-0001", fingerprint="f", status=201, merchant_id=store.merchant_id)


@pytest.mark.django_db(transaction=True)
def test_refunds_at_once_never_exceed_the_purchase():
    store = make_store()
    card = make_card(store.merchant)
    sale = earn(store, card)
    done, refused = [], []

    def give_back(number: int) -> None:
        try:
            done.append(refund(store, sale, 600))
        except RefundExceedsPurchase:
            refused.append(number)

    in_parallel(give_back, 10)

    assert (len(done), len(refused)) == (4, 6)
    assert balance_of(card).points_balance == 1
    assert sum(row.amount_minor or 0 for row in Transaction.objects.filter(reverses=sale)) == 2400


@pytest.mark.django_db(transaction=True)
def test_refunds_and_voids_at_once_take_what_was_earned():
    for _ in range(4):
        store = make_store()
        card = make_card(store.merchant)
        sale = earn(store, card)

        def take_back(number: int, *, store=store, sale=sale) -> None:
            try:
                refund(store, sale, 600) if number % 2 else void(store, sale)
            except (AlreadyVoided, RefundExceedsPurchase):
                return

        in_parallel(take_back, 6)

        reversals = Transaction.objects.filter(reverses=sale)
        assert -sum(row.points_delta for row in reversals) == 25
        assert reversals.filter(reverses_in_full=True).count() == 1
        assert sum(row.amount_minor or 0 for row in reversals) == 2500
    assert check_ledger().mismatches == []


@pytest.mark.django_db(transaction=True)
def test_twins_of_a_refund_do_it_once():
    store = make_store()
    card = make_card(store.merchant)
    sale = earn(store, card)
    rows, answers = [], []

    def twin(number: int) -> None:
        try:
            rows.append(refund(store, sale, 600, request=request_of(store)).pk)
        except AnsweredBefore as answered:
            answers.append(answered.answer["transaction"])

    in_parallel(twin, 6)

    assert answers == rows * 5
    assert balance_of(card).points_balance == 19


@pytest.mark.django_db(transaction=True)
def test_a_refund_costs_as_many_statements_as_a_sale():
    store = make_store()
    sale = earn(store, make_card(store.merchant))
    sale.merchant = store.merchant

    assert round_trips(lambda: refund(store, sale, 600, request=request_of(store))) <= 6
    for _ in range(20):
        refund(store, sale, 1)
    assert round_trips(lambda: refund(store, sale, 600)) <= 6
