from datetime import date, datetime, timedelta
from typing import Any

import pytest

from loyalty.errors import ConfirmationRequired, InvalidPolicy, NothingToChange, ProgramChanged, ReasonRequired
from loyalty.models import PolicyChange, Program
from loyalty.services import policies
from loyalty.services.policies import PolicyTerms
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_card, make_cards, make_merchant
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db
LIMIT = (NOON + days(180)).date()


def change(program: Program, *, at: datetime = NOON, confirmed_cards: int | None = None, **changes: Any) -> Program:
    terms = PolicyTerms(**{**vars(PolicyTerms.of(Program.objects.get(pk=program.pk))), **changes})
    return policies.change_policy(
        program_id=program.pk, terms=terms, actor="kim", at=at, confirmed_cards=confirmed_cards, reason="Season"
    )


def make_program(**terms: Any) -> Program:
    return make_merchant(**terms).program


def nights(first: float, last: float) -> dict[int, tuple[int, int, int]]:
    """Cards expired, points and warnings of each nightly run that did anything, by days after noon."""
    found = {night: counts(expire(NOON + days(night))) for night in range(int(first), int(last) + 1)}
    return {night: done for night, done in found.items() if any(done)}


# --- which policies there are


@pytest.mark.parametrize(
    "terms",
    [
        {"points_expiration_days": 15},
        {"points_expiration_days": 1, "expiration_warning_days": 0},
        {"points_expiration_days": 0},
        {"points_expiration_days": None},
        {"points_expiration_days": 3650, "expiration_warning_days": 365},
        {"points_expiration_days": 1, "require_expiration_notice": False},
        {"points_expiration_days": 14, "require_expiration_notice": False},
    ],
)
def test_a_policy_that_holds_together_is_accepted(terms):
    changed = change(make_program(), confirmed_cards=0, **terms)

    changed.refresh_from_db()
    assert {name: getattr(changed, name) for name in terms} == terms


@pytest.mark.parametrize("expires_after", [1, 13, 14])
def test_a_notice_that_is_not_shorter_than_the_term_is_refused_with_both_numbers_and_the_remedy(expires_after):
    with pytest.raises(InvalidPolicy) as refused:
        change(make_program(), points_expiration_days=expires_after)

    assert refused.value.sentence == (
        f"Points cannot expire after {expires_after} days when customers are warned 14 days before. "
        "Choose more than 14 days, a shorter warning, or switch the required notice off."
    )


@pytest.mark.parametrize(
    "terms",
    [
        {"points_expiration_days": -1},
        {"points_expiration_days": 3651},
        {"expiration_warning_days": -1},
        {"expiration_warning_days": 366},
    ],
)
def test_a_policy_out_of_range_is_refused(terms):
    with pytest.raises(InvalidPolicy, match="1 to 3650 days, with a warning 0 to 365 days"):
        change(make_program(), **terms)


def test_a_pause_for_ever_is_refused_with_the_remedy():
    with pytest.raises(InvalidPolicy, match="choose 0 days"):
        change(make_program(), expiration_paused_until=date.max)

    assert change(make_program(), expiration_paused_until=date(2199, 12, 31)).version == 2


def test_a_pause_for_ever_that_is_in_the_database_disturbs_nobody():
    card = make_card(make_merchant(timezone="America/Los_Angeles", expiration_paused_until=date.max), points=10)

    assert not card.program.policy.is_warned(balance_of(card).cycle)
    assert counts(expire(NOON + days(400))) == (0, 0, 0)


# --- confirming


def test_a_change_that_takes_points_sooner_needs_the_number_that_was_shown():
    program = make_program()
    make_cards(program.merchant, 3, points=10, at=NOON - days(100))

    with pytest.raises(ConfirmationRequired, match="3 cards with 30 points") as refused:
        change(program, points_expiration_days=90)

    assert refused.value.details["impact"]["cards_past_limit"] == 3
    program.refresh_from_db()
    assert (program.points_expiration_days, program.version) == (180, 1)
    assert not PolicyChange.objects.exists()


@pytest.mark.parametrize(("confirmed", "accepted"), [(2, False), (3, True), (4, True)])
def test_a_confirmation_holds_for_at_most_the_number_confirmed(confirmed, accepted):
    program = make_program()
    make_cards(program.merchant, 3, points=10, at=NOON - days(100))

    if accepted:
        change(program, points_expiration_days=90, confirmed_cards=confirmed)
    else:
        with pytest.raises(ConfirmationRequired):
            change(program, points_expiration_days=90, confirmed_cards=confirmed)

    program.refresh_from_db()
    assert program.points_expiration_days == (90 if accepted else 180)


