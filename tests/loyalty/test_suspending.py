"""Cards are suspended, closed and reactivated; what was promised about their points is kept."""

from collections.abc import Callable

import pytest

from loyalty.errors import (
    AlreadyEnrolled,
    CardChanged,
    CardNotActive,
    CardNotFound,
    InvalidInput,
    LoyaltyError,
    NothingToChange,
    ReasonRequired,
)
from loyalty.models import Card, CardBalance, IdempotencyKey, Transaction
from loyalty.services import adjustments, earning, enrolment, restoring
from loyalty.services.card_status import close_card, reactivate_card, suspend_card
from loyalty.services.enrolment import Person
from loyalty.services.ledger_check import check_ledger
from loyalty.services.once import AnsweredBefore, Request
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_card, make_merchant, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db
VERBS = [suspend_card, close_card, reactivate_card]
every_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture
def card():
    return make_card(points=100)


def do(verb: Callable[..., Transaction], card: Card, **how) -> Transaction:
    how = {"reason": "Lost", "actor": "kim", "at": NOON + days(1), **how}
    return verb(merchant=card.program.merchant, card_id=card.pk, **how)


def status_of(card: Card) -> str:
    return Card.objects.get(pk=card.pk).status


def ready_for(verb, card: Card) -> None:
    if verb is reactivate_card:
        do(suspend_card, card)


@pytest.mark.parametrize(
    ("verb", "row_type", "status"),
    [
        (suspend_card, "CARD_DEACTIVATED", "suspended"),
        (close_card, "CARD_DEACTIVATED", "closed"),
        (reactivate_card, "CARD_REACTIVATED", "active"),
    ],
)
def test_a_change_of_status_is_a_row_with_actor_and_reason(card, verb, row_type, status):
    ready_for(verb, card)
    before = balance_of(card)

    row = do(verb, card, reason="  Lost in a tram ")

    row.refresh_from_db()
    assert status_of(card) == status
    assert (row.type, row.actor, row.reason) == (row_type, "kim", "Lost in a tram")
    assert (row.points_delta, row.points_balance_after, row.details) == (0, 100, {"status": status})
    after = balance_of(card)
    assert (after.points_balance, after.last_activity_at) == (100, before.last_activity_at)
    assert (after.version, after.changed_at) == (before.version + 1, NOON + days(1))


@pytest.mark.parametrize("verb", [suspend_card, close_card])
def test_a_card_that_is_stopped_earns_nothing(card, verb):
    do(verb, card)

    with pytest.raises(CardNotActive):
        earning.earn(store=make_store(card.program.merchant), card_id=card.pk, amount_minor=100, at=NOON + days(1))


def test_a_reactivated_card_earns_again(card):
    do(suspend_card, card)
    do(reactivate_card, card)

    earning.earn(store=make_store(card.program.merchant), card_id=card.pk, amount_minor=100, at=NOON + days(2))
    assert balance_of(card).points_balance == 101


@pytest.mark.parametrize(
    ("verb", "status", "refusal"),
    [
        (suspend_card, "suspended", NothingToChange),
        (suspend_card, "closed", CardNotActive),
        (suspend_card, "erased", CardNotActive),
        (close_card, "suspended", None),
        (close_card, "closed", NothingToChange),
        (close_card, "erased", CardNotActive),
        (reactivate_card, "active", NothingToChange),
        (reactivate_card, "closed", None),
        (reactivate_card, "erased", CardNotActive),
    ],
)
def test_which_status_may_follow_which(card, verb, status, refusal):
    Card.objects.filter(pk=card.pk).update(status=status)

    if refusal is None:
        assert do(verb, card).pk
        return
    with pytest.raises(refusal) as refused:
        do(verb, card)
    assert type(refused.value) is refusal
    assert (status_of(card), balance_of(card).last_seq) == (status, 2)


