"""What a run writes, card by card."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from loyalty.errors import ReasonRequired
from loyalty.models import Card, Customer, ExpirationRun, Merchant, Program, Transaction
from loyalty.services import adjustments, expiration
from notifications.models import Message
from tests.factories import NOON, balance_of, days, give, make_card, make_cards, make_merchant
from tests.loyalty.runs import counts, expire, row_of, table_hashes

pytestmark = pytest.mark.django_db
WARNED, LIMIT, GONE = NOON + days(166), NOON + days(180), NOON + days(181)
LAST_DAY = LIMIT.date()


@pytest.fixture
def card():
    return make_card(points=100, first_name="Ana", email="ana@example.com")


def mails(kind: str) -> list[Message]:
    return list(Message.objects.filter(kind=f"loyalty_points_{kind}").order_by("pk"))


# --- warning


def test_a_warning_notes_its_moment_and_the_promised_day(card):
    before = balance_of(card)

    report = expire(WARNED)

    after = balance_of(card)
    assert report.sentence == "Expired 0 cards, 0 points, 1 warnings"
    assert (after.last_expiration_warning_at, after.expiration_warned_for) == (WARNED, LAST_DAY)
    assert (after.version, after.changed_at) == (before.version + 1, WARNED)
    assert (after.points_balance, after.last_seq) == (before.points_balance, before.last_seq)


def test_a_warning_is_a_message_in_the_outbox(card):
    expire(WARNED)

    [mail] = mails("expiring")
    assert (mail.status, mail.recipient, mail.next_attempt_at) == ("due", "ana@example.com", WARNED)
    assert (mail.reference, mail.scope) == (str(card.pk), str(card.program.merchant_id))
    assert mail.context == {
        "merchant_name": card.program.merchant.name,
        "support_email": "",
        "card_name": "Points card",
        "card_number": card.card_number,
        "first_name": "Ana",
        "points": 100,
        "last_activity_on": NOON.date().isoformat(),
        "expires_after_days": 180,
        "expires_on": LAST_DAY.isoformat(),
    }


def test_a_message_speaks_the_customers_language_or_the_merchants():
    merchant = make_merchant()
    Merchant.objects.update(locale="lb")
    make_card(merchant, points=1, locale="fr")
    make_card(merchant, points=1)

    expire(WARNED)

    assert sorted(mail.locale for mail in mails("expiring")) == ["fr", "lb"]


def test_a_customer_without_an_address_counts_as_warned(card):
    Customer.objects.update(email="")
    expire(WARNED)

    assert [mail.status for mail in mails("expiring")] == ["undeliverable"]
    assert counts(expire(GONE)) == (1, 100, 0)


def test_a_mail_that_failed_for_good_does_not_stop_the_expiry(card):
    expire(WARNED)
    Message.objects.filter(kind="loyalty_points_expiring").update(status="dead", last_error="550 no such user")

    assert counts(expire(GONE)) == (1, 100, 0)


def test_a_late_warning_gives_the_full_notice(card):
    expire(LIMIT + days(30))

    assert balance_of(card).expiration_warned_for == (LIMIT + days(44)).date()


def test_a_run_tells_who_was_past_the_limit_when_first_warned(card):
    make_card(card.program.merchant, points=11, at=NOON - days(40))
    make_card(card.program.merchant, points=7, at=NOON - days(1))

    past = expire(LIMIT).tally.past_limit

    assert (past.cards, past.points) == (2, 18)
    assert past.first_day == past.last_day == (LIMIT + days(14)).date()


# --- expiring


def test_an_expiry_takes_the_whole_balance(card):
    expire(WARNED)
    before = balance_of(card)

    report = expire(GONE)

    after = balance_of(card)
    assert report.sentence == "Expired 1 cards, 100 points, 0 warnings"
    assert (after.points_balance, after.lifetime_points_expired) == (0, 100)
    assert (after.last_seq, after.version, after.changed_at) == (before.last_seq + 1, before.version + 1, GONE)
    assert after.last_activity_at == NOON


def test_an_expiry_explains_itself(card):
    expire(WARNED)
    run = expire(GONE, initiated_by="ops", reason="Nightly")

    row = Transaction.objects.get(type="POINTS_EXPIRED")
    assert (row.points_delta, row.points_balance_after, row.seq, row.card, row.merchant) == (
        -100,
        0,
        3,
        card,
        card.program.merchant,
    )
    assert (row.expiration_run_id, row.cycle_started_at, row.actor, row.reason) == (run.run_id, NOON, "ops", "Nightly")
    assert (row.transaction_at, row.created_at) == (GONE, GONE)
    details = row.details
    assert (details["expires_after_days"], details["expires_on"], details["run"]) == (
        180,
        LAST_DAY.isoformat(),
        run.run_id,
    )
    assert datetime.fromisoformat(details["last_activity_at"]) == NOON
    assert datetime.fromisoformat(details["warned_at"]) == WARNED
    assert details["warned_for"] == LAST_DAY.isoformat()


def test_an_expiry_that_nobody_started_names_its_trigger(card):
    expire(WARNED)
    expire(GONE, trigger=ExpirationRun.Trigger.SCHEDULE)

    assert Transaction.objects.get(type="POINTS_EXPIRED").actor == "schedule"


def test_the_customer_is_told_what_expired(card):
    expire(WARNED)
    expire(GONE)

    [mail] = mails("expired")
    assert (mail.status, mail.recipient, mail.context["points"]) == ("due", "ana@example.com", 100)
    assert (mail.context["expires_on"], mail.context["expired_on"]) == (
        LAST_DAY.isoformat(),
        GONE.date().isoformat(),
    )


def test_stamps_do_not_expire_with_points(card):
    merchant = card.program.merchant
    adjustments.adjust(merchant=merchant, card_id=card.pk, points=0, stamps=4, reason="Move", actor="kim", at=NOON)
    expire(WARNED)
    expire(GONE)

    balance, row = balance_of(card), Transaction.objects.get(type="POINTS_EXPIRED")
    assert (balance.points_balance, balance.stamp_count) == (0, 4)
    assert (row.stamps_delta, row.stamps_balance_after) == (0, 4)


def test_a_card_expires_again_after_a_new_cycle(card):
    for start in (0, 181):
        expire(WARNED + days(start))
        assert counts(expire(GONE + days(start))) == (1, 100, 0)
        give(card, 100, at=GONE + days(start))

    assert balance_of(card).lifetime_points_expired == 200
    assert (len(mails("expiring")), len(mails("expired"))) == (2, 2)


def test_points_that_were_redeemed_to_nothing_do_not_expire(card):
    merchant = card.program.merchant
    expire(WARNED)
    adjustments.adjust(merchant=merchant, card_id=card.pk, points=-100, reason="Gone", actor="kim", at=WARNED)

    assert counts(expire(GONE)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (Merchant, {"is_active": False}),
        (Program, {"is_active": False}),
        (Program, {"points_expiration_days": 0}),
        (Program, {"points_expiration_days": None}),
        (Program, {"expiration_paused_until": GONE.date()}),
        (Card, {"status": "suspended"}),
        (Card, {"status": "closed"}),
        (Card, {"status": "erased"}),
        (Card, {"expiration_exempt": True, "expiration_exempt_reason": "VIP"}),
    ],
)
@pytest.mark.parametrize("warned", [False, True], ids=["not warned", "warned"])
def test_who_is_left_alone(card, model, change, warned):
    if warned:
        expire(WARNED)
    model.objects.update(**change)

    assert counts(expire(GONE)) == (0, 0, 0)


def test_a_merchant_that_changes_its_time_zone_keeps_its_promises():
    merchant = make_merchant(timezone="Pacific/Kiritimati")
    card = make_card(merchant, points=5, at=datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
    expire(WARNED)
    promised = balance_of(card).expiration_warned_for
    assert promised is not None
    Merchant.objects.update(timezone="Pacific/Pago_Pago")

    last_moment = datetime(promised.year, promised.month, promised.day, 23, 59, tzinfo=UTC) + timedelta(hours=11)
    assert counts(expire(last_moment)) == (0, 0, 0)
    assert counts(expire(last_moment + timedelta(minutes=1))) == (1, 5, 0)


# --- once


def test_a_second_run_for_the_same_moment_changes_nothing(card):
    make_cards(card.program.merchant, 3, at=NOON - days(20))
    for moment in (WARNED, GONE):
        expire(moment)
        before = {table: found for table, found in table_hashes().items() if table != "loyalty_expirationrun"}

        again = expire(moment)

        assert counts(again) == (0, 0, 0)
        assert before == {table: found for table, found in table_hashes().items() if table != "loyalty_expirationrun"}


def test_a_run_of_one_merchant_touches_no_other(card):
    other = make_card(points=7)

    report = expire(WARNED, merchant=other.program.merchant)

    assert (report.programs, counts(report)) == (1, (0, 0, 1))
    assert balance_of(card).last_expiration_warning_at is None
    assert expire(GONE, merchant=other.program.merchant).tally.points_expired == 7
    assert balance_of(card).points_balance == 100


def test_chunks_of_any_size_come_to_the_same():
    merchant = make_merchant()
    make_cards(merchant, 7, points=3)
    expire(WARNED, batch_size=2)

    assert counts(expire(GONE, batch_size=3)) == (7, 21, 0)


# --- without notice, once


def test_a_run_without_notice_applies_the_plain_rule(card):
    fresh = make_card(card.program.merchant, points=5, at=NOON + days(100))

    report = expire(GONE, merchant=card.program.merchant, without_notice=True, reason="Old base", initiated_by="ops")

    assert counts(report) == (1, 100, 0)
    assert Transaction.objects.get(type="POINTS_EXPIRED").details["warned_at"] is None
    assert balance_of(fresh).points_balance == 5
    run = row_of(report)
    assert (run.without_notice, run.reason) == (True, "Old base")


def test_a_run_without_notice_keeps_promises(card):
    expire(LIMIT + days(5))
    promised = balance_of(card).expiration_warned_for

    assert counts(expire(LIMIT + days(19), without_notice=True, reason="Old base")) == (0, 0, 0)
    assert promised == (LIMIT + days(19)).date()
    assert counts(expire(LIMIT + days(20), without_notice=True, reason="Old base")) == (1, 100, 0)


def test_who_is_only_near_the_limit_has_the_full_notice_also_in_a_run_without(card):
    expire(LIMIT - days(2), without_notice=True, reason="Old base")

    assert balance_of(card).expiration_warned_for == (LIMIT + days(12)).date()
    assert counts(expire(LIMIT + days(12))) == (0, 0, 0)
    assert counts(expire(LIMIT + days(13))) == (1, 100, 0)


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_run_without_notice_needs_a_reason(card, reason):
    with pytest.raises(ReasonRequired):
        expire(GONE, merchant=card.program.merchant, without_notice=True, reason=reason)

    assert not ExpirationRun.objects.exists()
    assert balance_of(card).points_balance == 100


# --- the run's own row


def test_a_run_keeps_what_it_did(card):
    make_cards(card.program.merchant, 2, points=10, at=NOON - days(20))
    exempt = make_card(card.program.merchant, points=5)
    Card.objects.filter(pk=exempt.pk).update(expiration_exempt=True, expiration_exempt_reason="VIP")
    expire(WARNED - days(20))

    report = expire(WARNED, initiated_by="ops", trigger=ExpirationRun.Trigger.ADMIN)

    run = row_of(report)
    assert (run.trigger, run.as_of, run.merchant, run.initiated_by) == ("admin", WARNED, None, "ops")
    assert (run.status, run.programs, run.cards_expired, run.points_expired, run.warnings) == (
        "succeeded",
        1,
        2,
        20,
        1,
    )
    assert (run.skipped_exempt, run.skipped_locked, run.failed, run.failed_card_ids, run.error) == (1, 0, 0, [], "")
    assert run.finished_at is not None
    assert (report.status, report.programs) == ("succeeded", 1)


def test_a_report_is_plain_values(card):
    make_card(card.program.merchant, points=11, at=NOON - days(40))

    report = expire(WARNED)

    assert report.as_json() == {
        "run_id": report.run_id,
        "status": "succeeded",
        "programs": 1,
        "cards_expired": 0,
        "points_expired": 0,
        "warnings": 2,
        "skipped_locked": 0,
        "skipped_exempt": 0,
        "failed_card_ids": [],
        "warned_past_limit": {
            "cards": 1,
            "points": 11,
            "first_day": LAST_DAY.isoformat(),
            "last_day": LAST_DAY.isoformat(),
        },
        "refusals": [],
        "errors": [],
    }


def test_only_whole_runs_at_the_current_clock_prove_that_expiry_works(card):
    def run(**choices):
        now = timezone.now()
        choices = {"as_of": now, "at": now, "trigger": ExpirationRun.Trigger.SCHEDULE, **choices}
        return expiration.expire_points(**choices).run_id

    counting = run()
    run(merchant=card.program.merchant)
    run(as_of=timezone.now() - days(1))
    run(at=timezone.now() + days(400), as_of=timezone.now() + days(400))

    assert list(ExpirationRun.objects.counting().values_list("pk", flat=True)) == [counting]


def test_where_nothing_expires_a_run_is_quick_to_say_so(django_assert_max_num_queries):
    with django_assert_max_num_queries(20):
        assert expire(NOON).sentence == "Expired 0 cards, 0 points, 0 warnings"
