"""Many cards are changed by one call: each by itself, and once however often the call is repeated."""

import hashlib
from dataclasses import replace

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection

from loyalty.errors import IdempotencyKeyReused, InvalidInput, ReasonRequired
from loyalty.models import Card, CardBalance, IdempotencyKey, Merchant, Transaction
from loyalty.services import adjustments
from loyalty.services.bulk import BulkReport, SkippedCard, adjust_cards, deactivate_cards
from loyalty.services.ledger_check import check_ledger
from loyalty.services.once import AnsweredBefore, Request
from tests.factories import NOON, balance_of, days, make_card, make_cards, make_merchant
from tests.loyalty.parallel import in_parallel

pytestmark = pytest.mark.django_db
LATER = NOON + days(1)


@pytest.fixture
def merchant():
    return make_merchant()


def suspend(merchant: Merchant, ids, **how) -> BulkReport:
    return deactivate_cards(
        merchant=merchant, card_ids=ids, **{"reason": "Stolen pile", "actor": "kim", "at": LATER, **how}
    )


def adjust(merchant: Merchant, ids, points: int = 5, **how) -> BulkReport:
    how = {"reason": "Broken till", "actor": "kim", "at": LATER, **how}
    return adjust_cards(merchant=merchant, card_ids=ids, points=points, **how)


both = pytest.mark.parametrize("change", [suspend, adjust])


def request_of(merchant: Merchant, **fields) -> Request:
    return Request(**{"key": "key-0001", "fingerprint": "f", "status": 200, "merchant_id": merchant.pk, **fields})


def points_of(cards: list[Card]) -> list[int]:
    return [balance_of(card).points_balance for card in cards]


def test_all_cards_are_suspended(merchant):
    cards = make_cards(merchant, 3)

    report = suspend(merchant, [card.pk for card in reversed(cards)])

    assert report == BulkReport(done_card_ids=[card.pk for card in cards])
    assert set(Card.objects.values_list("status", flat=True)) == {"suspended"}
    rows = Transaction.objects.filter(type="CARD_DEACTIVATED")
    assert {(row.actor, row.reason) for row in rows} == {("kim", "Stolen pile")}


@pytest.mark.parametrize(("points", "left"), [(5, 105), (-100, 0)])
def test_all_cards_are_adjusted(merchant, points, left):
    cards = make_cards(merchant, 3)

    report = adjust(merchant, {card.pk for card in cards}, points)

    assert report.done_card_ids == [card.pk for card in cards]
    assert points_of(cards) == [left] * 3
    assert check_ledger().mismatches == []


def test_what_is_refused_for_one_card_stops_no_other(merchant):
    poor, stopped, rich = (make_card(merchant, points=points) for points in (10, 100, 100))
    foreign = make_card(points=100)
    Card.objects.filter(pk=stopped.pk).update(status="closed")
    unknown = foreign.pk + 1000

    report = adjust(merchant, [unknown, foreign.pk, rich.pk, stopped.pk, poor.pk, rich.pk], -50)

    assert report.done_card_ids == [rich.pk]
    assert report.skipped == [
        SkippedCard(poor.pk, "insufficient_points", "The card has 10 points, which is fewer than 50."),
        SkippedCard(stopped.pk, "card_not_active", "This card is Closed and cannot be changed."),
        SkippedCard(foreign.pk, "card_not_found", "This card is not known here."),
        SkippedCard(unknown, "card_not_found", "This card is not known here."),
    ]
    assert points_of([poor, stopped, rich, foreign]) == [10, 100, 50, 100]


def test_cards_that_are_suspended_already_are_skipped(merchant):
    cards = make_cards(merchant, 2)
    suspend(merchant, [cards[0].pk])

    report = suspend(merchant, [card.pk for card in cards])

    assert (report.done_card_ids, [skipped.code for skipped in report.skipped]) == (
        [cards[1].pk],
        ["nothing_to_change"],
    )


