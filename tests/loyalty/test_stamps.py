from datetime import UTC, datetime, timedelta

import pytest

from loyalty.errors import (
    CardNotActive,
    CardNotFound,
    CardOfAnotherStore,
    DailyStampsReached,
    InvalidInput,
    MomentNotAccepted,
    NotEnoughStamps,
    NotInThisProgram,
    StampCooldown,
)
from loyalty.models import Card, Program, StaffMember, Store, Transaction
from loyalty.services import earning, explaining, reversing, stamps
from loyalty.services.once import AnsweredBefore, Request
from tests.factories import NOON, balance_of, days, give, make_card, make_merchant, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import expire
from tests.loyalty.test_statement_counts import round_trips

pytestmark = pytest.mark.django_db
COOLDOWN = timedelta(minutes=15)
HOUR = timedelta(hours=1)


@pytest.fixture
def store():
    return make_store(make_merchant(kind="stamps", stamps_target=10, stamps_reward="Free coffee"))


@pytest.fixture
def card(store):
    return make_card(store.merchant)


def stamp(store: Store, card: Card, at=NOON, **fields) -> Transaction:
    return stamps.add_stamps(store=store, card_id=card.pk, at=at, **fields)


def redeem(store: Store, card: Card, at=NOON, **fields) -> Transaction:
    return stamps.redeem_stamps(store=store, card_id=card.pk, at=at, **fields)


def void(row: Transaction, at=NOON) -> Transaction:
    return reversing.void(
        store=None, merchant=row.merchant, transaction_id=row.pk, reason="Wrong card", actor="kim", at=at
    )


def collect(store: Store, card: Card, count: int) -> None:
    """Stamps of the days before, as many as a card needs."""
    Program.objects.update(max_daily_stamps=100)
    stamp(store, card, NOON - days(1), count=count)


# --- collecting


def test_a_stamp_is_a_row_and_one_more_on_the_card(store, card):
    staff = StaffMember.objects.create(merchant=store.merchant, display_name="Kim")

    row = stamp(store, card, staff_member=staff, actor="till 3")

    row.refresh_from_db()
    assert (row.type, row.stamps_delta, row.stamps_balance_after, row.points_delta) == ("STAMP_EARNED", 1, 1, 0)
    assert (row.store, row.staff_member, row.actor, row.transaction_at) == (store, staff, "till 3", NOON)
    assert balance_of(card).stamp_count == 1


def test_several_stamps_can_be_given_at_once_up_to_those_of_a_day(store, card):
    assert stamp(store, card, count=5).stamps_balance_after == 5


@pytest.mark.parametrize("count", [-1, 0, 6])
def test_no_other_number_of_stamps_is_given(store, card, count):
    with pytest.raises(InvalidInput, match="1 to 5") as refused:
        stamp(store, card, count=count)

    assert refused.value.details == {"field": "count"}
    assert balance_of(card).stamp_count == 0


def test_collecting_and_redeeming_stamps_are_activities():
    store = make_store(make_merchant(kind="hybrid", stamps_target=1))
    card = make_card(store.merchant, points=10)
    expire(NOON + days(170))

    stamp(store, card, NOON + days(171))
    assert (balance_of(card).last_activity_at, balance_of(card).expiration_warned_for) == (NOON + days(171), None)
    redeem(store, card, NOON + days(172))
    assert balance_of(card).last_activity_at == NOON + days(172)


@pytest.mark.parametrize(("kind", "collects"), [("points", False), ("stamps", True), ("hybrid", True)])
def test_only_programs_with_stamps_collect_them(kind, collects):
    store = make_store(make_merchant(kind=kind, stamps_target=1))
    card = make_card(store.merchant)

    if collects:
        stamp(store, card)
        assert redeem(store, card).stamps_balance_after == 0
        return
    for act in (stamp, redeem):
        with pytest.raises(NotInThisProgram, match="collects points, not stamps"):
            act(store, card)


@pytest.mark.parametrize("act", [stamp, redeem])
def test_cards_that_cannot_be_used_here_neither_collect_nor_redeem(store, card, act):
    with pytest.raises(CardNotFound):
        act(make_store(), card)
    Program.objects.update(allow_cross_store=False)
    with pytest.raises(CardOfAnotherStore):
        act(store, card)
    Card.objects.update(status="suspended")
    with pytest.raises(CardNotActive):
        act(store, card)


# --- cooldown


