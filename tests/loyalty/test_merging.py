"""Two cards become one; what both were promised is kept, and nothing goes early, silently or twice."""

from datetime import date

import pytest
from django.db import transaction

from loyalty.errors import CardChanged, CardNotActive, CardNotFound, InvalidInput, LoyaltyError, ReasonRequired
from loyalty.models import Card, ExpirationRun, IdempotencyKey, Transaction
from loyalty.services import adjustments, card_status, earning, merging
from loyalty.services.ledger import MAX_BALANCE
from loyalty.services.ledger_check import check_ledger
from loyalty.services.merging import MergeReport
from loyalty.services.once import AnsweredBefore, Request
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_card, make_merchant, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import counts, expire, table_hashes

pytestmark = pytest.mark.django_db


@pytest.fixture
def merchant():
    return make_merchant()


def merge(source: Card, target: Card, **how) -> MergeReport:
    how = {"reason": "One person", "actor": "kim", "at": NOON + days(1), **how}
    return merging.merge_cards(merchant=source.program.merchant, source_id=source.pk, target_id=target.pk, **how)


def preview(source: Card, target: Card) -> MergeReport:
    at = NOON + days(1)
    return merging.preview_merge(merchant=source.program.merchant, source_id=source.pk, target_id=target.pk, at=at)


def day(number: float) -> date:
    return (NOON + days(number)).date()


def adjust(card: Card, points: int = 0, **how) -> Transaction:
    how = {"reason": "r", "actor": "a", "at": NOON, **how}
    return adjustments.adjust(merchant=card.program.merchant, card_id=card.pk, points=points, **how)


def night(number: float) -> tuple[int, int, int]:
    """The run of a night: cards expired, points expired, warnings."""
    report = expire(NOON + days(number))
    assert report.status == "succeeded"
    return counts(report)


# --- what moves


def test_all_points_and_stamps_move_and_both_ledgers_say_so(merchant):
    source, target = make_card(merchant, points=100), make_card(merchant, points=40)
    adjust(source, stamps=3)

    report = merge(source, target, reason=" One person ")

    assert (report.points, report.stamps, report.points_balance, report.stamp_count) == (100, 3, 140, 3)
    out, come_in = source.transactions.latest("seq"), target.transactions.latest("seq")
    assert (out.type, out.points_delta, out.stamps_delta, out.points_balance_after) == ("MERGE_OUT", -100, -3, 0)
    assert (come_in.type, come_in.points_delta, come_in.stamps_delta, come_in.points_balance_after) == (
        "MERGE_IN",
        100,
        3,
        140,
    )
    assert (out.details, come_in.details) == ({"merged_into": target.pk}, {"merged_from": source.pk})
    assert {(row.actor, row.reason) for row in (out, come_in)} == {("kim", "One person")}
    assert report.transaction == come_in
    source.refresh_from_db()
    assert (source.status, source.merged_into) == ("merged", target)
    assert [balance_of(card).points_balance for card in (source, target)] == [0, 140]
    assert check_ledger().mismatches == []


def test_both_versions_grow(merchant):
    source, target = make_card(merchant, points=100), make_card(merchant)
    before = [balance_of(card).version for card in (source, target)]

    merge(source, target)

    assert [balance_of(card).version for card in (source, target)] == [version + 1 for version in before]


def test_totals_stay_with_the_card_whose_rows_they_add_up(merchant):
    source, target, store = make_card(merchant), make_card(merchant), make_store(merchant)
    earning.earn(store=store, card_id=source.pk, amount_minor=5000, at=NOON)

    merge(source, target)

    assert [balance_of(card).lifetime_points_earned for card in (source, target)] == [50, 0]


def test_an_empty_card_is_merged_too(merchant):
    source, target = make_card(merchant), make_card(merchant, points=40)

    assert merge(source, target).points_balance == 40
    assert target.transactions.latest("seq").type == "MERGE_IN"


def test_a_merged_card_is_used_no_more(merchant):
    source, target, store = make_card(merchant, points=100), make_card(merchant), make_store(merchant)
    merge(source, target)

    with pytest.raises(CardNotActive):
        earning.earn(store=store, card_id=source.pk, amount_minor=100, at=NOON + days(1))
    with pytest.raises(CardNotActive):
        adjust(source, 1)
    assert earning.earn(store=store, card_id=target.pk, amount_minor=100, at=NOON + days(1)).points_balance_after == 101


# --- refusals


def test_a_card_is_not_merged_into_itself(merchant):
    card = make_card(merchant, points=100)

    for act in (merge, preview):
        with pytest.raises(InvalidInput, match="into itself"):
            act(card, card)


