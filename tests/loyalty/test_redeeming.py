from datetime import date

import pytest

from loyalty.errors import (
    BelowMinimumRedemption,
    CardNotActive,
    CardNotFound,
    CardOfAnotherStore,
    InsufficientPoints,
    InvalidInput,
    OutOfStock,
    RewardNotAvailable,
)
from loyalty.models import Card, Program, Reward, StaffMember, Store, Transaction
from loyalty.services import redeeming
from tests.factories import NOON, balance_of, days, give, make_card, make_merchant, make_reward, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db


@pytest.fixture
def store():
    return make_store()


@pytest.fixture
def card(store):
    return make_card(store.merchant, points=100)


def redeem(store: Store, card: Card, points: int, *, at=NOON, **who) -> Transaction:
    return redeeming.redeem_points(store=store, card_id=card.pk, points=points, at=at, **who)


def exchange(store: Store, card: Card, reward: Reward, *, at=NOON) -> Transaction:
    return redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=at)


def test_points_leave_the_card_with_a_row(store, card):
    staff = StaffMember.objects.create(merchant=store.merchant, display_name="Kim")

    row = redeem(store, card, 30, at=NOON + days(1), staff_member=staff, actor="till 3")

    row.refresh_from_db()
    assert (row.type, row.points_delta, row.points_balance_after, row.seq) == ("POINTS_REDEEMED", -30, 70, 3)
    assert (row.store, row.staff_member, row.actor, row.reward) == (store, staff, "till 3", None)
    assert (balance_of(card).points_balance, balance_of(card).lifetime_points_redeemed) == (70, 30)


def test_redeeming_is_an_activity(store, card):
    expire(NOON + days(170))

    redeem(store, card, 1, at=NOON + days(171))

    assert balance_of(card).last_activity_at == NOON + days(171)
    assert balance_of(card).expiration_warned_for is None


def test_the_last_point_can_be_redeemed(store, card):
    assert redeem(store, card, 100).points_balance_after == 0


@pytest.mark.parametrize("points", [0, -1])
def test_at_least_one_point_is_redeemed(store, card, points):
    with pytest.raises(InvalidInput):
        redeem(store, card, points)


def test_a_minimum_redemption_holds_from_its_number_on(store, card):
    Program.objects.update(minimum_redemption_points=50)

    with pytest.raises(BelowMinimumRedemption, match="from 50 on"):
        redeem(store, card, 49)

    assert redeem(store, card, 50).points_delta == -50


def test_too_few_points_are_refused_with_the_balance(store, card):
    with pytest.raises(InsufficientPoints, match="The card has 100 points, which is fewer than 1,000") as refused:
        redeem(store, card, 1000)

    assert refused.value.details == {"points_balance": 100}
    assert Transaction.objects.filter(type="POINTS_REDEEMED").count() == 0


def test_the_cashier_learns_that_points_expired_of_late(store, card):
    expire(NOON + days(166))
    expire(NOON + days(181))
    give(card, 5, at=NOON + days(182))

    with pytest.raises(InsufficientPoints, match="100 points expired on 30 August 2026") as refused:
        redeem(store, card, 50, at=NOON + days(241))

    expired_on = (NOON + days(181)).date()
    assert expired_on == date(2026, 8, 30)
    assert refused.value.details == {"points_balance": 5, "points_expired": 100, "expired_on": "2026-08-30"}


def test_an_expiry_of_more_than_60_days_ago_is_not_mentioned(store, card):
    expire(NOON + days(166))
    expire(NOON + days(181))

    with pytest.raises(InsufficientPoints) as refused:
        redeem(store, card, 50, at=NOON + days(241.001))

    assert refused.value.details == {"points_balance": 0}


@pytest.mark.parametrize("status", ["suspended", "closed", "erased"])
def test_only_an_active_card_redeems(store, card, status):
    Card.objects.update(status=status)

    with pytest.raises(CardNotActive):
        redeem(store, card, 10)
    with pytest.raises(CardNotActive):
        exchange(store, card, make_reward(store.merchant))


