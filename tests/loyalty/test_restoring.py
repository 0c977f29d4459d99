import pytest
from django.utils import timezone

from loyalty.errors import (
    CardChanged,
    CardNotActive,
    CardNotFound,
    InvalidInput,
    ReasonRequired,
    RunNotFinished,
    RunNotFound,
)
from loyalty.models import Card, ExpirationRun, Merchant, Transaction
from loyalty.services import restoring
from loyalty.services.ledger import MAX_BALANCE
from loyalty.services.ledger_check import check_ledger
from loyalty.services.restoring import Restoration, RunRestorationReport
from notifications.models import Message
from tests.factories import NOON, balance_of, days, give, make_card, make_cards, make_merchant
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db
WARNED, GONE, BACK = NOON + days(166), NOON + days(181), NOON + days(185)


@pytest.fixture
def merchant():
    return make_merchant()


def lose(merchant: Merchant, points: int = 100) -> Card:
    """A card whose points expired."""
    card = make_card(merchant, points=points)
    expire(WARNED, merchant=merchant)
    expire(GONE, merchant=merchant)
    return card


def restore(card: Card, points: int = 100, **how) -> Restoration:
    how = {"reason": "Was ill", "actor": "kim", "at": BACK, **how}
    return restoring.restore_points(merchant=card.program.merchant, card_id=card.pk, points=points, **how)


def restore_run(run_id: int, **how) -> RunRestorationReport:
    return restoring.restore_expiration_run(run_id=run_id, **{"reason": "Mistake", "actor": "ops", "at": BACK, **how})


def test_points_come_back_as_an_adjustment_that_names_the_expiry(merchant):
    card = lose(merchant)
    expiry = Transaction.objects.get(type="POINTS_EXPIRED")

    restored = restore(card)

    row = Transaction.objects.get(pk=restored.transaction.pk)
    assert (row.type, row.points_delta, row.actor, row.reason) == ("ADMIN_ADJUSTMENT", 100, "kim", "Was ill")
    assert (row.reverses, row.reverses_in_full, row.details) == (expiry, True, {"restores": expiry.pk})
    assert (restored.points_balance, restored.warning) == (100, "")


def test_restored_points_live_a_full_term_again(merchant):
    card = lose(merchant)

    restore(card)

    assert balance_of(card).last_activity_at == BACK
    assert counts(expire(BACK)) == (0, 0, 0)
    assert counts(expire(BACK + days(165))) == (0, 0, 0)
    assert counts(expire(BACK + days(166))) == (0, 0, 1)
    assert counts(expire(BACK + days(180))) == (0, 0, 0)
    assert counts(expire(BACK + days(181))) == (1, 100, 0)


def test_the_customer_hears_of_it_and_not_of_what_is_no_longer_true(merchant):
    lost = make_card(merchant, points=100, email="ana@example.com")
    expire(WARNED)
    expire(GONE)

    restore(lost)

    mails = {mail.kind: mail for mail in Message.objects.exclude(kind="loyalty_enrollment")}
    assert mails["loyalty_points_expiring"].status == mails["loyalty_points_expired"].status == "cancelled"
    told = mails["loyalty_points_restored"]
    assert (told.status, told.recipient) == ("due", "ana@example.com")
    assert told.context["points"] == told.context["points_balance"] == 100
    assert told.context["keeps_until_on"] == (BACK + days(180)).date().isoformat()


def test_where_points_never_expire_no_day_is_named():
    card = make_card(make_merchant(points_expiration_days=0))

    restore(card, 5)

    assert Message.objects.get(kind="loyalty_points_restored").context["keeps_until_on"] is None


def test_a_restore_without_any_expiry_says_that_more_came_back_than_went(merchant):
    restored = restore(make_card(merchant, points=5), 20)

    assert restored.transaction.reverses is None
    assert restored.points_balance == 25
    assert restored.warning == "20 points have now been restored on this card, but only 0 ever expired."


@pytest.mark.parametrize(("points", "warns"), [(99, False), (100, False), (101, True)])
def test_more_than_ever_expired_is_restored_with_a_warning(merchant, points, warns):
    assert bool(restore(lose(merchant), points).warning) is warns


def test_restores_of_a_card_are_added_up_for_the_warning(merchant):
    card = lose(merchant)
    restore(card, 60)

    assert "120 points" in restore(card, 60, at=BACK + days(1)).warning


def test_each_restore_is_linked_to_the_latest_expiry_that_nobody_gave_back(merchant):
    card = lose(merchant)
    give(card, 30, at=BACK)
    expire(BACK + days(166))
    expire(BACK + days(181))
    first, second = Transaction.objects.filter(type="POINTS_EXPIRED").order_by("seq")
    at = BACK + days(182)

    linked = [restore(card, points, at=at).transaction.reverses for points in (30, 100, 1)]

    assert linked == [second, first, None]


@pytest.mark.parametrize("points", [0, -5])
def test_at_least_one_point_is_restored(merchant, points):
    with pytest.raises(InvalidInput):
        restore(make_card(merchant), points)


def test_a_restore_needs_a_reason(merchant):
    card = lose(merchant)

    with pytest.raises(ReasonRequired):
        restore(card, reason=" ")
    with pytest.raises(ReasonRequired):
        restore_run(1, reason="")