def test_cards_of_two_merchants_are_not_merged(merchant):
    own, foreign = make_card(merchant, points=100), make_card(points=40)

    for act in (merge, preview):
        with pytest.raises(CardNotFound) as refused:
            act(own, foreign)
        assert refused.value.details == {"card_id": foreign.pk}
        unknown = Card(pk=foreign.pk + 1000, program=own.program)
        for source, target in ((own, unknown), (unknown, own)):
            with pytest.raises(CardNotFound):
                act(source, target)


@pytest.mark.parametrize("which", ["source", "target"])
@pytest.mark.parametrize("status", ["closed", "merged", "erased"])
def test_both_cards_must_be_in_use(merchant, which, status):
    source, target, other = (make_card(merchant, points=10) for _ in range(3))
    stopped = source if which == "source" else target
    Card.objects.filter(pk=stopped.pk).update(status=status, merged_into=other if status == "merged" else None)

    for act in (merge, preview):
        with pytest.raises(CardNotActive, match=stopped.card_number) as refused:
            act(source, target)
        assert refused.value.details == {"status": status, "card_id": stopped.pk}


@pytest.mark.parametrize("which", ["source", "target"])
def test_suspended_cards_are_merged_and_the_target_stays_what_it_is(merchant, which):
    source, target = make_card(merchant, points=100), make_card(merchant, points=40)
    Card.objects.filter(pk=(source if which == "source" else target).pk).update(status="suspended")

    merge(source, target)

    assert Card.objects.get(pk=target.pk).status == ("suspended" if which == "target" else "active")
    assert balance_of(target).points_balance == 140


def test_a_merge_needs_a_reason(merchant):
    with pytest.raises(ReasonRequired):
        merge(make_card(merchant), make_card(merchant), reason=" ")


def test_a_card_holds_no_more_than_it_can(merchant):
    source, target = make_card(merchant, points=1), make_card(merchant, points=MAX_BALANCE)

    for act in (merge, preview):
        with pytest.raises(InvalidInput, match="at most"):
            act(source, target)
    assert [balance_of(card).points_balance for card in (source, target)] == [1, MAX_BALANCE]
    assert Card.objects.get(pk=source.pk).status == "active"


def test_a_merge_that_was_decided_before_a_sale_is_refused(merchant):
    source, target = make_card(merchant, points=100), make_card(merchant)
    seen = balance_of(source).version
    adjust(source, 1)

    with pytest.raises(CardChanged):
        merge(source, target, seen_version=seen)
    assert merge(source, target, seen_version=seen + 1).points == 101


# --- looking first


def test_a_preview_tells_what_the_merge_then_does_and_writes_nothing(merchant):
    source, target = make_card(merchant, points=100), make_card(merchant, points=40, at=NOON - days(100))
    before = table_hashes()

    foreseen = preview(source, target)

    assert table_hashes() == before
    assert (foreseen.points, foreseen.points_balance, foreseen.keeps_until) == (100, 140, day(180))
    assert foreseen.transaction is None
    done = merge(source, target)
    assert {**vars(done), "transaction": None} == vars(foreseen)


@pytest.mark.django_db(transaction=True)
def test_a_preview_waits_for_nobody():
    merchant = make_merchant()
    source, target = make_card(merchant, points=100), make_card(merchant)
    previews: list[MergeReport] = []

    with transaction.atomic():
        adjust(source, -1)
        adjust(target, 1)
        in_parallel(lambda _: previews.append(preview(source, target)), 1)

    assert [report.points for report in previews] == [100]


# --- dates


@pytest.mark.parametrize(("source_active", "target_active"), [(0, -100), (-100, 0), (0, 0)])
def test_the_target_keeps_the_later_activity(merchant, source_active, target_active):
    source = make_card(merchant, points=100, at=NOON + days(source_active))
    target = make_card(merchant, points=40, at=NOON + days(target_active))

    report = merge(source, target)

    assert balance_of(target).last_activity_at == NOON
    assert report.keeps_until == day(180)


def test_a_merge_is_no_activity(merchant):
    source, target = make_card(merchant, points=100), make_card(merchant, points=40)

    merge(source, target, at=NOON + days(170))

    assert balance_of(target).last_activity_at == NOON