def test_a_change_that_takes_nothing_yet_needs_a_confirmation_of_zero():
    program = make_program()

    with pytest.raises(ConfirmationRequired):
        change(program, points_expiration_days=90)

    assert change(program, points_expiration_days=90, confirmed_cards=0).points_expiration_days == 90


def test_a_change_that_takes_nothing_sooner_needs_none():
    assert change(make_program(), points_expiration_days=200).points_expiration_days == 200


def test_a_change_is_remembered_with_its_impact_and_who_confirmed_it():
    program = make_program()
    make_card(program.merchant, points=10, at=NOON - days(100))

    change(program, points_expiration_days=90, expiration_paused_until=LIMIT, confirmed_cards=1)

    kept = PolicyChange.objects.get(program=program)
    assert (kept.actor, kept.reason, kept.changed_at) == ("kim", "Season", NOON)
    assert kept.old_policy["points_expiration_days"] == 180
    assert kept.new_policy == {
        "points_expiration_days": 90,
        "expiration_warning_days": 14,
        "require_expiration_notice": True,
        "expiration_paused_until": LIMIT.isoformat(),
    }
    assert kept.impact["cards_past_limit"] == 1


def test_the_same_policy_again_is_refused():
    with pytest.raises(NothingToChange):
        change(make_program())


def test_every_change_makes_a_new_version():
    program = make_program()

    assert change(program, points_expiration_days=200).version == 2
    assert change(program, points_expiration_days=201).version == 3


# --- what becomes of promises


def test_switching_expiry_on_warns_a_dormant_base_first():
    program = make_program(points_expiration_days=None)
    make_cards(program.merchant, 3, points=10, at=NOON - days(1000))
    change(program, points_expiration_days=180, confirmed_cards=3)

    assert nights(0, 20) == {0: (0, 0, 3), 15: (3, 30, 0)}


def test_switching_expiry_off_and_on_again_warns_again_and_keeps_the_promise():
    program = make_program()
    card = make_card(program.merchant, points=10)
    expire(NOON + days(166))
    change(program, points_expiration_days=0)
    assert nights(167, 190) == {}

    change(program, points_expiration_days=180, confirmed_cards=1, at=NOON + days(190))

    assert balance_of(card).expiration_warned_for == LIMIT
    assert nights(190, 206) == {190: (0, 0, 1), 205: (1, 10, 0)}


def test_shortening_keeps_the_promise_of_who_was_warned():
    program = make_program()
    make_card(program.merchant, points=10)
    expire(NOON + days(166))

    change(program, points_expiration_days=90, confirmed_cards=1, at=NOON + days(167))

    assert nights(167, 185) == {181: (1, 10, 0)}


def test_shortening_warns_who_was_not_warned_with_the_full_notice():
    program = make_program()
    make_card(program.merchant, points=10)

    change(program, points_expiration_days=90, confirmed_cards=1, at=NOON + days(120))

    assert nights(120, 140) == {120: (0, 0, 1), 135: (1, 10, 0)}


def test_shortening_the_notice_keeps_the_day_that_was_promised():
    program = make_program()
    make_card(program.merchant, points=10)
    expire(NOON + days(166))

    change(program, expiration_warning_days=3, confirmed_cards=0, at=NOON + days(167))

    assert nights(167, 185) == {181: (1, 10, 0)}


def test_lengthening_warns_again_for_the_new_day():
    program = make_program()
    card = make_card(program.merchant, points=10)
    expire(NOON + days(166))

    change(program, points_expiration_days=200, at=NOON + days(170))

    assert nights(170, 205) == {186: (0, 0, 1), 201: (1, 10, 0)}
    days_named = Message.objects.filter(kind="loyalty_points_expiring", reference=card.pk).order_by("pk")
    assert [mail.context["expires_on"] for mail in days_named] == [
        LIMIT.isoformat(),
        (LIMIT + timedelta(days=20)).isoformat(),
    ]


def test_lengthening_by_less_than_the_promise_changes_nothing_for_who_was_promised_more():
    program = make_program()
    card = make_card(program.merchant, points=10)
    expire(NOON + days(300))
    promised = balance_of(card).expiration_warned_for

    change(program, points_expiration_days=200, at=NOON + days(301))

    assert promised == (NOON + days(314)).date()
    assert nights(301, 320) == {315: (1, 10, 0)}


