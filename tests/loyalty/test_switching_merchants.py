"""A merchant is switched off and on again; nothing expires that was promised while it was off."""

from collections.abc import Callable

import pytest

from loyalty.errors import (
    CardNotActive,
    EnrolmentClosed,
    IdempotencyKeyReused,
    InvalidInput,
    NothingToChange,
    ReasonRequired,
)
from loyalty.models import Card, ExpirationRun, Merchant, MerchantChange, Program
from loyalty.services import adjustments, earning, enrolment, idle_cards, ledger, redeeming, restoring
from loyalty.services.enrolment import Person
from loyalty.services.idle_cards import PromisedWarning, Term
from loyalty.services.ledger import Expiry
from loyalty.services.ledger_check import check_ledger
from loyalty.services.merchants import deactivate_merchant, restore_merchant
from loyalty.services.once import AnsweredBefore, Request
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_card, make_cards, make_merchant, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import counts, expire, table_hashes

pytestmark = pytest.mark.django_db


@pytest.fixture
def merchant():
    return make_merchant()


def do(verb: Callable[..., Merchant], merchant: Merchant, day: float = 1, **how) -> Merchant:
    return verb(merchant=merchant, **{"reason": "Contract ended", "actor": "kim", "at": NOON + days(day), **how})


def night(number: float, **choices) -> tuple[int, int, int]:
    """The run of a night: cards expired, points expired, warnings."""
    return counts(expire(NOON + days(number), **choices))


def test_who_switched_a_merchant_and_why_is_kept(merchant):
    assert do(deactivate_merchant, merchant, 1, reason=" Contract ended ").is_active is False
    assert do(restore_merchant, merchant, 2, actor="lee", reason="New contract").is_active is True

    changes = MerchantChange.objects.filter(merchant=merchant).order_by("pk")
    assert [(change.is_active, change.reason, change.actor, change.changed_at) for change in changes] == [
        (False, "Contract ended", "kim", NOON + days(1)),
        (True, "New contract", "lee", NOON + days(2)),
    ]


def test_a_merchant_that_is_off_gives_out_no_cards_and_takes_none(merchant):
    card, store = make_card(merchant, points=100), make_store(merchant)
    do(deactivate_merchant, merchant)

    for use in (
        lambda: earning.earn(store=store, card_id=card.pk, amount_minor=100, at=NOON + days(2)),
        lambda: redeeming.redeem_points(store=store, card_id=card.pk, points=1, at=NOON + days(2)),
    ):
        with pytest.raises(CardNotActive, match="switched off"):
            use()
    with pytest.raises(EnrolmentClosed):
        enrolment.enrol(merchant=merchant, person=Person(email="a@example.com"), at=NOON + days(2))
    do(restore_merchant, merchant, 3)
    assert earning.earn(store=store, card_id=card.pk, amount_minor=100, at=NOON + days(3)).points_balance_after == 101


def test_what_was_off_or_stopped_before_stays_so(merchant):
    cards = make_cards(merchant, 4)
    for card, status in zip(cards, ["active", "suspended", "closed", "erased"], strict=True):
        Card.objects.filter(pk=card.pk).update(status=status)
    store_off = make_store(merchant, is_active=False)
    Program.objects.filter(merchant=merchant).update(is_active=False)

    do(deactivate_merchant, merchant)
    do(restore_merchant, merchant)

    assert [Card.objects.get(pk=card.pk).status for card in cards] == ["active", "suspended", "closed", "erased"]
    store_off.refresh_from_db()
    assert (store_off.is_active, Program.objects.get(merchant=merchant).is_active) == (False, False)


def test_only_this_merchant_is_switched(merchant):
    other = make_card(points=100)
    make_card(merchant, points=100)

    do(deactivate_merchant, merchant)

    assert night(166) == (0, 0, 1)
    assert balance_of(other).expiration_warned_for == (NOON + days(180)).date()


@pytest.mark.parametrize("verb", [deactivate_merchant, restore_merchant])
def test_what_is_so_already_is_refused(merchant, verb):
    if verb is deactivate_merchant:
        do(verb, merchant)
    before = table_hashes()

    with pytest.raises(NothingToChange, match="already switched"):
        do(verb, merchant)
    assert table_hashes() == before


@pytest.mark.parametrize("verb", [deactivate_merchant, restore_merchant])
@pytest.mark.parametrize(("reason", "refusal"), [(" ", ReasonRequired), ("x" * 501, InvalidInput)])
def test_a_reason_is_required(merchant, verb, reason, refusal):
    Merchant.objects.update(is_active=verb is deactivate_merchant)

    with pytest.raises(refusal):
        do(verb, merchant, reason=reason)
    assert not MerchantChange.objects.exists()


