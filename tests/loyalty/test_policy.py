from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loyalty.models import Cycle, ExpirationPolicy

LUXEMBOURG = ZoneInfo("Europe/Luxembourg")
ACTIVE_AT = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LIMIT = date(2026, 7, 4)
BEGIN_WARNING = LIMIT - timedelta(days=14)
# Where clocks skip or repeat midnight, or the whole calendar jumps, and where they do not.
ZONES = [
    "UTC",
    "Europe/Luxembourg",
    "America/Los_Angeles",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "America/Havana",
    "Africa/Cairo",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
]
TRANSITIONS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Europe
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 10, tzinfo=UTC),  # Los Angeles
    datetime(2026, 11, 1, 9, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # New York
    datetime(2018, 11, 4, 3, tzinfo=UTC),  # Sao Paulo
    datetime(2026, 3, 28, 22, tzinfo=UTC),  # Beirut
    datetime(2026, 10, 24, 21, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia
    datetime(2026, 11, 1, 5, tzinfo=UTC),  # Havana
]


def policy(zone: str = "UTC", **terms) -> ExpirationPolicy:
    return ExpirationPolicy(
        **{"expires_after_days": 180, "warning_days": 14, "requires_notice": True, **terms, "zone": ZoneInfo(zone)}
    )


def warned(on: date, promised: date, active_at: datetime = ACTIVE_AT) -> Cycle:
    return Cycle(active_at, datetime(on.year, on.month, on.day, 2, tzinfo=UTC), promised)


def not_warned(promised: date | None = None, active_at: datetime = ACTIVE_AT) -> Cycle:
    return Cycle(active_at, None, promised)


def test_points_can_be_used_to_the_end_of_the_last_whole_day():
    assert policy().expires_on(ACTIVE_AT) == LIMIT


@pytest.mark.parametrize(
    ("zone", "moment", "last_day"),
    [
        ("Europe/Luxembourg", datetime(2026, 1, 5, 23, 0, tzinfo=UTC), date(2026, 7, 5)),
        ("America/Los_Angeles", datetime(2026, 1, 6, 7, 59, tzinfo=UTC), date(2026, 7, 4)),
        ("America/Los_Angeles", datetime(2026, 1, 6, 8, 0, tzinfo=UTC), date(2026, 7, 5)),
        ("Pacific/Kiritimati", datetime(2026, 1, 5, 10, 0, tzinfo=UTC), date(2026, 7, 5)),
    ],
)
def test_the_last_day_is_counted_in_local_days(zone, moment, last_day):
    assert policy(zone).expires_on(moment) == last_day


def test_days_are_counted_across_a_leap_day_as_days():
    assert policy(expires_after_days=365).expires_on(datetime(2028, 1, 1, tzinfo=UTC)) == date(2028, 12, 31)


@pytest.mark.parametrize(
    ("today", "cycle", "due"),
    [
        (BEGIN_WARNING - timedelta(days=1), not_warned(), False),
        (BEGIN_WARNING, not_warned(), True),
        (LIMIT, not_warned(), True),
        (LIMIT + timedelta(days=400), not_warned(), True),
        (BEGIN_WARNING + timedelta(days=1), warned(BEGIN_WARNING, LIMIT), False),
        (LIMIT, warned(BEGIN_WARNING, LIMIT), False),
        (LIMIT, warned(BEGIN_WARNING, LIMIT - timedelta(days=1)), True),
        (LIMIT, not_warned(promised=LIMIT), True),
    ],
    ids=[
        "a day too soon",
        "the first day",
        "the last day",
        "long over",
        "warned yesterday",
        "warned in time",
        "promised less than the rule gives",
        "warned in a cycle that was forgotten",
    ],
)
def test_who_is_warned(today, cycle, due):
    assert policy().must_warn(cycle, today) is due


@pytest.mark.parametrize(
    ("today", "cycle", "due"),
    [
        (LIMIT, warned(BEGIN_WARNING, LIMIT), False),
        (LIMIT + timedelta(days=1), warned(BEGIN_WARNING, LIMIT), True),
        (LIMIT + timedelta(days=1), not_warned(), False),
        (LIMIT + timedelta(days=1), not_warned(promised=LIMIT), False),
        (LIMIT + timedelta(days=5), warned(LIMIT, LIMIT + timedelta(days=5)), False),
        (LIMIT + timedelta(days=6), warned(LIMIT, LIMIT + timedelta(days=5)), True),
        (LIMIT + timedelta(days=1), warned(BEGIN_WARNING, LIMIT - timedelta(days=1)), False),
    ],
    ids=[
        "on the last day",
        "the day after",
        "never warned",
        "the warning was forgotten",
        "a later promise holds",
        "a later promise is over",
        "promised less than the rule gives",
    ],
)
def test_who_expires(today, cycle, due):
    assert policy().may_expire(cycle, today) is due


@pytest.mark.parametrize(
    ("today", "cycle", "warns", "expires"),
    [
        (LIMIT, not_warned(), True, False),
        (LIMIT + timedelta(days=1), not_warned(), False, True),
        (LIMIT + timedelta(days=1), not_warned(promised=LIMIT + timedelta(days=1)), False, False),
        (LIMIT + timedelta(days=1), warned(LIMIT, LIMIT + timedelta(days=1)), False, False),
        (LIMIT + timedelta(days=2), warned(LIMIT, LIMIT + timedelta(days=1)), False, True),
    ],
    ids=["the last day", "the day after", "a forgotten promise holds", "a promise holds", "the promise is over"],
)
def test_the_plain_rule_needs_no_warning_and_keeps_promises(today, cycle, warns, expires):
    plain = policy(requires_notice=False)

    assert (plain.must_warn(cycle, today), plain.may_expire(cycle, today)) == (warns, expires)


@pytest.mark.parametrize(
    ("terms", "today", "cycle", "promised"),
    [
        ({}, BEGIN_WARNING, not_warned(), LIMIT),
        ({}, BEGIN_WARNING + timedelta(days=1), not_warned(), LIMIT + timedelta(days=1)),
        ({}, LIMIT + timedelta(days=100), not_warned(), LIMIT + timedelta(days=114)),
        ({}, BEGIN_WARNING, not_warned(promised=LIMIT + timedelta(days=30)), LIMIT + timedelta(days=30)),
        ({"requires_notice": False}, LIMIT, not_warned(), LIMIT),
        ({"requires_notice": False}, LIMIT, not_warned(promised=LIMIT + timedelta(days=3)), LIMIT + timedelta(days=3)),
    ],
    ids=["in time", "a day late", "dormant", "after a longer promise", "plain rule", "plain rule after a promise"],
)
def test_what_a_warning_promises(terms, today, cycle, promised):
    assert policy(**terms).promise(cycle, today) == promised


def test_a_warning_from_before_the_end_of_a_pause_no_longer_counts():
    pause_over = datetime(2026, 7, 1, tzinfo=UTC)
    paused = policy(notices_count_from=pause_over)

    assert not paused.is_warned(Cycle(ACTIVE_AT, pause_over - timedelta(microseconds=1), LIMIT))
    assert paused.is_warned(Cycle(ACTIVE_AT, pause_over, LIMIT))


@pytest.mark.parametrize("transition", [date(2026, 3, 29), date(2026, 10, 25)], ids=["spring", "autumn"])
def test_a_day_begins_once_when_clocks_change_in_luxembourg(transition):
    here = policy("Europe/Luxembourg")
    day_before, day_after = transition - timedelta(days=1), transition + timedelta(days=1)

    begins = here.start_of(transition)

    assert here.local_date(begins) == transition
    assert here.local_date(begins - timedelta(microseconds=1)) == day_before
    assert here.start_of(day_after) - begins == timedelta(hours=23 if transition.month == 3 else 25)


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("America/Sao_Paulo", date(2018, 11, 4), datetime(2018, 11, 4, 3, tzinfo=UTC)),
        ("Asia/Beirut", date(2026, 3, 29), datetime(2026, 3, 28, 22, tzinfo=UTC)),
        ("Pacific/Apia", date(2011, 12, 30), datetime(2011, 12, 30, 10, tzinfo=UTC)),
        ("Pacific/Apia", date(2011, 12, 31), datetime(2011, 12, 30, 10, tzinfo=UTC)),
        ("America/Havana", date(2026, 11, 1), datetime(2026, 11, 1, 4, tzinfo=UTC)),
    ],
    ids=["midnight skipped", "midnight skipped in spring", "day skipped", "after the skipped day", "midnight twice"],
)
def test_a_day_begins_at_its_first_moment_wherever_midnight_is_odd(zone, day, begins):
    here = policy(zone)

    assert here.start_of(day) == begins
    assert here.local_date(begins) >= day
    assert here.local_date(begins - timedelta(microseconds=1)) < day