def test_lengthening_forgets_only_the_promises_that_it_outlives():
    program = make_program()
    early = make_card(program.merchant, points=10, at=NOON)
    late = make_card(program.merchant, points=20, at=NOON + days(1))
    for night in (166, 167):
        expire(NOON + days(night))
    change(program, points_expiration_days=181, at=NOON + days(168))

    assert balance_of(early).last_expiration_warning_at is None
    assert balance_of(late).last_expiration_warning_at is None
    assert nights(168, 190) == {168: (0, 0, 2), 183: (2, 30, 0)}


def test_turning_the_notice_off_keeps_promises():
    program = make_program()
    make_card(program.merchant, points=10)
    expire(NOON + days(300))

    change(program, require_expiration_notice=False, confirmed_cards=1, at=NOON + days(301))

    assert nights(301, 320) == {315: (1, 10, 0)}


# --- pausing


def test_a_pause_neither_warns_nor_expires_and_ends_with_a_full_notice():
    program = make_program()
    make_card(program.merchant, points=10, at=NOON)
    make_card(program.merchant, points=20, at=NOON + days(20))
    expire(NOON + days(166))
    change(program, expiration_paused_until=(NOON + days(250)).date(), at=NOON + days(170))

    assert nights(170, 250) == {}
    assert nights(251, 270) == {251: (0, 0, 2), 266: (2, 30, 0)}


def test_a_pause_is_over_on_the_local_day_after_its_last():
    program = make_merchant(timezone="America/Los_Angeles").program
    make_card(program.merchant, points=10, at=NOON)
    change(program, expiration_paused_until=date(2026, 9, 30))

    assert counts(expire(datetime.fromisoformat("2026-10-01T06:59:00+00:00"))) == (0, 0, 0)
    assert counts(expire(datetime.fromisoformat("2026-10-01T07:00:00+00:00"))) == (0, 0, 1)


def test_ending_a_pause_early_warns_again_with_a_full_notice():
    program = make_program()
    make_card(program.merchant, points=10)
    expire(NOON + days(166))
    change(program, expiration_paused_until=(NOON + days(250)).date(), at=NOON + days(170))

    change(program, expiration_paused_until=None, confirmed_cards=1, at=NOON + days(200))

    assert nights(200, 220) == {200: (0, 0, 1), 215: (1, 10, 0)}


@pytest.mark.parametrize("paused_until", [None, (NOON + days(100)).date()], ids=["cleared", "dated back"])
def test_tidying_up_a_pause_that_is_over_does_not_revive_the_warnings_from_before_it(paused_until):
    program = make_program()
    card = make_card(program.merchant, points=10)
    expire(NOON + days(166))
    change(program, expiration_paused_until=(NOON + days(250)).date(), at=NOON + days(170))

    change(program, expiration_paused_until=paused_until, at=NOON + days(251))

    assert nights(251, 270) == {251: (0, 0, 1), 266: (1, 10, 0)}
    assert balance_of(card).points_balance == 0


def test_tidying_up_a_pause_later_keeps_the_warnings_from_after_it():
    program = make_program()
    make_card(program.merchant, points=10)
    change(program, expiration_paused_until=(NOON + days(250)).date(), at=NOON + days(170))
    expire(NOON + days(251))

    change(program, expiration_paused_until=None, at=NOON + days(255))

    assert nights(255, 270) == {266: (1, 10, 0)}


def test_prolonging_a_pause_that_is_over_warns_again_after_the_new_one():
    program = make_program()
    make_card(program.merchant, points=10)
    expire(NOON + days(166))
    change(program, expiration_paused_until=(NOON + days(200)).date(), at=NOON + days(170))
    expire(NOON + days(201))

    change(program, expiration_paused_until=(NOON + days(230)).date(), at=NOON + days(202))

    assert nights(202, 250) == {231: (0, 0, 1), 246: (1, 10, 0)}


# --- the plain rule


def test_the_plain_rule_takes_what_is_older_than_the_limit_without_any_warning():
    program = make_program(require_expiration_notice=False)
    make_card(program.merchant, points=10, at=NOON - days(500))
    make_card(program.merchant, points=20, at=NOON)

    assert nights(0, 0) == {0: (1, 10, 0)}
    assert nights(1, 200) == {166: (0, 0, 1), 181: (1, 20, 0)}


def test_the_plain_rule_may_be_shorter_than_the_warning():
    program = make_program(require_expiration_notice=False, points_expiration_days=3)
    make_card(program.merchant, points=10)

    assert nights(0, 10) == {0: (0, 0, 1), 4: (1, 10, 0)}


# --- pausing and going on