def test_a_card_that_just_got_a_stamp_waits(store, card):
    stamp(store, card)

    with pytest.raises(StampCooldown, match="the next one from 12:15") as refused:
        stamp(store, card, NOON + timedelta(minutes=3, milliseconds=1))

    assert refused.value.details == {
        "retry_after_seconds": 720,
        "next_stamp_at": "2026-03-02T12:15:00+00:00",
        "remaining_stamps_today": 4,
    }
    assert balance_of(card).stamp_count == 1


def test_the_cooldown_ends_after_its_minutes(store, card):
    stamp(store, card)

    with pytest.raises(StampCooldown) as refused:
        stamp(store, card, NOON + COOLDOWN - timedelta(microseconds=1))
    assert refused.value.details["retry_after_seconds"] == 1

    assert stamp(store, card, NOON + COOLDOWN).stamps_balance_after == 2


def test_a_program_may_have_no_cooldown(store, card):
    Program.objects.update(cooldown_minutes=0)

    assert [stamp(store, card).stamps_balance_after for _ in range(5)] == [1, 2, 3, 4, 5]


def test_a_cooldown_may_last_beyond_the_day(store, card):
    Program.objects.update(cooldown_minutes=24 * 60)
    stamp(store, card)

    with pytest.raises(StampCooldown, match="from 12:00 on 03 March"):
        stamp(store, card, NOON + HOUR)
    with pytest.raises(StampCooldown):
        stamp(store, card, NOON + days(1) - timedelta(seconds=1))
    assert stamp(store, card, NOON + days(1)).stamps_balance_after == 2


def test_times_are_told_as_the_clock_of_the_shop_shows_them():
    store = make_store(make_merchant(kind="stamps", timezone="America/New_York"))
    card = make_card(store.merchant)
    stamp(store, card)

    with pytest.raises(StampCooldown, match="from 07:15") as refused:
        stamp(store, card)

    assert refused.value.details["next_stamp_at"] == "2026-03-02T12:15:00+00:00"


def test_a_voided_stamp_does_not_cool(store, card):
    void(stamp(store, card))

    assert stamp(store, card).stamps_balance_after == 1


# --- the stamps of a day


def test_a_card_gets_only_so_many_stamps_a_day(store, card):
    stamp(store, card, NOON, count=2)
    stamp(store, card, NOON + HOUR, count=3)

    with pytest.raises(DailyStampsReached, match="all its stamps for today") as refused:
        stamp(store, card, NOON + 2 * HOUR)

    assert refused.value.details == {
        "retry_after_seconds": 10 * 3600,
        "next_stamp_at": "2026-03-03T00:00:00+00:00",
        "remaining_stamps_today": 0,
    }
    assert stamp(store, card, NOON + 12 * HOUR).stamps_balance_after == 6


def test_more_stamps_than_are_left_today_are_refused_as_a_whole(store, card):
    stamp(store, card, count=3)

    with pytest.raises(DailyStampsReached, match="only 2 more") as refused:
        stamp(store, card, NOON + HOUR, count=3)

    assert refused.value.details["remaining_stamps_today"] == 2
    assert stamp(store, card, NOON + HOUR, count=2).stamps_balance_after == 5


def test_the_day_is_that_of_the_merchants_calendar():
    store = make_store(make_merchant(kind="stamps", timezone="America/Los_Angeles", max_daily_stamps=1))
    card = make_card(store.merchant)
    stamp(store, card, datetime(2026, 3, 2, 7, 0, tzinfo=UTC))  # still Sunday there

    assert stamp(store, card, datetime(2026, 3, 2, 8, 0, tzinfo=UTC)).stamps_balance_after == 2
    with pytest.raises(DailyStampsReached) as refused:
        stamp(store, card, datetime(2026, 3, 3, 7, 59, tzinfo=UTC))
    assert refused.value.details["retry_after_seconds"] == 60


def test_after_midnight_a_card_may_still_cool_but_has_all_stamps_of_the_day(store, card):
    midnight = datetime(2026, 3, 3, tzinfo=UTC)
    stamp(store, card, midnight - timedelta(minutes=5), count=5)

    with pytest.raises(StampCooldown, match="from 00:10") as refused:
        stamp(store, card, midnight)

    assert refused.value.details["remaining_stamps_today"] == 5
    assert stamp(store, card, midnight + timedelta(minutes=10)).details["remaining_stamps_today"] == 4


def test_voided_stamps_do_not_count_for_the_day(store, card):
    row = stamp(store, card, count=5)
    void(row)

    assert stamp(store, card, count=5).details["remaining_stamps_today"] == 0