@pytest.mark.parametrize(("status", "allowed"), [("suspended", True), ("closed", False), ("erased", False)])
def test_a_suspended_card_gets_points_back_and_a_closed_one_does_not(merchant, status, allowed):
    card = lose(merchant)
    Card.objects.update(status=status)

    if allowed:
        assert restore(card).points_balance == 100
    else:
        with pytest.raises(CardNotActive):
            restore(card)


def test_a_form_that_is_sent_twice_restores_once(merchant):
    card = lose(merchant)
    seen = balance_of(card).version
    restore(card, seen_version=seen)

    with pytest.raises(CardChanged):
        restore(card, seen_version=seen)


def test_a_card_of_another_merchant_is_unknown(merchant):
    with pytest.raises(CardNotFound):
        restoring.restore_points(
            merchant=make_merchant(), card_id=lose(merchant).pk, points=1, reason="r", actor="a", at=BACK
        )


# --- a whole run


@pytest.fixture
def run(merchant):
    """A run that took 100 points from each of five cards."""
    make_cards(merchant, 5, points=100)
    expire(WARNED)
    run_id = expire(GONE).run_id
    assert run_id is not None
    return run_id


def test_a_run_is_given_back_card_by_card(merchant, run):
    report = restore_run(run)

    assert report == RunRestorationReport(run, restored_cards=5, restored_points=500)
    for card in Card.objects.all():
        assert (balance_of(card).points_balance, balance_of(card).last_activity_at) == (100, BACK)
    assert Message.objects.filter(kind="loyalty_points_restored").count() == 5


def test_a_run_that_was_given_back_is_not_taken_again_the_next_night(merchant, run):
    restore_run(run)

    assert counts(expire(BACK + days(1))) == (0, 0, 0)


def test_giving_a_run_back_twice_changes_nothing(merchant, run):
    restore_run(run)
    rows = Transaction.objects.count()

    again = restore_run(run)

    assert (again.restored_cards, again.restored_points) == (0, 0)
    assert again.already_restored_card_ids == sorted(Card.objects.values_list("pk", flat=True))
    assert Transaction.objects.count() == rows


def test_a_card_that_was_restored_by_hand_is_not_restored_again(merchant, run):
    by_hand = Card.objects.first()
    assert by_hand is not None
    restore(by_hand, 70)

    report = restore_run(run)

    assert (report.restored_cards, report.already_restored_card_ids) == (4, [by_hand.pk])
    assert balance_of(by_hand).points_balance == 70


def test_suspended_cards_are_restored_and_closed_ones_are_listed(merchant, run):
    suspended, closed = Card.objects.all()[:2]
    Card.objects.filter(pk=suspended.pk).update(status="suspended")
    Card.objects.filter(pk=closed.pk).update(status="closed")

    report = restore_run(run)

    assert (report.restored_cards, report.skipped_card_ids) == (4, [closed.pk])
    assert balance_of(suspended).points_balance == 100


def test_a_card_that_cannot_be_restored_is_named_and_the_others_are_restored(merchant, run):
    full = Card.objects.all()[2]
    give(full, MAX_BALANCE - 99, at=BACK)

    report = restore_run(run)

    assert (report.restored_cards, report.restored_points, report.failed_card_ids) == (4, 400, [full.pk])
    assert Message.objects.filter(kind="loyalty_points_restored").count() == 4


def test_only_the_run_that_is_named_is_given_back(merchant, run):
    other = make_card(make_merchant(), points=7)
    expire(NOON + days(182))
    expire(NOON + days(200))

    assert restore_run(run).restored_cards == 5
    assert balance_of(other).points_balance == 0


def test_a_run_that_took_nothing_gives_nothing_back(merchant):
    empty = expire(NOON).run_id
    assert empty is not None

    assert restore_run(empty) == RunRestorationReport(empty)


def test_an_unknown_or_unfinished_run_is_refused():
    with pytest.raises(RunNotFound):
        restore_run(987_654_321)
    unfinished = ExpirationRun.objects.create(trigger="command", as_of=NOON, started_at=timezone.now())
    with pytest.raises(RunNotFinished):
        restore_run(unfinished.pk)


def test_a_run_over_all_is_given_back_to_one_merchant_alone(merchant, run):
    other = make_merchant()
    lost = make_card(other, points=7)
    expire(WARNED)
    of_all = expire(GONE).run_id
    assert of_all is not None

    report = restore_run(of_all, merchant=other)

    assert (report.restored_cards, report.restored_points) == (1, 7)
    assert balance_of(lost).points_balance == 7
    assert restore_run(run, merchant=merchant).restored_cards == 5


def test_the_run_of_another_merchant_is_unknown(merchant):
    lose(merchant)
    own = ExpirationRun.objects.filter(merchant=merchant).latest("pk")

    with pytest.raises(RunNotFound):
        restore_run(own.pk, merchant=make_merchant())


@pytest.mark.django_db(transaction=True)
def test_two_people_who_give_the_same_run_back_do_it_once():
    merchant = make_merchant()
    make_cards(merchant, 250, points=10)
    expire(WARNED)
    run_id = expire(GONE, confirmed_cards=250).run_id
    assert run_id is not None
    reports: list[RunRestorationReport] = []

    in_parallel(lambda n: reports.append(restore_run(run_id)), 2)

    assert sum(report.restored_cards for report in reports) == 250
    assert sum(len(report.already_restored_card_ids) for report in reports) == 250
    assert check_ledger().mismatches == []