def pause(program: Program, until: date, *, at: datetime = NOON, **how: Any) -> Program:
    return policies.pause_expiry(program_id=program.pk, until=until, actor="kim", at=at, **{"reason": "Flood", **how})


def resume(program: Program, *, at: datetime, **how: Any) -> Program:
    return policies.resume_expiry(program_id=program.pk, actor="kim", at=at, **{"reason": "Dry again", **how})


def test_a_pause_changes_nothing_else_and_is_kept_with_its_reason():
    program = make_program()

    paused = pause(program, date(2026, 4, 30))

    assert (paused.expiration_paused_until, paused.points_expiration_days, paused.version) == (
        date(2026, 4, 30),
        180,
        2,
    )
    kept = PolicyChange.objects.get()
    assert (kept.reason, kept.actor, kept.new_policy["expiration_paused_until"]) == ("Flood", "kim", "2026-04-30")


def test_who_goes_on_early_confirms_it_and_customers_are_warned_again():
    program = make_program()
    make_card(program.merchant, points=10)
    expire(NOON + days(166))
    pause(program, (NOON + days(300)).date(), at=NOON + days(170))
    early = NOON + days(200)

    with pytest.raises(ConfirmationRequired) as asked:
        resume(program, at=early)
    resume(program, at=early, confirmed_cards=asked.value.details["impact"]["cards_past_limit"])

    assert nights(200, 215) == {200: (0, 0, 1), 215: (1, 10, 0)}


def test_only_a_pause_that_lasts_can_be_ended():
    program = make_program()
    with pytest.raises(NothingToChange):
        resume(program, at=NOON)

    pause(program, NOON.date())
    with pytest.raises(NothingToChange):
        resume(program, at=NOON + days(1))

    assert resume(program, at=NOON, confirmed_cards=0).expiration_paused_until is None


def test_an_earlier_end_of_a_pause_asks_first():
    program = make_program()
    pause(program, date(2026, 4, 30))

    with pytest.raises(ConfirmationRequired):
        pause(program, date(2026, 4, 29))

    assert pause(program, date(2026, 4, 29), confirmed_cards=0).expiration_paused_until == date(2026, 4, 29)


def test_a_pause_ends_today_or_later_where_the_merchant_is():
    program = make_program(timezone="Pacific/Kiritimati")  # 14 hours ahead: it is the next day there

    with pytest.raises(InvalidPolicy, match="A pause ends today, on 03 March 2026"):
        pause(program, NOON.date())

    assert pause(program, (NOON + days(1)).date()).version == 2


def test_a_pause_and_its_end_need_a_reason():
    program = make_program()

    with pytest.raises(ReasonRequired):
        pause(program, date(2026, 4, 30), reason=" ")
    with pytest.raises(ReasonRequired):
        resume(program, at=NOON, reason="")
    assert not PolicyChange.objects.exists()


# --- what is said


def test_a_change_that_was_decided_on_an_older_version_is_refused():
    program = make_program()
    change(program, points_expiration_days=200)
    terms = PolicyTerms.of(program)

    with pytest.raises(ProgramChanged):
        policies.change_policy(program_id=program.pk, terms=terms, actor="kim", at=NOON, seen_version=1)


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({}, "Points expire after 180 days without activity. Customers are warned 14 days before."),
        ({"points_expiration_days": 0}, "Points never expire."),
        (
            {"points_expiration_days": 1, "expiration_warning_days": 0, "require_expiration_notice": False},
            "Points expire after 1 day without activity. Customers are warned on the last day. "
            "Points also go without a warning.",
        ),
        (
            {"expiration_warning_days": 1, "expiration_paused_until": date(2026, 4, 30)},
            "Points expire after 180 days without activity. Customers are warned 1 day before. "
            "Nothing expires to the end of 30 April 2026.",
        ),
    ],
)
def test_terms_are_told_in_a_sentence(terms, sentence):
    assert PolicyTerms.of(make_program(**terms)).sentence == sentence


def test_the_policy_in_force_knows_the_day_and_the_law():
    program = make_program(expiration_paused_until=NOON.date())
    program.merchant.country = "CA"

    paused = policies.policy_in_force(program=program, at=NOON)
    over = policies.policy_in_force(program=program, at=NOON + days(1))

    assert (paused.is_paused, paused.version, paused.terms) == (True, 1, PolicyTerms.of(program))
    assert "30 to 60 days" in paused.hint
    assert over.is_paused is False


def test_where_no_law_is_known_there_is_no_hint():
    assert policies.policy_in_force(program=make_program(), at=NOON).hint == ""