def test_a_card_of_another_merchant_is_unknown(card):
    with pytest.raises(CardNotFound):
        redeem(make_store(), card, 10)


def test_a_program_may_keep_cards_to_their_store(store, card):
    Program.objects.update(allow_cross_store=False)

    with pytest.raises(CardOfAnotherStore):
        redeem(store, card, 10)


# --- rewards


def test_a_reward_costs_its_points_and_leaves_the_stock(store, card):
    reward = make_reward(store.merchant, points_cost=40, stock=2)

    row = exchange(store, card, reward)

    assert (row.points_delta, row.reward, balance_of(card).points_balance) == (-40, reward, 60)
    assert Reward.objects.get().stock == 1


def test_a_reward_without_a_stock_never_runs_out(store, card):
    reward = make_reward(store.merchant, points_cost=40)

    exchange(store, card, reward)
    exchange(store, card, reward)

    assert Reward.objects.get().stock is None


def test_the_minimum_redemption_does_not_concern_rewards(store, card):
    Program.objects.update(minimum_redemption_points=50)

    assert exchange(store, card, make_reward(store.merchant, points_cost=40)).points_delta == -40


def test_the_last_one_goes_once(store, card):
    reward = make_reward(store.merchant, points_cost=40, stock=1)
    exchange(store, card, reward)

    with pytest.raises(OutOfStock, match="Coffee"):
        exchange(store, card, reward)

    assert balance_of(card).points_balance == 60


def test_a_reward_that_costs_too_much_stays_in_the_stock(store, card):
    reward = make_reward(store.merchant, points_cost=101, stock=1)

    with pytest.raises(InsufficientPoints):
        exchange(store, card, reward)

    assert Reward.objects.get().stock == 1


@pytest.mark.parametrize(
    "terms",
    [
        {"is_active": False},
        {"active_from": NOON.date() + days(1)},
        {"active_to": NOON.date() - days(1)},
    ],
    ids=["switched off", "not yet", "no longer"],
)
def test_a_reward_that_is_not_offered_today_is_refused(store, card, terms):
    with pytest.raises(RewardNotAvailable):
        exchange(store, card, make_reward(store.merchant, **terms))


def test_a_reward_is_offered_on_its_first_and_last_local_day(card, store):
    today = NOON.date()

    assert exchange(store, card, make_reward(store.merchant, active_from=today, active_to=today)).points_delta == -50


def test_a_reward_of_another_program_is_refused(store, card):
    with pytest.raises(RewardNotAvailable):
        exchange(store, card, make_reward(make_merchant()))


# --- many at once


@pytest.mark.django_db(transaction=True)
def test_of_many_who_redeem_at_once_exactly_the_legal_number_succeeds():
    store = make_store()
    card = make_card(store.merchant, points=100)
    done, refused = [], []

    def take(number: int) -> None:
        try:
            done.append(redeem(store, card, 10))
        except InsufficientPoints:
            refused.append(number)

    in_parallel(take, 16)

    assert (len(done), len(refused)) == (10, 6)
    assert balance_of(card).points_balance == 0


@pytest.mark.django_db(transaction=True)
def test_of_many_who_want_the_last_rewards_as_many_get_one_as_there_are():
    store = make_store()
    reward = make_reward(store.merchant, points_cost=10, stock=5)
    cards = [make_card(store.merchant, points=100) for _ in range(4)]
    done, refused = [], []

    def take(number: int) -> None:
        try:
            done.append(exchange(store, cards[number % 4], reward))
        except OutOfStock:
            refused.append(number)

    in_parallel(take, 12)

    assert (len(done), len(refused)) == (5, 7)
    assert Reward.objects.get().stock == 0
    assert sum(balance_of(card).points_balance for card in cards) == 350