@pytest.mark.parametrize("source_is_warned_later", [True, False])
def test_the_target_keeps_the_later_promise_and_is_warned_again(merchant, source_is_warned_later):
    early = make_card(merchant, points=10, at=NOON - days(1))
    night(165)  # warns the early one for day 179
    late = make_card(merchant, points=10, at=NOON - days(30))
    night(166)  # and the late one, past its limit but for the notice, for day 180
    source, target = (late, early) if source_is_warned_later else (early, late)

    merge(source, target, at=NOON + days(167))

    balance = balance_of(target)
    assert balance.cycle == (NOON - days(1), None, day(180))
    assert night(168) == (0, 0, 1)
    assert balance_of(target).expiration_warned_for == day(182)
    assert night(182) == (0, 0, 0)
    assert night(183) == (1, 20, 0)


def test_points_that_come_to_a_warned_card_are_announced_before_they_go(merchant):
    source, target = make_card(merchant, points=100, at=NOON - days(5)), make_card(merchant, points=40)
    card_status.suspend_card(merchant=merchant, card_id=source.pk, reason="r", actor="a", at=NOON)
    assert night(166) == (0, 0, 1)

    merge(source, target, at=NOON + days(180))

    assert night(181) == (0, 0, 1)
    mails = Message.objects.about(str(target.pk)).filter(kind="loyalty_points_expiring").order_by("pk")
    assert [(mail.context["points"], mail.context["expires_on"]) for mail in mails] == [
        (40, str(day(180))),
        (140, str(day(195))),
    ]
    assert night(195) == (0, 0, 0)
    assert night(196) == (1, 140, 0)


def test_with_the_plain_rule_merged_points_go_after_both_promises():
    merchant = make_merchant(require_expiration_notice=False)
    source, target = make_card(merchant, points=100, at=NOON - days(1)), make_card(merchant, points=40)
    night(166)

    merge(source, target, at=NOON + days(167))

    night(168)
    assert night(180) == (0, 0, 0)
    assert night(181) == (1, 140, 0)


@pytest.mark.parametrize("source_is_exempt", [True, False])
def test_an_exemption_stays_with_its_card(merchant, source_is_exempt):
    source, target = make_card(merchant, points=100), make_card(merchant, points=40)
    exempt = source if source_is_exempt else target
    adjustments.exempt_from_expiry(merchant=merchant, card_id=exempt.pk, reason="VIP", actor="a", at=NOON)

    merge(source, target)

    assert Card.objects.get(pk=target.pk).expiration_exempt is not source_is_exempt
    night(166)
    assert night(181) == ((1, 140, 0) if source_is_exempt else (0, 0, 0))


# --- a cycle that has ended


def expired_card(merchant) -> Card:
    """Empty since its points expired on day 181, in the cycle that began at noon of day 0."""
    card = make_card(merchant, points=50)
    night(166)
    assert night(181) == (1, 50, 0)
    return card


@pytest.mark.parametrize("source_active", [-30, 0], ids=["older than the target", "as old as the target"])
def test_points_that_come_to_an_expired_card_begin_a_new_cycle(merchant, source_active):
    target = expired_card(merchant)
    source = make_card(merchant, points=100, at=NOON + days(source_active))

    merge(source, target, at=NOON + days(182))

    assert balance_of(target).last_activity_at == NOON + days(182)
    assert night(183) == (0, 0, 0)
    assert night(182 + 166) == (0, 0, 1)
    assert night(182 + 180) == (0, 0, 0)
    assert night(182 + 181) == (1, 100, 0)
    assert Transaction.objects.filter(card=target, type="POINTS_EXPIRED").count() == 2
    assert not ExpirationRun.objects.filter(failed__gt=0).exists()
    assert check_ledger().mismatches == []


def test_points_from_a_livelier_card_begin_no_other_cycle_on_an_expired_one(merchant):
    target = expired_card(merchant)
    source = make_card(merchant, points=100, at=NOON + days(100))

    merge(source, target, at=NOON + days(182))

    assert balance_of(target).last_activity_at == NOON + days(100)
    night(266)
    assert night(281) == (1, 100, 0)


def test_nothing_that_comes_to_an_expired_card_begins_no_cycle(merchant):
    target, source = expired_card(merchant), make_card(merchant, at=NOON - days(30))

    merge(source, target, at=NOON + days(182))

    assert balance_of(target).last_activity_at == NOON


def test_an_older_promise_outlives_the_new_cycle_of_an_expired_card(merchant):
    target = expired_card(merchant)
    source = make_card(merchant, points=100, at=NOON - days(30))
    night(182)
    assert balance_of(source).expiration_warned_for == day(196)
    merchant.program.points_expiration_days = 5
    merchant.program.expiration_warning_days = 1
    merchant.program.save()

    merge(source, target, at=NOON + days(183))

    assert balance_of(target).expiration_warned_for == day(196)
    assert night(187) == (0, 0, 1)
    assert night(196) == (0, 0, 0)
    assert night(197) == (1, 100, 0)


