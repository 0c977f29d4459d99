"""The same key does a thing once and gets the same answer; another body under it is refused."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from loyalty.errors import IdempotencyKeyExpired, IdempotencyKeyReused, InsufficientPoints
from loyalty.models import IdempotencyKey, Transaction
from loyalty.services import earning, enrolment, redeeming
from loyalty.services.enrolment import Person
from loyalty.services.once import AnsweredBefore, Request
from tests.factories import NOON, balance_of, make_card, make_merchant, make_reward, make_store
from tests.loyalty.parallel import in_parallel

pytestmark = pytest.mark.django_db


def request_of(merchant, **fields) -> Request:
    return Request(**{"key": "key-0001", "fingerprint": "f", "status": 201, "merchant_id": merchant.pk, **fields})


def earn(store, card, request, **fields):
    return earning.earn(store=store, card_id=card.pk, amount_minor=1000, at=NOON, request=request, **fields)


@pytest.fixture
def till():
    store = make_store()
    return store, make_card(store.merchant)


def test_a_repeated_earn_gets_the_answer_of_the_first(till):
    store, card = till
    request = request_of(store.merchant)
    row = earn(store, card, request)

    with pytest.raises(AnsweredBefore) as again:
        earn(store, card, request)

    assert (again.value.status, again.value.answer) == (201, {"transaction": row.pk})
    assert balance_of(card).points_balance == 10


def test_the_same_key_with_another_body_is_refused(till):
    store, card = till
    earn(store, card, request_of(store.merchant))

    with pytest.raises(IdempotencyKeyReused):
        earn(store, card, request_of(store.merchant, fingerprint="other"))

    assert balance_of(card).points_balance == 10


def test_a_key_belongs_to_one_merchant(till):
    store, card = till
    other = make_store()
    earn(store, card, request_of(store.merchant))
    earn(other, make_card(other.merchant), request_of(other.merchant))

    assert Transaction.objects.filter(idempotency_key="key-0001").count() == 2


def test_a_users_key_is_apart_from_the_tills_and_from_other_users(till):
    store, card = till
    users = [User.objects.create(username=name) for name in ("ana", "ben")]
    requests = [request_of(store.merchant), *(request_of(store.merchant, user_id=user.pk) for user in users)]
    for request in requests:
        earn(store, card, request)

    for request in requests:
        with pytest.raises(AnsweredBefore):
            earn(store, card, request)
    assert balance_of(card).points_balance == 30


def test_a_refusal_is_not_kept(till):
    store, card = till
    request = request_of(store.merchant)
    with pytest.raises(InsufficientPoints):
        redeeming.redeem_points(store=store, card_id=card.pk, points=5, at=NOON, request=request)
    assert not IdempotencyKey.objects.exists()
    earn(store, card, None)

    row = redeeming.redeem_points(store=store, card_id=card.pk, points=5, at=NOON, request=request)
    assert row.points_balance_after == 5


def test_a_repeated_redemption_of_the_last_points_is_answered_and_not_refused(till):
    store, card = till
    earn(store, card, None)
    request = request_of(store.merchant)
    row = redeeming.redeem_points(store=store, card_id=card.pk, points=10, at=NOON, request=request)

    with pytest.raises(AnsweredBefore) as again:
        redeeming.redeem_points(store=store, card_id=card.pk, points=10, at=NOON, request=request)
    assert again.value.answer == {"transaction": row.pk}


def test_a_repeated_exchange_takes_one_reward_from_the_stock(till):
    store, card = till
    earn(store, card, None)
    reward = make_reward(store.merchant, points_cost=1, stock=3)
    request = request_of(store.merchant)
    redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=NOON, request=request)

    with pytest.raises(AnsweredBefore):
        redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=NOON, request=request)
    reward.refresh_from_db()
    assert reward.stock == 2


def test_a_repeated_enrolment_names_the_card_as_it_was_issued():
    merchant = make_merchant(welcome_bonus_points=7)
    request = request_of(merchant)
    card = enrolment.enrol(merchant=merchant, person=Person(email="a@example.com"), at=NOON, request=request)

    with pytest.raises(AnsweredBefore) as again:
        enrolment.enrol(merchant=merchant, person=Person(email="a@example.com"), at=NOON, request=request)

    assert again.value.answer == {
        "card": card.pk,
        "card_number": card.card_number,
        "qr_token": card.qr_token,
        "points_balance": 7,
    }
    assert IdempotencyKey.objects.get().card == card


def test_a_key_whose_answer_is_gone_is_still_known(till):
    store, card = till
    request = request_of(store.merchant)
    row = earn(store, card, request)
    IdempotencyKey.objects.all().delete()

    for asked in (request, replace(request, fingerprint="other")):
        with pytest.raises(IdempotencyKeyExpired) as refusal:
            earn(store, card, asked)
        assert refusal.value.details == {"transaction_id": row.pk}


@pytest.mark.parametrize("journey", ["earn", "redeem", "enrol"])
@pytest.mark.django_db(transaction=True)
def test_twins_at_the_same_moment_do_it_once(journey):
    store = make_store()
    card = make_card(store.merchant, points=10, at=NOON - timedelta(days=1))
    request = request_of(store.merchant)

    outcomes = []

    def twin(_):
        outcomes.append(ask())

    def ask():
        try:
            if journey == "earn":
                return ("did", earn(store, card, request).pk)
            if journey == "redeem":
                row = redeeming.redeem_points(store=store, card_id=card.pk, points=10, at=NOON, request=request)
                return ("did", row.pk)
            person = Person(email="twin@example.com")
            return ("did", enrolment.enrol(merchant=store.merchant, person=person, at=NOON, request=request).pk)
        except AnsweredBefore as answered:
            return ("was told", answered.answer.get("transaction") or answered.answer["card"])

    in_parallel(twin, 8)

    assert sorted(word for word, _ in outcomes) == ["did"] + ["was told"] * 7
    assert len({number for _, number in outcomes}) == 1


def test_a_late_repeat_of_an_offline_sale_is_answered(till):
    store, card = till
    request = request_of(store.merchant)
    row = earn(store, card, request, transaction_at=NOON)

    with pytest.raises(AnsweredBefore) as again:
        earning.earn(
            store=store,
            card_id=card.pk,
            amount_minor=1000,
            transaction_at=NOON,
            at=NOON + timedelta(days=9),
            request=request,
        )
    assert again.value.answer == {"transaction": row.pk}