# --- for all policies, cards and days

zones = st.sampled_from(ZONES)
years = st.integers(0, 28 * 365 * 86_400).map(lambda seconds: datetime(2009, 1, 1, tzinfo=UTC) + timedelta(0, seconds))
odd_nights = st.builds(
    lambda transition, minutes: transition + timedelta(minutes=minutes),
    st.sampled_from(TRANSITIONS),
    st.integers(-1500, 1500),
)
moments = years | odd_nights
near = st.integers(-400, 400).map(lambda n: timedelta(days=n))


@st.composite
def policies(draw) -> ExpirationPolicy:
    days = draw(st.integers(1, 400))
    notice = draw(st.booleans())
    warning = draw(st.integers(0, days - 1 if notice else 400))
    pause_over = draw(st.none() | moments)
    return policy(
        draw(zones),
        expires_after_days=days,
        warning_days=warning,
        requires_notice=notice,
        notices_count_from=pause_over,
    )


@st.composite
def standings(draw) -> tuple[ExpirationPolicy, Cycle, date]:
    """A policy, a card somewhere in its cycle, and a day near its limit."""
    terms, active_at = draw(policies()), draw(moments)
    limit = terms.expires_on(active_at)
    promised = draw(st.none() | near.map(lambda delta: limit + delta))
    warned_at = draw(st.none() | near.map(lambda delta: active_at + delta)) if promised else None
    return terms, Cycle(active_at, warned_at, promised), limit + draw(near)


