"""A run that would take points from too many who were not warned in time asks first."""

from datetime import timedelta

import pytest
from django.utils import timezone

from loyalty.models import Card, CardBalance, ExpirationRun, Merchant, Program
from loyalty.services import expiration
from tests.factories import NOON, balance_of, days, make_cards, make_merchant
from tests.loyalty.runs import counts, expire, row_of, table_hashes

pytestmark = pytest.mark.django_db
TONIGHT = NOON + days(200)


@pytest.fixture(autouse=True)
def small_limits(settings):
    settings.LOYALTY_EXPIRY_GUARD_PERCENT = 25
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 3


def make_base(*, unnoticed: int, others: int, **program) -> Merchant:
    """Cards that would go tonight without a notice, beside fresh ones. The rule is the plain one."""
    merchant = make_merchant(require_expiration_notice=False, **program)
    make_cards(merchant, unnoticed, points=10, at=NOON)
    make_cards(merchant, others, points=10, at=TONIGHT)
    return merchant


@pytest.mark.parametrize(
    ("unnoticed", "others", "refused"),
    [
        (3, 0, False),
        (4, 12, False),
        (4, 11, True),
        (5, 15, False),
        (5, 14, True),
    ],
    ids=["no more than 3", "4 of 16 is 25 %", "4 of 15 is more", "5 of 20 is 25 %", "5 of 19 is more"],
)
def test_the_guard_holds_above_both_limits(unnoticed, others, refused):
    make_base(unnoticed=unnoticed, others=others)

    report = expire(TONIGHT)

    assert (report.status == "refused") is refused
    assert report.tally.cards_expired == (0 if refused else unnoticed)


def test_a_refusal_names_the_merchant_the_cards_and_the_exact_command():
    merchant = make_base(unnoticed=4, others=1)

    report = expire(TONIGHT)

    [refusal] = report.refusals
    assert (refusal.merchant, refusal.cards) == (merchant.slug, 4)
    assert refusal.sentence == (
        f"{merchant.slug}: 4 of 5 cards with points would expire without a notice in time. "
        "Nothing of this merchant was expired. If that is meant, run: "
        f"manage.py expire_points --merchant {merchant.slug} --confirm 4"
    )
    assert report.as_json()["refusals"] == [
        {"merchant": merchant.slug, "cards": 4, "sentence": refusal.sentence},
    ]
    run = row_of(report)
    assert (run.status, run.error) == ("refused", refusal.sentence)
    assert run.finished_at is not None


@pytest.mark.parametrize(("confirmed", "expired"), [(3, 0), (4, 4), (5, 4)])
def test_a_confirmed_number_is_the_most_that_may_go(confirmed, expired):
    merchant = make_base(unnoticed=4, others=1)

    report = expire(TONIGHT, merchant=merchant, confirmed_cards=confirmed)

    assert report.tally.cards_expired == expired
    assert report.status == ("succeeded" if expired else "refused")


@pytest.mark.parametrize("limit", ["LOYALTY_EXPIRY_GUARD_PERCENT", "LOYALTY_EXPIRY_GUARD_CARDS"])
def test_a_limit_of_zero_switches_the_guard_off(settings, limit):
    setattr(settings, limit, 0)
    make_base(unnoticed=4, others=0)

    assert expire(TONIGHT).tally.cards_expired == 4


def test_a_refused_merchant_is_warned_and_not_expired_while_the_others_go_on():
    held = make_base(unnoticed=4, others=0)
    [near] = make_cards(held, 1, points=10, at=TONIGHT - days(170))
    free = make_base(unnoticed=2, others=0)

    report = expire(TONIGHT)

    assert report.status == "refused"
    assert counts(report) == (2, 20, 1)
    assert balance_of(near).last_expiration_warning_at == TONIGHT
    assert balances(held) == [10] * 5
    assert balances(free) == [0, 0]


def test_cards_warned_in_time_are_never_held_back():
    merchant = make_merchant()
    make_cards(merchant, 10, points=10)
    expire(NOON + days(166))

    assert expire(NOON + days(181)).tally.cards_expired == 10


@pytest.mark.parametrize(("days_ago", "refused"), [(14, False), (13, True)])
def test_a_notice_in_time_is_as_old_as_the_warning_is_long(days_ago, refused):
    merchant = make_merchant()
    make_cards(merchant, 4, points=10)
    CardBalance.objects.update(
        last_expiration_warning_at=TONIGHT - days(days_ago), expiration_warned_for=TONIGHT.date() - timedelta(days=1)
    )

    assert (expire(TONIGHT).status == "refused") is refused


def test_a_warning_from_before_a_pause_is_no_notice_for_the_plain_rule():
    merchant = make_base(unnoticed=4, others=0, expiration_paused_until=TONIGHT.date() - timedelta(days=5))
    CardBalance.objects.update(
        last_expiration_warning_at=TONIGHT - days(30), expiration_warned_for=TONIGHT.date() - timedelta(days=20)
    )

    assert expire(TONIGHT, merchant=merchant).status == "refused"


