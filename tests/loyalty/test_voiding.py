from datetime import timedelta

import pytest

from loyalty.errors import (
    AlreadyVoided,
    CardNotActive,
    CardOfAnotherStore,
    DailyLimitReached,
    DuplicateReceipt,
    InsufficientPoints,
    InvalidInput,
    NotVoidable,
    PointsAlreadySpent,
    ReasonRequired,
    TransactionNotFound,
    VoidNotAllowed,
    VoidWindowPassed,
)
from loyalty.models import Card, Program, Reward, StaffMember, Store, Transaction
from loyalty.services import earning, explaining, redeeming, restoring, reversing, stamps
from loyalty.services.ledger_check import check_ledger
from loyalty.services.once import AnsweredBefore, Request
from tests.factories import NOON, balance_of, days, give, make_card, make_merchant, make_reward, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import expire, table_hashes
from tests.loyalty.test_statement_counts import round_trips

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(hours=1)


@pytest.fixture
def store():
    return make_store(make_merchant(kind="hybrid", stamps_target=3))


@pytest.fixture
def card(store):
    return make_card(store.merchant)


@pytest.fixture
def sale(store, card):
    return earn(store, card)


def earn(store: Store, card: Card, amount_minor: int = 2500, at=NOON, **fields) -> Transaction:
    return earning.earn(store=store, card_id=card.pk, amount_minor=amount_minor, at=at, **fields)


def spend(store: Store, card: Card, points: int, at=NOON) -> Transaction:
    return redeeming.redeem_points(store=store, card_id=card.pk, points=points, at=at)


def void(store: Store | None, row: Transaction, at=LATER, **fields) -> Transaction:
    fields = {"merchant": row.merchant, "reason": "Wrong card", "actor": "kim", **fields}
    return reversing.void(store=store, transaction_id=row.pk, at=at, **fields)


def in_the_back_office(row: Transaction, at=LATER) -> Transaction:
    return void(None, row, at)


def staff(store: Store, role: str) -> StaffMember:
    return StaffMember.objects.create(merchant=store.merchant, display_name="Kim", role=role)


# --- purchases


def test_a_voided_purchase_leaves_nothing_on_the_card(store, card, sale):
    kim = staff(store, "supervisor")

    row = void(store, sale, staff_member=kim, reason="  Wrong card ")

    row.refresh_from_db()
    assert (row.type, row.points_delta, row.points_balance_after, row.amount_minor) == ("POINTS_VOIDED", -25, 0, 2500)
    assert (row.store, row.staff_member, row.actor, row.reason) == (store, kim, "kim", "Wrong card")
    assert (row.reverses, row.reverses_in_full, row.details) == (sale, True, {})
    assert row.transaction_at == row.created_at == LATER
    assert balance_of(card).points_balance == 0


def test_a_void_takes_what_was_earned_whatever_the_program_says_today(store, card, sale):
    Program.objects.update(points_per_unit=7, max_points_per_transaction=1)

    assert void(store, sale).points_delta == -25


def test_a_void_is_no_activity(store, card, sale):
    void(store, sale, NOON + days(1))

    assert balance_of(card).last_activity_at == NOON


def test_a_purchase_worth_nothing_can_be_voided(store, card):
    row = earn(store, card, 10, receipt_number="R1")

    assert void(store, row).points_delta == 0
    assert earn(store, card, receipt_number="R1").points_delta == 25


@pytest.mark.parametrize("voids", [void, lambda store, row: in_the_back_office(row)], ids=["till", "back office"])
def test_a_transaction_is_voided_once(store, card, sale, voids):
    earn(store, card)
    first = voids(store, sale)

    with pytest.raises(AlreadyVoided, match="This was voided already") as refused:
        voids(store, sale)

    assert refused.value.details == {"transaction_id": first.pk}
    assert balance_of(card).points_balance == 25