# --- expiry


def test_nobody_is_warned_and_nothing_expires_while_a_merchant_is_off(merchant):
    make_card(merchant, points=100)
    do(deactivate_merchant, merchant)

    for number in (166, 181, 400):
        assert night(number) == (0, 0, 0)
    assert night(400, without_notice=True, merchant=merchant, reason="r") == (0, 0, 0)


def test_what_was_promised_during_the_time_off_is_announced_anew(merchant):
    card = make_card(merchant, points=100)
    assert night(166) == (0, 0, 1)
    do(deactivate_merchant, merchant, 170)
    night(181)
    do(restore_merchant, merchant, 300)
    assert balance_of(card).cycle == (NOON, None, (NOON + days(180)).date())

    assert night(300) == (0, 0, 1)

    assert balance_of(card).expiration_warned_for == (NOON + days(314)).date()
    assert night(314) == (0, 0, 0)
    assert night(315) == (1, 100, 0)
    promised = Message.objects.filter(kind="loyalty_points_expiring").values_list("context__expires_on", flat=True)
    assert sorted(promised) == [str((NOON + days(number)).date()) for number in (180, 314)]
    assert check_ledger().mismatches == []


def test_a_promise_from_before_is_never_shortened(merchant):
    make_card(merchant, points=100)
    assert night(400) == (0, 0, 1)  # promises day 414
    do(deactivate_merchant, merchant, 401)
    do(restore_merchant, merchant, 402)
    Program.objects.update(expiration_warning_days=3)

    assert night(403) == (0, 0, 1)
    assert night(414) == (0, 0, 0)
    assert night(415) == (1, 100, 0)


def test_points_that_were_restored_meanwhile_live_a_full_term(merchant):
    card = make_card(merchant, points=100)
    night(166)
    night(181)
    do(deactivate_merchant, merchant, 182)
    restoring.restore_points(merchant=merchant, card_id=card.pk, points=100, reason="r", actor="a", at=NOON + days(200))
    adjustments.adjust(merchant=merchant, card_id=card.pk, points=-1, reason="r", actor="a", at=NOON + days(201))
    do(restore_merchant, merchant, 202)

    assert night(200 + 165) == (0, 0, 0)
    assert night(200 + 166) == (0, 0, 1)
    assert night(200 + 181) == (1, 99, 0)


@pytest.mark.parametrize(
    "verbs", [[deactivate_merchant], [deactivate_merchant, restore_merchant]], ids=["off", "again"]
)
def test_a_run_that_is_working_leaves_the_merchant_alone(merchant, verbs):
    [card] = make_cards(merchant, 1, points=10)
    gone = NOON + days(181)
    term = Term(card.program, card.program.policy, gone.date())
    run = ExpirationRun.objects.create(trigger="command", as_of=gone, started_at=gone)
    [candidate] = idle_cards.read([card.pk])

    for verb in verbs:
        do(verb, merchant, 181)

    noted = idle_cards.promise([PromisedWarning(candidate, term, gone.date())], run=run)
    expired = ledger.post_expirations([Expiry(card.pk, gone.date(), 180, term.program.version)], run=run)
    assert (noted, expired) == ([], [])


# --- once, and at the same moment


def request_of(merchant: Merchant, **fields) -> Request:
    return Request(**{"key": "key-0001", "fingerprint": "f", "status": 200, "merchant_id": merchant.pk, **fields})


@pytest.mark.parametrize("verb", [deactivate_merchant, restore_merchant])
def test_a_repeated_request_is_answered_and_not_refused(merchant, verb):
    Merchant.objects.update(is_active=verb is deactivate_merchant)
    do(verb, merchant, request=request_of(merchant))

    with pytest.raises(AnsweredBefore) as again:
        do(verb, merchant, request=request_of(merchant))
    with pytest.raises(IdempotencyKeyReused):
        do(verb, merchant, request=request_of(merchant, fingerprint="other"))

    assert again.value.answer == {"merchant": merchant.pk, "change": MerchantChange.objects.get().pk}


@pytest.mark.django_db(transaction=True)
def test_of_several_who_switch_a_merchant_off_at_once_one_does():
    merchant = make_merchant()
    refusals = []

    def switch(_):
        try:
            do(deactivate_merchant, merchant)
        except NothingToChange as refusal:
            refusals.append(refusal.code)

    in_parallel(switch, 5)

    assert refusals == ["nothing_to_change"] * 4
    assert MerchantChange.objects.count() == 1