def test_a_card_may_have_less_left_than_none_after_the_limit_was_lowered(store, card):
    stamp(store, card, count=5)
    Program.objects.update(max_daily_stamps=2)

    with pytest.raises(DailyStampsReached) as refused:
        stamp(store, card, NOON + HOUR)

    assert refused.value.details["remaining_stamps_today"] == 0


# --- what the row says


def test_a_stamp_tells_when_the_next_one_may_come(store, card):
    first, last = stamp(store, card), stamp(store, card, NOON + HOUR, count=4)

    assert first.details == {"next_stamp_at": "2026-03-02T12:15:00+00:00", "remaining_stamps_today": 4}
    assert last.details == {"next_stamp_at": "2026-03-03T00:00:00+00:00", "remaining_stamps_today": 0}


def test_what_a_stamp_tells_is_true(store, card):
    told = datetime.fromisoformat(stamp(store, card).details["next_stamp_at"])

    with pytest.raises(StampCooldown):
        stamp(store, card, told - timedelta(seconds=1))
    told = datetime.fromisoformat(stamp(store, card, told, count=4).details["next_stamp_at"])
    with pytest.raises(DailyStampsReached):
        stamp(store, card, told - timedelta(seconds=1))
    stamp(store, card, told)


# --- offline tills


def test_an_offline_stamp_counts_on_its_own_day(store, card):
    stamp(store, card, count=5)

    row = stamp(store, card, NOON + HOUR, transaction_at=NOON - days(1), count=2)

    assert (row.transaction_at, row.created_at) == (NOON - days(1), NOON + HOUR)
    assert row.details["remaining_stamps_today"] == 3
    assert balance_of(card).last_activity_at == NOON


def test_an_offline_stamp_keeps_its_distance_from_those_before_and_after_it(store, card):
    stamp(store, card)

    for minutes in (-14, 14):
        with pytest.raises(StampCooldown) as refused:
            stamp(store, card, NOON + HOUR, transaction_at=NOON + timedelta(minutes=minutes))
        assert refused.value.details["next_stamp_at"] == "2026-03-02T12:15:00+00:00"
        assert refused.value.details["retry_after_seconds"] == 1

    row = stamp(store, card, NOON + HOUR, transaction_at=NOON - COOLDOWN)
    assert row.details == {"next_stamp_at": "2026-03-02T12:15:00+00:00", "remaining_stamps_today": 3}


@pytest.mark.parametrize("away", [timedelta(minutes=5, seconds=1), -timedelta(hours=72, seconds=1)])
def test_a_stamp_of_the_future_or_of_long_ago_is_refused(store, card, away):
    with pytest.raises(MomentNotAccepted):
        stamp(store, card, transaction_at=NOON + away)


def test_an_offline_stamp_from_before_an_expiry_says_so():
    store = make_store(make_merchant(kind="hybrid"))
    card = make_card(store.merchant, points=10)
    expire(NOON + days(166))
    expire(NOON + days(181))
    expiry = Transaction.objects.get(type="POINTS_EXPIRED")

    late = stamp(store, card, NOON + days(182), transaction_at=NOON + days(180))
    live = stamp(store, card, NOON + days(182))

    assert late.details["activity_predates_expiration"] == expiry.pk
    assert "activity_predates_expiration" not in live.details


# --- redeeming


def test_a_full_card_becomes_its_reward_and_keeps_the_surplus(store, card):
    collect(store, card, 12)

    row = redeem(store, card, actor="till 3")

    row.refresh_from_db()
    assert (row.type, row.stamps_delta, row.stamps_balance_after, row.points_delta) == ("STAMP_REDEEMED", -10, 2, 0)
    assert (row.store, row.actor, row.details) == (store, "till 3", {"reward": "Free coffee"})


def test_too_few_stamps_are_refused_with_both_numbers(store, card):
    collect(store, card, 9)

    with pytest.raises(NotEnoughStamps, match="9 of the 10 stamps") as refused:
        redeem(store, card)

    assert refused.value.details == {"stamp_count": 9, "stamps_target": 10}
    assert balance_of(card).stamp_count == 9


def test_stamps_do_not_expire_with_points():
    store = make_store(make_merchant(kind="hybrid"))
    card = make_card(store.merchant)
    stamp(store, card, count=3)
    give(card, 10, at=NOON)

    expire(NOON + days(166))
    expire(NOON + days(181))

    assert (balance_of(card).points_balance, balance_of(card).stamp_count) == (0, 3)


# --- in words


def told(card: Card) -> str:
    story = explaining.explain(merchant=card.program.merchant, card_id=card.pk, at=NOON + HOUR)
    return story.movements[0].sentence