def test_the_receipt_of_a_voided_purchase_may_earn_again(store, card):
    row = earn(store, card, receipt_number="R1")
    other = earn(store, card, receipt_number="R2")
    with pytest.raises(DuplicateReceipt):
        earn(store, card, receipt_number="R1")

    void(store, row)

    assert earn(store, card, receipt_number="R1").receipt_number == "R1"
    with pytest.raises(DuplicateReceipt):
        earn(store, card, receipt_number=other.receipt_number)


def test_a_refused_void_keeps_the_receipt(store, card):
    Program.objects.update(refund_policy="block")
    row = earn(store, card, receipt_number="R1")
    spend(store, card, 25)

    with pytest.raises(PointsAlreadySpent):
        void(store, row)
    with pytest.raises(DuplicateReceipt):
        earn(store, card, receipt_number="R1")


def test_a_voided_purchase_does_not_count_for_the_day(store, card):
    Program.objects.update(max_daily_earns=1)
    row = earn(store, card)
    with pytest.raises(DailyLimitReached):
        earn(store, card)

    void(store, row)

    assert earn(store, card).points_delta == 25


# --- when the points are gone


def test_points_that_were_spent_are_a_shortfall(store, card, sale):
    spend(store, card, 20)

    row = void(store, sale)

    assert (row.points_delta, row.points_balance_after, row.details) == (-5, 0, {"shortfall": 20})
    assert row.reverses_in_full


def test_a_program_may_refuse_to_take_back_what_was_spent(store, card, sale):
    Program.objects.update(refund_policy="block")
    spend(store, card, 20)

    with pytest.raises(PointsAlreadySpent, match="25 would have to come back, the card has 5") as refused:
        void(store, sale)

    assert refused.value.details == {"points_balance": 5, "points_needed": 25}
    assert balance_of(card).points_balance == 5
    give(card, 20, at=LATER)
    assert void(store, sale).points_delta == -25


@pytest.mark.parametrize("policy", ["clamp", "block"])
def test_points_that_expired_were_not_spent(store, card, sale, policy):
    Program.objects.update(refund_policy=policy)
    expire(NOON + days(166))
    expire(NOON + days(181))

    row = in_the_back_office(sale, NOON + days(182))

    assert (row.points_delta, row.details) == (0, {"shortfall": 25})


def test_points_that_were_spent_before_the_rest_expired_block_all_the_same(store, card, sale):
    Program.objects.update(refund_policy="block")
    spend(store, card, 1)
    expire(NOON + days(166))
    expire(NOON + days(181))

    with pytest.raises(PointsAlreadySpent):
        in_the_back_office(sale, NOON + days(182))


def test_what_expired_before_the_sale_does_not_matter(store, card):
    Program.objects.update(refund_policy="block")
    give(card, 100, at=NOON)
    expire(NOON + days(166))
    expire(NOON + days(181))
    moment = NOON + days(182)
    sale = earn(store, card, at=moment)
    spend(store, card, 25, moment)

    with pytest.raises(PointsAlreadySpent):
        in_the_back_office(sale, moment)


def test_points_that_were_restored_and_spent_block_all_the_same(store, card, sale):
    Program.objects.update(refund_policy="block")
    expire(NOON + days(166))
    expire(NOON + days(181))
    moment = NOON + days(182)
    merchant = store.merchant
    restoring.restore_points(merchant=merchant, card_id=card.pk, points=25, reason="Was ill", actor="kim", at=moment)
    spend(store, card, 25, moment)

    with pytest.raises(PointsAlreadySpent):
        in_the_back_office(sale, moment)


# --- redemptions


def test_a_voided_redemption_gives_its_points_back(store, card, sale):
    redemption = spend(store, card, 20)

    row = void(store, redemption, NOON + days(1))

    assert (row.type, row.points_delta, row.points_balance_after) == ("REDEMPTION_VOIDED", 20, 25)
    assert (row.reverses, row.reverses_in_full, row.amount_minor) == (redemption, True, None)