def test_a_merged_card_stays_merged(card):
    target = make_card(card.program.merchant)
    Card.objects.filter(pk=card.pk).update(status="merged", merged_into=target)

    for verb in VERBS:
        with pytest.raises(CardNotActive):
            do(verb, card)


@every_verb
@pytest.mark.parametrize(("reason", "refusal"), [(" ", ReasonRequired), ("x" * 501, InvalidInput)])
def test_a_reason_is_required(card, verb, reason, refusal):
    ready_for(verb, card)

    with pytest.raises(refusal):
        do(verb, card, reason=reason)


@every_verb
def test_a_card_of_another_merchant_is_unknown(card, verb):
    with pytest.raises(CardNotFound):
        verb(merchant=make_merchant(), card_id=card.pk, reason="r", actor="a", at=NOON)


@every_verb
def test_nobody_acts_on_what_has_moved_meanwhile(card, verb):
    ready_for(verb, card)
    seen = balance_of(card).version
    adjustments.adjust(merchant=card.program.merchant, card_id=card.pk, points=1, reason="r", actor="a", at=NOON)

    with pytest.raises(CardChanged):
        do(verb, card, seen_version=seen)
    assert do(verb, card, seen_version=seen + 1).pk


# --- expiry


@pytest.mark.parametrize("verb", [suspend_card, close_card])
def test_a_stopped_card_is_neither_warned_nor_expired(card, verb):
    do(verb, card)

    assert counts(expire(NOON + days(170))) == (0, 0, 0)
    assert counts(expire(NOON + days(400))) == (0, 0, 0)
    assert balance_of(card).points_balance == 100


@pytest.mark.parametrize("verb", [suspend_card, close_card])
def test_after_a_stop_the_customer_is_warned_again_with_a_full_notice(card, verb):
    expire(NOON + days(166))
    do(verb, card, at=NOON + days(170))
    do(reactivate_card, card, at=NOON + days(300))
    assert balance_of(card).last_expiration_warning_at is None
    assert balance_of(card).expiration_warned_for == (NOON + days(180)).date()

    assert counts(expire(NOON + days(300))) == (0, 0, 1)

    assert balance_of(card).expiration_warned_for == (NOON + days(314)).date()
    assert counts(expire(NOON + days(314))) == (0, 0, 0)
    assert counts(expire(NOON + days(315))) == (1, 100, 0)
    promised = Message.objects.filter(kind="loyalty_points_expiring").values_list("context__expires_on", flat=True)
    assert sorted(promised) == [str((NOON + days(day)).date()) for day in (180, 314)]


def test_the_end_of_a_suspension_does_not_shorten_an_older_promise(card):
    expire(NOON + days(400))
    assert balance_of(card).expiration_warned_for == (NOON + days(414)).date()
    do(suspend_card, card, at=NOON + days(401))
    do(reactivate_card, card, at=NOON + days(401))
    card.program.expiration_warning_days = 7
    card.program.save()

    expire(NOON + days(402))

    assert balance_of(card).expiration_warned_for == (NOON + days(414)).date()
    assert counts(expire(NOON + days(414))) == (0, 0, 0)
    assert counts(expire(NOON + days(415))) == (1, 100, 0)


def test_points_are_restored_to_a_suspended_card_and_warned_about_after_it(card):
    expire(NOON + days(166))
    expire(NOON + days(181))
    do(suspend_card, card, at=NOON + days(182))
    restoring.restore_points(
        merchant=card.program.merchant, card_id=card.pk, points=100, reason="r", actor="a", at=NOON + days(183)
    )
    do(reactivate_card, card, at=NOON + days(184))

    assert counts(expire(NOON + days(185))) == (0, 0, 0)
    assert counts(expire(NOON + days(183 + 166))) == (0, 0, 1)
    assert counts(expire(NOON + days(183 + 181))) == (1, 100, 0)
    assert check_ledger().mismatches == []


# --- one card for each customer