@pytest.mark.parametrize("absurd", [0, -1, 2**63, 10**40])
def test_an_id_that_no_card_can_have_is_unknown(merchant, absurd):
    [card] = make_cards(merchant, 1)

    report = adjust(merchant, [absurd, card.pk])

    assert (report.done_card_ids, report.failed_card_ids) == ([card.pk], [])
    assert [(skipped.card_id, skipped.code) for skipped in report.skipped] == [(absurd, "card_not_found")]


@both
@pytest.mark.parametrize("number", [0, 1001])
def test_no_card_or_too_many_are_refused_whole(merchant, change, number):
    with pytest.raises(InvalidInput, match="1 to 1,000 cards") as refused:
        change(merchant, range(1, number + 1))
    assert refused.value.details == {"field": "card_ids"}


@both
def test_a_card_named_often_counts_once(merchant, change):
    [card] = make_cards(merchant, 1)

    assert change(merchant, [card.pk] * 2000).done_card_ids == [card.pk]
    assert balance_of(card).last_seq == 3


@both
def test_a_reason_is_required(merchant, change):
    [card] = make_cards(merchant, 1)

    with pytest.raises(ReasonRequired):
        change(merchant, [card.pk], reason=" ")


def test_an_adjustment_of_nothing_is_refused_whole(merchant):
    with pytest.raises(InvalidInput, match="changes nothing"):
        adjust(merchant, [1], 0)


def test_the_report_can_be_written_as_json(merchant):
    [card] = make_cards(merchant, 1)

    assert adjust(merchant, [card.pk, 0]).as_json() == {
        "done_card_ids": [card.pk],
        "skipped": [{"card_id": 0, "code": "card_not_found", "sentence": "This card is not known here."}],
        "failed_card_ids": [],
    }


# --- faults


def break_balance(card: Card) -> None:
    """A balance whose version can grow no more: writing it fails, as a fault of a single card would."""
    CardBalance.objects.filter(card=card).update(version=2**31 - 1)


@both
def test_a_card_that_fails_is_named_and_the_others_are_changed(merchant, change, caplog):
    first, broken, last = make_cards(merchant, 3)
    break_balance(broken)

    report = change(merchant, [first.pk, broken.pk, last.pk])

    assert report == BulkReport(done_card_ids=[first.pk, last.pk], failed_card_ids=[broken.pk])
    assert f"'card_id': {broken.pk}" in caplog.text
    assert "loyalty.bulk_card_failed" in caplog.text
    assert Card.objects.get(pk=broken.pk).status == "active"
    assert check_ledger().mismatches == []


@pytest.mark.parametrize("key_of", ["short", "long"])
@both
def test_a_repeat_tries_only_what_failed(merchant, change, key_of):
    cards = make_cards(merchant, 3)
    request = request_of(merchant, key="k" * (10 if key_of == "short" else 128))
    break_balance(cards[1])
    assert change(merchant, [card.pk for card in cards], request=request).failed_card_ids == [cards[1].pk]
    CardBalance.objects.filter(card=cards[1]).update(version=2)

    report = change(merchant, [card.pk for card in cards], request=request)

    assert report == BulkReport(done_card_ids=[card.pk for card in cards])
    assert [balance_of(card).last_seq for card in cards] == [3, 3, 3]


@pytest.mark.parametrize("comes_back", [True, False])
@pytest.mark.django_db(transaction=True)
def test_a_lost_connection_costs_a_card_and_a_lost_database_the_rest_until_the_call_is_repeated(
    comes_back, monkeypatch
):
    merchant = make_merchant()
    cards = make_cards(merchant, 5)
    ids, request, moves = [card.pk for card in cards], request_of(merchant), []

    def cut_at_the_third(execute, sql, params, many, context):
        moves.append(sql) if sql.startswith("WITH moved") else None
        if len(moves) == 3:
            connection.connection.close()
            moves.append("cut")
            if not comes_back:
                monkeypatch.setitem(connection.settings_dict, "NAME", "gone")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(cut_at_the_third):
        if comes_back:
            assert adjust(merchant, ids, request=request).failed_card_ids == [ids[2]]
        else:
            with pytest.raises(DatabaseError):
                adjust(merchant, ids, request=request)
    monkeypatch.undo()

    assert points_of(cards) == ([105, 105, 100, 105, 105] if comes_back else [105, 105, 100, 100, 100])
    assert adjust(merchant, ids, request=request).done_card_ids == ids
    assert points_of(cards) == [105] * 5
    assert check_ledger().mismatches == []