def test_points_that_came_back_are_not_taken_tonight(store, card, sale):
    redemption = spend(store, card, 20)
    expire(NOON + days(166))

    in_the_back_office(redemption, NOON + days(181))

    assert balance_of(card).last_activity_at == NOON + days(181)
    assert expire(NOON + days(181.5)).tally.cards_expired == 0


@pytest.mark.parametrize(("stock", "after"), [(3, 3), (1, 1), (None, None)])
def test_a_voided_exchange_puts_the_reward_back_in_the_stock(store, card, sale, stock, after):
    reward = make_reward(store.merchant, points_cost=10, stock=stock)
    other = make_reward(store.merchant, points_cost=10, stock=5)
    row = redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=NOON)

    assert void(store, row).reward == reward

    assert (Reward.objects.get(pk=reward.pk).stock, Reward.objects.get(pk=other.pk).stock) == (after, 5)
    assert balance_of(card).points_balance == 25


def test_a_purchase_can_be_voided_after_the_redemption_that_used_it(store, card, sale):
    Program.objects.update(refund_policy="block")
    redemption = spend(store, card, 25)
    void(store, redemption)

    assert void(store, sale).points_balance_after == 0


# --- stamps


def test_voided_stamps_leave_the_card(store, card):
    row = stamps.add_stamps(store=store, card_id=card.pk, count=2, at=NOON)

    voided = void(store, row)

    assert (voided.type, voided.stamps_delta, voided.stamps_balance_after) == ("STAMP_VOIDED", -2, 0)
    assert (voided.reverses, voided.reverses_in_full, voided.details) == (row, True, {})
    assert balance_of(card).last_activity_at == NOON
    with pytest.raises(AlreadyVoided):
        void(store, row)


def test_stamps_of_a_voided_redemption_come_back(store, card):
    stamps.add_stamps(store=store, card_id=card.pk, count=4, at=NOON)
    redemption = stamps.redeem_stamps(store=store, card_id=card.pk, at=NOON)

    row = void(store, redemption)

    assert (row.type, row.stamps_delta, row.stamps_balance_after, row.points_delta) == ("REDEMPTION_VOIDED", 3, 4, 0)
    assert balance_of(card).last_activity_at == LATER


def test_stamps_that_were_used_are_a_shortfall_or_block(store, card):
    Program.objects.update(refund_policy="block")
    row = stamps.add_stamps(store=store, card_id=card.pk, count=4, at=NOON)
    stamps.redeem_stamps(store=store, card_id=card.pk, at=NOON)

    with pytest.raises(PointsAlreadySpent, match="4 would have to come back, the card has 1") as refused:
        void(store, row)
    assert refused.value.details == {"stamp_count": 1, "stamps_needed": 4}

    Program.objects.update(refund_policy="clamp")
    voided = void(store, row)
    assert (voided.stamps_delta, voided.stamps_balance_after, voided.details) == (-1, 0, {"shortfall": 3})


# --- what cannot be voided


def test_other_transactions_are_not_voided(store, card, sale):
    give(card, 10, at=NOON)
    voided = void(store, sale)
    expire(NOON + days(166))
    expire(NOON + days(181))
    expiry = Transaction.objects.get(type="POINTS_EXPIRED")
    restoring.restore_points(
        merchant=store.merchant, card_id=card.pk, points=10, reason="Ill", actor="kim", at=NOON + days(182)
    )
    rows = Transaction.objects.filter(card=card).exclude(pk=sale.pk)
    assert {row.type for row in rows} == {
        "CARD_CREATED", "BALANCE_IMPORTED", "POINTS_VOIDED", "POINTS_EXPIRED", "ADMIN_ADJUSTMENT"
    }  # fmt: skip
    before = table_hashes()

    for row in rows:
        with pytest.raises(NotVoidable) as refused:
            in_the_back_office(row, NOON + days(183))
        assert refused.value.details == {"type": row.type}

    assert {voided.pk, expiry.pk} <= {row.pk for row in rows}
    assert table_hashes() == before