def test_stamps_are_told_in_words(store, card):
    stamp(store, card)
    assert told(card) == "1 stamp was collected at Main Street."
    stamp(store, card, NOON + HOUR, count=4)
    assert told(card) == "4 stamps were collected at Main Street."
    collect(store, card, 10)
    redeem(store, card)
    assert told(card) == "Free coffee was given for 10 stamps."


def test_a_redemption_of_a_program_that_names_no_reward_is_told(store, card):
    Program.objects.update(stamps_reward="", stamps_target=1)
    stamp(store, card)
    redeem(store, card)

    assert told(card) == "A reward was given for 1 stamp."


# --- many at once, and again


def request_of(store: Store, key: str = "key-0001") -> Request:
    return Request(key=key, fingerprint="f", status=201, merchant_id=store.merchant_id)


@pytest.mark.django_db(transaction=True)
def test_of_many_stamps_at_once_the_cooldown_lets_one_through():
    store = make_store(make_merchant(kind="stamps"))
    card = make_card(store.merchant)
    done, refused = [], []

    def give_one(number: int) -> None:
        try:
            done.append(stamp(store, card))
        except StampCooldown:
            refused.append(number)

    in_parallel(give_one, 8)

    assert (len(done), len(refused)) == (1, 7)
    assert balance_of(card).stamp_count == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_stamps_at_once_the_day_lets_its_number_through():
    store = make_store(make_merchant(kind="stamps", cooldown_minutes=0, max_daily_stamps=5))
    card = make_card(store.merchant)
    done, refused = [], []

    def give_two(number: int) -> None:
        try:
            done.append(stamp(store, card, count=2))
        except DailyStampsReached:
            refused.append(number)

    in_parallel(give_two, 8)

    assert (len(done), len(refused)) == (2, 6)
    assert balance_of(card).stamp_count == 4


@pytest.mark.django_db(transaction=True)
def test_of_many_who_redeem_at_once_as_many_get_a_reward_as_there_are_full_cards():
    store = make_store(make_merchant(kind="stamps", max_daily_stamps=100, stamps_target=10))
    card = make_card(store.merchant)
    stamp(store, card, count=35)
    done, refused = [], []

    def take(number: int) -> None:
        try:
            done.append(redeem(store, card))
        except NotEnoughStamps:
            refused.append(number)

    in_parallel(take, 8)

    assert (len(done), len(refused)) == (3, 5)
    assert balance_of(card).stamp_count == 5


@pytest.mark.parametrize("act", [stamp, redeem])
@pytest.mark.django_db(transaction=True)
def test_twins_of_a_request_move_stamps_once(act):
    store = make_store(make_merchant(kind="stamps", stamps_target=1, cooldown_minutes=0))
    card = make_card(store.merchant)
    stamp(store, card, NOON - HOUR, count=3)
    rows, answers = [], []

    def twin(number: int) -> None:
        try:
            rows.append(act(store, card, request=request_of(store)).pk)
        except AnsweredBefore as answered:
            answers.append(answered.answer["transaction"])

    in_parallel(twin, 6)

    assert answers == rows * 5
    assert balance_of(card).stamp_count == {stamp: 4, redeem: 2}[act]


def test_a_repeated_offline_stamp_is_answered_even_when_it_has_become_too_old(store, card):
    stamp(store, card, transaction_at=NOON - days(3), request=request_of(store))

    with pytest.raises(AnsweredBefore):
        stamp(store, card, NOON + HOUR, transaction_at=NOON - days(3), request=request_of(store))


@pytest.mark.django_db(transaction=True)
def test_stamps_cost_no_more_statements_than_a_sale():
    store = make_store(make_merchant(kind="hybrid", stamps_target=1))
    card = make_card(store.merchant, points=10)
    expire(NOON + days(166))
    expire(NOON + days(181))
    moment, first, second = NOON + days(182), request_of(store), request_of(store, "key-0002")

    assert round_trips(lambda: stamp(store, card, moment, request=first)) <= 5
    assert round_trips(lambda: redeem(store, card, moment + HOUR, request=second)) <= 4


def test_points_and_stamps_of_a_hybrid_card_go_their_own_ways():
    store = make_store(make_merchant(kind="hybrid", stamps_target=2))
    card = make_card(store.merchant)
    earning.earn(store=store, card_id=card.pk, amount_minor=1000, at=NOON)
    stamp(store, card, count=2)
    redeem(store, card)

    assert (balance_of(card).points_balance, balance_of(card).stamp_count) == (10, 0)