# --- once


@both
@pytest.mark.parametrize("belongs_to", ["merchant", "user"])
def test_a_finished_call_is_answered_with_its_report(merchant, change, belongs_to):
    user_id = User.objects.create(username="ana").pk if belongs_to == "user" else None
    cards = make_cards(merchant, 2)
    ids, request = [0, *(card.pk for card in cards)], request_of(merchant, user_id=user_id)
    report = change(merchant, ids, request=request)

    with pytest.raises(AnsweredBefore) as again:
        change(merchant, ids, request=request)

    assert (again.value.status, again.value.answer) == (200, report.as_json())
    assert [balance_of(card).last_seq for card in cards] == [3, 3]


@pytest.mark.parametrize("is_finished", [True, False])
def test_another_body_under_the_key_changes_nothing(merchant, is_finished):
    done, other = make_cards(merchant, 2)
    request = request_of(merchant)
    if not is_finished:
        break_balance(done)
    adjust(merchant, [done.pk], request=request)

    with pytest.raises(IdempotencyKeyReused):
        adjust(merchant, [other.pk], request=replace(request, fingerprint="another"))

    assert balance_of(other).points_balance == 100


def test_keys_of_single_cards_name_the_call_and_fit(merchant):
    [card] = make_cards(merchant, 1)
    longest = "k" * 128

    adjust(merchant, [card.pk], request=request_of(merchant, key="key-0001"))
    adjust(merchant, [card.pk], request=request_of(merchant, key=longest))

    hashed = hashlib.sha256(f"{longest} {card.pk}".encode()).hexdigest()
    rows = Transaction.objects.filter(type="ADMIN_ADJUSTMENT").order_by("pk")
    assert [row.idempotency_key for row in rows] == [f"key-0001 {card.pk}", hashed]
    assert IdempotencyKey.objects.filter(card=card).count() == 2  # an erasure finds them


def test_calls_of_two_merchants_may_have_the_same_key(merchant):
    other = make_merchant()
    for owner in (merchant, other):
        [card] = make_cards(owner, 1)
        assert adjust(owner, [card.pk], request=request_of(owner)).done_card_ids == [card.pk]


def test_a_card_that_was_adjusted_before_by_hand_is_adjusted_by_the_call(merchant):
    [card] = make_cards(merchant, 1)
    by_hand = request_of(merchant)
    adjustments.adjust(merchant=merchant, card_id=card.pk, points=5, reason="r", actor="a", at=LATER, request=by_hand)

    with pytest.raises(IdempotencyKeyReused):
        adjust(merchant, [card.pk], request=replace(by_hand, fingerprint="bulk"))
    assert adjust(merchant, [card.pk], request=replace(by_hand, key="key-0002")).done_card_ids == [card.pk]
    assert balance_of(card).points_balance == 110


@pytest.mark.django_db(transaction=True)
def test_the_same_call_several_times_at_once_changes_each_card_once():
    merchant = make_merchant()
    cards = make_cards(merchant, 20)
    ids, request = [card.pk for card in cards], request_of(merchant)
    done = []

    def call(_):
        try:
            done.append(adjust(merchant, ids, request=request).done_card_ids)
        except AnsweredBefore as answered:
            done.append(answered.answer["done_card_ids"])

    in_parallel(call, 4)

    assert done == [ids] * 4
    assert points_of(cards) == [105] * 20
    assert check_ledger().mismatches == []