def test_transactions_of_others_are_unknown(store, sale):
    with pytest.raises(TransactionNotFound) as foreign:
        void(None, sale, merchant=make_merchant())
    sale.pk = 10**12
    with pytest.raises(TransactionNotFound) as unknown:
        void(store, sale)

    assert foreign.value.sentence == unknown.value.sentence


@pytest.mark.parametrize(
    ("reason", "refusal"), [("", ReasonRequired), ("  ", ReasonRequired), ("x" * 501, InvalidInput)]
)
def test_a_void_has_a_reason(store, card, sale, reason, refusal):
    with pytest.raises(refusal):
        void(store, sale, reason=reason)

    assert balance_of(card).points_balance == 25


@pytest.mark.parametrize("status", ["closed", "erased"])
def test_a_card_that_is_out_of_use_stays_as_it_is(store, sale, status):
    Card.objects.update(status=status)

    with pytest.raises(CardNotActive):
        in_the_back_office(sale)


def test_a_wrong_purchase_can_be_voided_on_a_suspended_card_and_in_a_program_switched_off(store, sale):
    Card.objects.update(status="suspended")
    Program.objects.update(is_active=False)

    assert void(store, sale).points_delta == -25


def test_where_cards_belong_to_a_store_only_that_store_voids():
    store = make_store(make_merchant())
    card = make_card(store.merchant)
    Card.objects.update(enrolled_at_store=store)
    Program.objects.update(allow_cross_store=False)
    first, second = earn(store, card), earn(store, card)

    with pytest.raises(CardOfAnotherStore):
        void(make_store(store.merchant), first)

    assert void(store, first).points_delta == -25
    assert in_the_back_office(second).points_delta == -25


def test_any_store_voids_where_cards_work_everywhere(store, sale):
    other = make_store(store.merchant)

    assert void(other, sale).store == other


# --- who may, and how long


def test_a_program_may_leave_voids_to_the_back_office(store, sale):
    Program.objects.update(allow_void=False)

    for role in StaffMember.Role.values:
        with pytest.raises(VoidNotAllowed):
            void(store, sale, staff_member=staff(store, role))

    assert in_the_back_office(sale).points_delta == -25


@pytest.mark.parametrize("role", [None, "cashier"])
def test_a_cashier_voids_within_the_window(store, card, role):
    who = {"staff_member": staff(store, role)} if role else {}
    first, second = earn(store, card), earn(store, card)
    end = NOON + timedelta(hours=72)

    assert void(store, first, end, **who).points_delta == -25
    with pytest.raises(VoidWindowPassed, match="more than 72 hours ago") as refused:
        void(store, second, end + timedelta(microseconds=1), **who)

    assert refused.value.details == {"void_window_hours": 72}


def test_the_window_begins_with_the_sale_and_not_when_it_came_in(store, card):
    sale = earn(store, card, at=NOON, transaction_at=NOON - timedelta(hours=70))

    with pytest.raises(VoidWindowPassed):
        void(store, sale, NOON + timedelta(hours=3))


@pytest.mark.parametrize("kind", ["redemption", "stamp"])
def test_the_window_holds_for_redemptions_and_stamps_too(store, card, sale, kind):
    row = spend(store, card, 5) if kind == "redemption" else stamps.add_stamps(store=store, card_id=card.pk, at=NOON)

    with pytest.raises(VoidWindowPassed):
        void(store, row, NOON + days(4))


@pytest.mark.parametrize("role", ["supervisor", "manager"])
def test_a_supervisor_voids_any_time(store, sale, role):
    assert void(store, sale, NOON + days(100), staff_member=staff(store, role)).points_delta == -25


def test_the_back_office_voids_any_time(store, sale):
    assert in_the_back_office(sale, NOON + days(100)).points_delta == -25


# --- in words


def told(card: Card) -> str:
    story = explaining.explain(merchant=card.program.merchant, card_id=card.pk, at=LATER)
    return story.movements[0].sentence