def enrol_again(card: Card) -> Card:
    return enrolment.enrol(merchant=card.program.merchant, person=Person(email=card.customer.email), at=NOON + days(2))


def test_the_customer_of_a_closed_card_may_have_a_new_one(card):
    do(close_card, card)

    assert enrol_again(card).customer == card.customer


def test_the_customer_of_a_suspended_card_may_not_go_round_it(card):
    do(suspend_card, card)

    with pytest.raises(AlreadyEnrolled):
        enrol_again(card)


def test_a_closed_card_stays_closed_when_its_customer_has_another(card):
    do(close_card, card)
    other = enrol_again(card)

    with pytest.raises(AlreadyEnrolled, match=other.card_number) as refused:
        do(reactivate_card, card)

    assert refused.value.details == {"card_id": other.pk}
    assert (status_of(card), balance_of(card).last_seq) == ("closed", 3)
    do(close_card, other)
    assert do(reactivate_card, card).type == "CARD_REACTIVATED"


@pytest.mark.django_db(transaction=True)
def test_of_a_new_card_and_a_reactivated_one_at_the_same_moment_one_is_refused():
    card = make_card(points=100)
    for _ in range(8):
        Card.objects.filter(customer=card.customer).update(status="closed")
        refusals: list[str] = []

        def attempt(n, refusals=refusals):
            try:
                enrol_again(card) if n else do(reactivate_card, card)
            except LoyaltyError as refusal:
                refusals.append(refusal.code)

        in_parallel(attempt, 2)

        assert refusals == ["already_enrolled"]
        assert Card.objects.in_use().filter(customer=card.customer).count() == 1
    assert check_ledger().mismatches == []


# --- once


def request_of(card: Card, **fields) -> Request:
    merchant_id = card.program.merchant_id
    return Request(**{"key": "key-0001", "fingerprint": "f", "status": 201, "merchant_id": merchant_id, **fields})


@every_verb
def test_a_repeated_request_is_answered_and_not_refused(card, verb):
    ready_for(verb, card)
    row = do(verb, card, request=request_of(card))

    with pytest.raises(AnsweredBefore) as again:
        do(verb, card, request=request_of(card))

    assert again.value.answer == {"transaction": row.pk}
    assert IdempotencyKey.objects.get().card == card


@pytest.mark.django_db(transaction=True)
def test_twins_suspend_a_card_once():
    card = make_card(points=100)
    answers = []

    def twin(_):
        try:
            answers.append(do(suspend_card, card, request=request_of(card)).pk)
        except AnsweredBefore as answered:
            answers.append(answered.answer["transaction"])

    in_parallel(twin, 6)

    assert len(answers) == 6
    assert set(answers) == {Transaction.objects.get(type="CARD_DEACTIVATED").pk}


@pytest.mark.django_db(transaction=True)
def test_a_card_is_stopped_before_or_after_a_sale_and_never_in_the_middle():
    card = make_card(points=100)
    store = make_store(card.program.merchant)

    def act(n):
        for _ in range(10):
            try:
                if n == 0:
                    do(suspend_card, card)
                    do(reactivate_card, card)
                else:
                    earning.earn(store=store, card_id=card.pk, amount_minor=100, at=NOON + days(1))
            except CardNotActive:
                continue

    in_parallel(act, 3)

    stopped = False
    for row in Transaction.objects.filter(card=card).order_by("seq"):
        assert not (stopped and row.type == "POINTS_EARNED")
        stopped = row.type == "CARD_DEACTIVATED"
    assert CardBalance.objects.get().last_seq == Transaction.objects.count()
    assert check_ledger().mismatches == []


def test_the_log_names_ids_and_no_words_of_people(card, caplog):
    row = do(suspend_card, card, reason="Mrs Weber lost it")

    assert "loyalty.card_status_changed" in caplog.text
    assert f"'transaction_id': {row.pk}" in caplog.text
    assert "Weber" not in caplog.text