def test_exempt_and_suspended_cards_do_not_count_as_going():
    merchant = make_base(unnoticed=5, others=0)
    first, second = Card.objects.filter(program=merchant.program)[:2]
    Card.objects.filter(pk=first.pk).update(status="suspended")
    Card.objects.filter(pk=second.pk).update(expiration_exempt=True, expiration_exempt_reason="VIP")

    assert expire(TONIGHT).tally.cards_expired == 3


def test_a_run_without_notice_is_guarded_too():
    merchant = make_merchant()
    make_cards(merchant, 4, points=10)

    plainly = {"merchant": merchant, "without_notice": True, "reason": "Old base"}

    refused = expire(TONIGHT, **plainly)
    assert (refused.status, counts(refused)) == ("refused", (0, 0, 0))

    assert counts(expire(TONIGHT, **plainly, confirmed_cards=4)) == (4, 40, 0)


def test_a_preview_shows_the_refusal():
    make_base(unnoticed=4, others=0)

    report = expiration.preview_expiration(as_of=TONIGHT)

    assert (report.status, len(report.refusals), report.tally.cards_expired) == ("preview", 1, 0)


# --- the clock


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), timedelta(minutes=-6), days(400), timedelta(hours=-3)])
def test_nothing_is_done_when_the_clocks_disagree(ahead):
    make_base(unnoticed=2, others=0)
    at = timezone.now() + ahead
    before = without_runs(table_hashes())

    report = expiration.expire_points(as_of=TONIGHT, at=at, trigger=ExpirationRun.Trigger.SCHEDULE)

    assert (report.status, counts(report)) == ("refused", (0, 0, 0))
    assert "set the clocks first" in report.refusals[0].sentence
    assert row_of(report).error == report.refusals[0].sentence
    assert without_runs(table_hashes()) == before


@pytest.mark.parametrize("ahead", [timedelta(minutes=4, seconds=30), timedelta(minutes=-4, seconds=-30)])
def test_clocks_may_differ_a_little(ahead):
    make_base(unnoticed=2, others=0)

    report = expiration.expire_points(as_of=TONIGHT, at=timezone.now() + ahead, trigger=ExpirationRun.Trigger.SCHEDULE)

    assert report.tally.cards_expired == 2


def test_the_tolerance_of_clocks_is_a_setting(settings):
    settings.LOYALTY_CLOCK_TOLERANCE_SECONDS = 3600
    make_base(unnoticed=2, others=0)

    report = expiration.expire_points(
        as_of=TONIGHT, at=timezone.now() + timedelta(minutes=50), trigger=ExpirationRun.Trigger.SCHEDULE
    )

    assert report.tally.cards_expired == 2


def test_a_clock_that_is_a_little_ahead_does_not_end_the_day_early(settings):
    settings.LOYALTY_CLOCK_TOLERANCE_SECONDS = 7200
    now = timezone.now()
    offset = (23 - now.hour + 11) % 24 - 11  # where it is past 23:00 now
    merchant = make_merchant(timezone=f"Etc/GMT{-offset:+d}", require_expiration_notice=False)
    make_cards(merchant, 1, points=10, at=now - days(180))
    ahead = now + timedelta(hours=1)

    report = expiration.expire_points(as_of=ahead, at=ahead, trigger=ExpirationRun.Trigger.SCHEDULE)

    assert counts(report) == (0, 0, 1)
    assert counts(expire(ahead)) == (1, 10, 0)


# --- programs that cannot be understood


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe", "x" * 64])
def test_a_merchant_of_an_unknown_time_zone_is_named_and_the_others_go_on(name):
    broken = make_base(unnoticed=1, others=0)
    make_base(unnoticed=2, others=0)
    Merchant.objects.filter(pk=broken.pk).update(timezone=name)

    report = expire(TONIGHT)

    assert (report.status, counts(report), report.programs) == ("partial", (2, 20, 0), 1)
    assert report.errors == [f"Merchant {broken.slug} has the unknown time zone {name}."]
    assert row_of(report).error == report.errors[0]


@pytest.mark.parametrize("terms", [{"points_expiration_days": 2_000_000_000}, {"points_expiration_days": 999_999}])
def test_a_term_longer_than_the_calendar_is_named_and_the_others_go_on(terms):
    broken = make_base(unnoticed=1, others=0)
    make_base(unnoticed=2, others=0)
    Program.objects.filter(merchant=broken).update(**terms)

    report = expire(TONIGHT)

    assert (report.status, counts(report)) == ("partial", (2, 20, 0))
    assert report.errors == [f"Merchant {broken.slug} lets points expire after more days than a calendar has."]


def balances(merchant: Merchant) -> list[int]:
    return list(CardBalance.objects.filter(program=merchant.program).values_list("points_balance", flat=True))


def without_runs(hashes: dict[str, tuple[int, str]]) -> dict[str, tuple[int, str]]:
    return {table: found for table, found in hashes.items() if table != "loyalty_expirationrun"}