def test_voids_are_told_in_words(store, card, sale):
    reward = make_reward(store.merchant, points_cost=25)
    exchange = redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=NOON)
    void(store, exchange)
    assert told(card) == "The exchange for Coffee was voided, which gave back 25 points: Wrong card"

    discount = spend(store, card, 24)
    void(store, sale)
    assert told(card) == (
        "A purchase was voided, which took back 1 point (24 more were no longer on the card): Wrong card"
    )
    void(store, discount)
    assert told(card) == "A redemption was voided, which gave back 24 points: Wrong card"

    row = stamps.add_stamps(store=store, card_id=card.pk, count=3, at=NOON)
    redeemed = stamps.redeem_stamps(store=store, card_id=card.pk, at=NOON)
    void(store, redeemed)
    assert told(card) == "A redemption was voided, which gave back 3 stamps: Wrong card"
    void(store, row)
    assert told(card) == "Stamps were voided, which took back 3 stamps: Wrong card"


# --- many at once, and again


def request_of(store: Store) -> Request:
    return Request(key="key-0001", fingerprint="f", status=201, merchant_id=store.merchant_id)


@pytest.mark.parametrize("what", ["purchase", "exchange", "stamps", "reward of stamps"])
@pytest.mark.django_db(transaction=True)
def test_of_many_who_void_the_same_at_once_one_succeeds(what):
    store = make_store(make_merchant(kind="hybrid", stamps_target=3))
    card = make_card(store.merchant)
    reward = make_reward(store.merchant, points_cost=25, stock=5)
    earn(store, card)
    rows = {
        "purchase": earn(store, card, receipt_number="R1"),
        "exchange": redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=NOON),
        "stamps": stamps.add_stamps(store=store, card_id=card.pk, count=5, at=NOON),
        "reward of stamps": stamps.redeem_stamps(store=store, card_id=card.pk, at=NOON),
    }
    done, refused = [], []

    def take_back(number: int) -> None:
        try:
            done.append(void(store, rows[what]))
        except AlreadyVoided:
            refused.append(number)

    in_parallel(take_back, 8)

    assert (len(done), len(refused)) == (1, 7)
    assert Transaction.objects.filter(reverses=rows[what]).count() == 1
    assert Reward.objects.get().stock == (5 if what == "exchange" else 4)
    assert check_ledger().mismatches == []


@pytest.mark.django_db(transaction=True)
def test_twins_of_a_void_do_it_once():
    store = make_store()
    card = make_card(store.merchant)
    sale = earn(store, card)
    rows, answers = [], []

    def twin(number: int) -> None:
        try:
            rows.append(void(store, sale, request=request_of(store)).pk)
        except AnsweredBefore as answered:
            answers.append(answered.answer["transaction"])

    in_parallel(twin, 6)

    assert answers == rows * 5
    assert Transaction.objects.filter(type="POINTS_VOIDED").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_void_and_a_redemption_at_once_never_both_have_the_points():
    for _ in range(5):
        store = make_store(make_merchant(refund_policy="block"))
        card = make_card(store.merchant)
        sale = earn(store, card)
        done: list[Transaction] = []

        def compete(number: int, *, store=store, card=card, sale=sale, done=done) -> None:
            try:
                done.append(spend(store, card, 25) if number % 2 else void(store, sale))
            except (PointsAlreadySpent, AlreadyVoided, InsufficientPoints):
                return

        in_parallel(compete, 4)

        assert len(done) == 1
        assert balance_of(card).points_balance == 0


@pytest.mark.django_db(transaction=True)
def test_a_void_costs_few_statements_however_long_the_history():
    store = make_store()
    card = make_card(store.merchant)
    sales = [earn(store, card, receipt_number=number) for number in ("", "R1", "")]
    for sale in sales:
        sale.merchant = store.merchant
    request = request_of(store)

    assert round_trips(lambda: void(store, sales[0], request=request)) <= 6
    assert round_trips(lambda: void(store, sales[1])) <= 7
    for _ in range(40):
        give(card, 1, at=NOON)
    assert round_trips(lambda: void(store, sales[2])) <= 6