@given(standings())
def test_nothing_expires_on_or_before_the_last_promised_day(standing):
    terms, cycle, today = standing

    if today <= max(terms.expires_on(cycle.last_activity_at), cycle.warned_for or date.min):
        assert not terms.may_expire(cycle, today)


@given(standings())
def test_nothing_expires_without_a_warning_where_notice_is_required(standing):
    terms, cycle, today = standing

    if terms.may_expire(cycle, today) and terms.requires_notice:
        assert cycle.warned_at is not None


@given(standings())
def test_no_card_is_warned_and_expired_on_one_day(standing):
    terms, cycle, today = standing

    assert not (terms.must_warn(cycle, today) and terms.may_expire(cycle, today))


@given(standings())
def test_a_promise_is_never_shortened_and_gives_the_full_notice(standing):
    terms, cycle, today = standing

    promised = terms.promise(cycle, today)

    assert promised >= terms.keeps_until(cycle)
    assert promised >= today + timedelta(days=terms.warning_days) or not terms.requires_notice


@given(standings())
def test_who_was_warned_is_not_warned_again_and_expires_after_the_promised_day(standing):
    terms, cycle, today = standing
    promised = terms.promise(cycle, today)
    after = cycle._replace(warned_at=terms.start_of(today), warned_for=promised)

    if terms.must_warn(cycle, today) and terms.is_warned(after):
        assert not terms.must_warn(after, promised)
        assert not terms.may_expire(after, promised)
        assert terms.may_expire(after, promised + timedelta(days=1))


@given(standings())
def test_sooner_or_later_idle_points_go(standing):
    terms, cycle, _ = standing
    today = terms.keeps_until(cycle) + timedelta(days=1)
    if terms.notices_count_from:
        today = max(today, terms.local_date(terms.notices_count_from) + timedelta(days=1))
    if terms.must_warn(cycle, today):
        cycle = cycle._replace(warned_at=terms.start_of(today), warned_for=terms.promise(cycle, today))

    assert terms.may_expire(cycle, today + timedelta(days=terms.warning_days + 1))


@settings(max_examples=300)
@given(policies(), moments, near)
def test_the_moments_that_find_cards_agree_with_the_days_that_decide(terms, active_at, delta):
    today = terms.expires_on(active_at) + delta
    limit = terms.expires_on(active_at)

    assert (active_at < terms.warn_before(today)) == (today >= limit - timedelta(days=terms.warning_days))
    assert (active_at < terms.expire_before(today)) == (today > limit)


@given(policies(), moments, near)
def test_a_warning_is_timely_when_it_is_whole_warning_days_old(terms, warned_at, delta):
    today = terms.local_date(warned_at) + delta

    is_old_enough = today - terms.local_date(warned_at) >= timedelta(days=terms.warning_days)
    assert (warned_at < terms.timely_until(today)) == is_old_enough
