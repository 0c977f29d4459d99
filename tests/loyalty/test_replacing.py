"""A card gets a new number and QR code; the old ones lead nowhere."""

import pytest
from django.contrib.auth.models import User

from loyalty.errors import CardChanged, CardNotActive, CardNotFound, IdempotencyKeyReused, ReasonRequired
from loyalty.models import Card, IdempotencyKey
from loyalty.models.card import luhn_digit
from loyalty.services import adjustments, earning
from loyalty.services.ledger_check import check_ledger
from loyalty.services.merchants import find_card
from loyalty.services.once import AnsweredBefore, Request
from loyalty.services.replacing import replace_card
from tests.factories import NOON, balance_of, days, make_card, make_merchant, make_store
from tests.loyalty.parallel import in_parallel

pytestmark = pytest.mark.django_db


@pytest.fixture
def card():
    return make_card(points=100)


def replace(card: Card, **how) -> Card:
    how = {"reason": "Lost", "actor": "kim", "at": NOON + days(1), **how}
    return replace_card(merchant=card.program.merchant, card_id=card.pk, **how)


def test_the_new_number_leads_to_the_card_and_the_old_one_nowhere(card):
    replaced = replace(card)

    number = replaced.card_number
    assert find_card(number) == card
    assert luhn_digit(number[:-1]) == number[-1]
    with pytest.raises(CardNotFound):
        find_card(card.card_number)
    assert not Card.objects.filter(qr_token=card.qr_token).exists()
    assert Card.objects.get(qr_token=replaced.qr_token) == card


def test_all_that_the_card_holds_stays_on_it(card):
    before = balance_of(card)

    replaced = replace(card)

    after = balance_of(card)
    assert (after.version, after.changed_at) == (before.version + 1, NOON + days(1))
    assert (replaced.balance.version, replaced.balance.changed_at) == (after.version, after.changed_at)
    assert (after.points_balance, after.last_seq, after.cycle) == (100, before.last_seq, before.cycle)
    earning.earn(store=make_store(card.program.merchant), card_id=card.pk, amount_minor=100, at=NOON + days(2))
    assert balance_of(card).points_balance == 101
    assert check_ledger().mismatches == []


@pytest.mark.parametrize(("status", "allowed"), [("suspended", True), ("closed", False), ("erased", False)])
def test_only_a_card_in_use_is_replaced(card, status, allowed):
    Card.objects.filter(pk=card.pk).update(status=status)

    if allowed:
        assert replace(card).card_number != card.card_number
        return
    with pytest.raises(CardNotActive):
        replace(card)
    card.refresh_from_db()
    assert find_card(card.card_number) == card


def test_a_reason_is_required(card):
    with pytest.raises(ReasonRequired):
        replace(card, reason=" ")


def test_a_card_of_another_merchant_is_unknown(card):
    with pytest.raises(CardNotFound):
        replace_card(merchant=make_merchant(), card_id=card.pk, reason="r", actor="a", at=NOON)


def test_a_form_that_is_sent_twice_replaces_once(card):
    seen = balance_of(card).version
    number = replace(card, seen_version=seen).card_number

    with pytest.raises(CardChanged):
        replace(card, seen_version=seen)
    assert find_card(number) == card


def test_a_form_that_was_opened_before_a_sale_is_refused(card):
    seen = balance_of(card).version
    adjustments.adjust(merchant=card.program.merchant, card_id=card.pk, points=1, reason="r", actor="a", at=NOON)

    with pytest.raises(CardChanged):
        replace(card, seen_version=seen)


def request_of(card: Card, **fields) -> Request:
    merchant_id = card.program.merchant_id
    return Request(**{"key": "key-0001", "fingerprint": "f", "status": 200, "merchant_id": merchant_id, **fields})


@pytest.mark.parametrize("belongs_to", ["merchant", "user"])
def test_a_repeated_request_names_the_number_that_was_given(card, belongs_to):
    user_id = User.objects.create(username="ana").pk if belongs_to == "user" else None
    request = request_of(card, user_id=user_id)
    replaced = replace(card, request=request)
    answer = {"card": card.pk, "card_number": replaced.card_number, "qr_token": replaced.qr_token}

    with pytest.raises(AnsweredBefore) as again:
        replace(card, request=request)
    with pytest.raises(IdempotencyKeyReused):
        replace(card, request=request_of(card, user_id=user_id, fingerprint="other"))

    assert again.value.answer == answer
    assert find_card(replaced.card_number) == card
    assert IdempotencyKey.objects.get().card == card  # an erasure finds the number in it


@pytest.mark.django_db(transaction=True)
def test_twins_replace_a_card_once():
    card = make_card(points=100)
    before = balance_of(card).version
    numbers = []

    def twin(_):
        try:
            numbers.append(replace(card, request=request_of(card)).card_number)
        except AnsweredBefore as answered:
            numbers.append(answered.answer["card_number"])

    in_parallel(twin, 6)

    assert set(numbers) == {Card.objects.get(pk=card.pk).card_number}
    assert balance_of(card).version == before + 1


def test_the_log_names_who_did_it_and_no_number(card, caplog):
    replaced = replace(card, reason="Mrs Weber lost it")

    assert f"'card_id': {card.pk}, 'actor': 'kim', 'event': 'loyalty.card_replaced'" in caplog.text
    for secret in ("Weber", card.card_number, replaced.card_number, replaced.qr_token):
        assert secret not in caplog.text
