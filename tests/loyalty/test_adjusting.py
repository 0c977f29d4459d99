import pytest

from loyalty.errors import (
    CardChanged,
    CardNotActive,
    CardNotFound,
    InsufficientPoints,
    InvalidInput,
    NothingToChange,
    ReasonRequired,
)
from loyalty.models import Card, ExemptionChange, Transaction
from loyalty.services import adjustments
from loyalty.services.ledger import MAX_BALANCE
from tests.factories import NOON, balance_of, days, make_card, make_merchant
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db


@pytest.fixture
def card():
    return make_card(points=100)


def adjust(card: Card, points: int = 0, **how) -> Transaction:
    how = {"reason": "Broken till", "actor": "kim", "at": NOON + days(1), **how}
    return adjustments.adjust(merchant=card.program.merchant, card_id=card.pk, points=points, **how)


@pytest.mark.parametrize(("points", "stamps", "left"), [(50, 0, (150, 0)), (-100, 0, (0, 0)), (-1, 3, (99, 3))])
def test_points_and_stamps_are_added_and_taken_with_a_reason(card, points, stamps, left):
    row = adjust(card, points, stamps=stamps, reason="  Broken till ")

    row.refresh_from_db()
    assert (row.type, row.points_delta, row.stamps_delta) == ("ADMIN_ADJUSTMENT", points, stamps)
    assert (row.actor, row.reason, row.reverses_in_full) == ("kim", "Broken till", False)
    assert (balance_of(card).points_balance, balance_of(card).stamp_count) == left


@pytest.mark.parametrize(
    ("change", "is_activity"),
    [({"points": 1}, True), ({"points": -1}, False), ({"stamps": 1}, True), ({"points": -1, "stamps": 1}, True)],
)
def test_more_counts_as_activity_and_less_does_not(card, change, is_activity):
    expire(NOON + days(170))

    adjust(card, **change, at=NOON + days(171))

    balance = balance_of(card)
    assert (balance.last_activity_at == NOON + days(171)) is is_activity
    assert (balance.expiration_warned_for is None) is is_activity


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_change_by_hand_needs_a_reason(card, reason):
    with pytest.raises(ReasonRequired):
        adjust(card, 1, reason=reason)


def test_an_adjustment_of_nothing_is_refused(card):
    with pytest.raises(InvalidInput, match="changes nothing"):
        adjust(card, 0)


@pytest.mark.parametrize(
    ("change", "details"),
    [({"points": -101}, {"points_balance": 100}), ({"stamps": -1}, {"stamp_count": 0})],
    ids=["points", "stamps"],
)
def test_more_than_there_is_cannot_be_taken(card, change, details):
    with pytest.raises(InsufficientPoints) as refused:
        adjust(card, **change)

    assert refused.value.details == details
    assert balance_of(card).points_balance == 100


@pytest.mark.parametrize("change", [{"points": MAX_BALANCE - 99}, {"stamps": MAX_BALANCE + 1}])
def test_a_card_holds_no_more_than_the_database_can(card, change):
    with pytest.raises(InvalidInput, match="at most"):
        adjust(card, **change)


@pytest.mark.parametrize(("status", "allowed"), [("suspended", True), ("closed", False), ("erased", False)])
def test_a_suspended_card_can_be_adjusted_and_a_closed_one_cannot(card, status, allowed):
    Card.objects.update(status=status)

    if allowed:
        assert adjust(card, 5).points_balance_after == 105
    else:
        with pytest.raises(CardNotActive):
            adjust(card, 5)


def test_a_card_of_another_merchant_is_unknown(card):
    with pytest.raises(CardNotFound):
        adjustments.adjust(merchant=make_merchant(), card_id=card.pk, points=1, reason="r", actor="a", at=NOON)


def test_a_form_that_is_sent_twice_adjusts_once(card):
    seen = balance_of(card).version
    adjust(card, 5, seen_version=seen)

    with pytest.raises(CardChanged, match="now holds 105 points") as refused:
        adjust(card, 5, seen_version=seen)

    assert refused.value.details == {"points_balance": 105}
    assert balance_of(card).points_balance == 105


# --- exemptions


def exempt(card: Card, **how) -> Card:
    how = {"reason": "VIP", "actor": "kim", "at": NOON, **how}
    return adjustments.exempt_from_expiry(merchant=card.program.merchant, card_id=card.pk, **how)


def end_exemption(card: Card, **how) -> Card:
    how = {"reason": "No longer", "actor": "lee", "at": NOON, **how}
    return adjustments.end_exemption(merchant=card.program.merchant, card_id=card.pk, **how)


def test_an_exempt_card_is_neither_warned_nor_expired(card):
    exempt(card)

    assert counts(expire(NOON + days(170))) == (0, 0, 0)
    assert counts(expire(NOON + days(400))) == (0, 0, 0)
    assert balance_of(card).points_balance == 100


def test_a_run_counts_the_cards_that_it_left_alone(card):
    exempt(card)

    assert expire(NOON + days(170)).tally.skipped_exempt == 1


def test_an_exemption_and_its_end_are_remembered_with_who_and_why(card):
    exempt(card, reason=" VIP ")
    end_exemption(card, at=NOON + days(1))

    changes = ExemptionChange.objects.filter(card=card).order_by("pk")
    assert [(c.exempt, c.reason, c.actor, c.changed_at) for c in changes] == [
        (True, "VIP", "kim", NOON),
        (False, "No longer", "lee", NOON + days(1)),
    ]
    card.refresh_from_db()
    assert (card.expiration_exempt, card.expiration_exempt_reason) == (False, "")


def test_the_card_says_why_it_is_exempt(card):
    assert exempt(card).expiration_exempt_reason == "VIP"


@pytest.mark.parametrize("act", [exempt, end_exemption])
def test_an_exemption_needs_a_reason_and_a_card_in_use(card, act):
    if act is end_exemption:
        exempt(card)

    with pytest.raises(ReasonRequired):
        act(card, reason=" ")
    Card.objects.update(status="closed")
    with pytest.raises(CardNotActive):
        act(card)


def test_what_is_so_already_is_refused(card):
    with pytest.raises(NothingToChange, match="not exempt"):
        end_exemption(card)
    exempt(card)
    with pytest.raises(NothingToChange, match="already exempt"):
        exempt(card)


def test_after_an_exemption_the_customer_is_warned_again_with_a_full_notice(card):
    expire(NOON + days(166))
    exempt(card, at=NOON + days(170))
    ended = end_exemption(card, at=NOON + days(300))
    assert ended.balance.last_expiration_warning_at is None

    assert counts(expire(NOON + days(300))) == (0, 0, 1)

    assert balance_of(card).expiration_warned_for == (NOON + days(314)).date()
    assert counts(expire(NOON + days(314))) == (0, 0, 0)
    assert counts(expire(NOON + days(315))) == (1, 100, 0)


def test_the_end_of_an_exemption_does_not_shorten_an_older_promise(card):
    expire(NOON + days(400))
    assert balance_of(card).expiration_warned_for == (NOON + days(414)).date()
    exempt(card, at=NOON + days(401))
    end_exemption(card, at=NOON + days(401))

    card.program.expiration_warning_days = 7
    card.program.save()
    expire(NOON + days(402))

    assert balance_of(card).expiration_warned_for == (NOON + days(414)).date()


def test_a_change_during_a_run_leaves_the_rest_of_the_card_alone(card):
    before = balance_of(card)

    exempt(card)

    after = balance_of(card)
    assert (after.version, after.last_activity_at) == (before.version, before.last_activity_at)