def test_a_card_that_expires_again_and_again_takes_over_others_in_between(merchant):
    target = expired_card(merchant)
    others = [make_card(merchant, points=5) for _ in range(3)]
    for other in others:
        adjustments.exempt_from_expiry(merchant=merchant, card_id=other.pk, reason="VIP", actor="a", at=NOON)

    begun = 182
    for other in others:
        merge(other, target, at=NOON + days(begun))
        assert night(begun + 166) == (0, 0, 1)
        assert night(begun + 181) == (1, 5, 0)
        begun += 181

    assert Transaction.objects.filter(card=target, type="POINTS_EXPIRED").count() == 4
    assert check_ledger().mismatches == []


# --- mail


def test_the_source_s_warning_that_has_not_gone_out_is_taken_back(merchant):
    source, target = make_card(merchant, points=100), make_card(merchant, points=40)
    night(166)

    merge(source, target, at=NOON + days(167))

    of_source, of_target = (Message.objects.about(str(card.pk)) for card in (source, target))
    warning = of_source.get(kind="loyalty_points_expiring")
    assert (warning.status, warning.last_error) == ("cancelled", "the card was merged into another one")
    assert of_source.get(kind="loyalty_enrollment").status == "due"
    assert of_target.get(kind="loyalty_points_expiring").status == "due"


# --- where a number leads


def test_a_merged_card_leads_to_the_last_of_a_chain(merchant):
    first, second, third = (make_card(merchant, points=10) for _ in range(3))
    merge(first, second)
    merge(second, third)

    for card in (first, second, third):
        assert merging.final_target(Card.objects.get(pk=card.pk)) == third
    assert balance_of(third).points_balance == 30


def test_a_card_that_was_not_merged_leads_to_itself(merchant):
    card = make_card(merchant)
    Card.objects.update(status="closed")

    assert merging.final_target(card) is card


# --- once, and at the same moment


def request_of(card: Card, **fields) -> Request:
    merchant_id = card.program.merchant_id
    return Request(**{"key": "key-0001", "fingerprint": "f", "status": 201, "merchant_id": merchant_id, **fields})


def test_a_repeated_request_is_answered_from_the_target_s_row(merchant):
    source, target = make_card(merchant, points=100), make_card(merchant)
    row = merge(source, target, request=request_of(source)).transaction
    assert row

    with pytest.raises(AnsweredBefore) as again:
        merge(source, target, request=request_of(source))

    assert again.value.answer == {"transaction": row.pk}
    assert IdempotencyKey.objects.get().card == target


@pytest.mark.django_db(transaction=True)
def test_twins_merge_once():
    merchant = make_merchant()
    source, target = make_card(merchant, points=100), make_card(merchant)
    rows = []

    def twin(_):
        try:
            report = merge(source, target, request=request_of(source))
            rows.append(report.transaction.pk if report.transaction else None)
        except AnsweredBefore as answered:
            rows.append(answered.answer["transaction"])

    in_parallel(twin, 6)

    assert len(rows) == 6
    assert set(rows) == {Transaction.objects.get(type="MERGE_IN").pk}
    assert balance_of(target).points_balance == 100


@pytest.mark.django_db(transaction=True)
def test_merges_of_the_same_cards_both_ways_at_once_never_block_each_other():
    merchant = make_merchant()
    for _ in range(15):
        pair = [make_card(merchant, points=10), make_card(merchant, points=20)]
        refusals: list[str] = []

        def attempt(n, pair=pair, refusals=refusals):
            source, target = pair if n % 2 else reversed(pair)
            try:
                merge(source, target)
            except LoyaltyError as refusal:
                refusals.append(refusal.code)

        in_parallel(attempt, 4)

        assert refusals == ["card_not_active"] * 3
        assert sorted(balance_of(card).points_balance for card in pair) == [0, 30]
    assert check_ledger().mismatches == []


@pytest.mark.django_db(transaction=True)
def test_a_sale_during_a_merge_comes_along_or_is_refused():
    merchant = make_merchant()
    store = make_store(merchant)
    target = make_card(merchant)
    sold: list[int] = []
    for _ in range(10):
        source = make_card(merchant, points=10)

        def act(n, source=source):
            if n == 0:
                merge(source, target)
                return
            try:
                sold.append(earning.earn(store=store, card_id=source.pk, amount_minor=100, at=NOON).points_delta)
            except CardNotActive:
                return

        in_parallel(act, 4)

    assert balance_of(target).points_balance == 10 * 10 + sum(sold)
    assert check_ledger().mismatches == []
