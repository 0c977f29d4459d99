from datetime import date
from typing import Any

import pytest
from django.db import connection

from loyalty.errors import CardNotFound
from loyalty.models import Card, CardBalance, Program, Transaction
from loyalty.services import adjustments, earning, explaining, redeeming, restoring
from loyalty.services.explaining import CardStory
from notifications.models import Message
from tests.factories import NOON, days, make_card, make_merchant, make_reward, make_store
from tests.loyalty.runs import expire
from tests.loyalty.test_commands import spoil

pytestmark = pytest.mark.django_db


@pytest.fixture
def card():
    return make_card(points=1200, email="ana@example.com")


def explain(card: Card, at=NOON, **options: Any) -> CardStory:
    return explaining.explain(merchant=card.program.merchant, card_id=card.pk, at=at, **options)


def test_a_story_tells_the_balance_until_when_it_keeps_and_why(card):
    story = explain(card)

    assert (story.card_id, story.card_number, story.points_balance, story.stamp_count) == (
        card.pk,
        card.card_number,
        1200,
        0,
    )
    assert story.keeps_until == date(2026, 8, 29)
    assert story.sentences == [
        "The card holds 1,200 points.",
        "The points can be used to the end of Aug. 29, 2026 (UTC time).",
        "The last activity was on March 2, 2026 and points expire after 180 days without one.",
    ]


def test_one_point_is_one_point():
    assert explain(make_card(points=1)).sentences[0] == "The card holds 1 point."


def test_days_are_those_of_the_merchant():
    card = make_card(make_merchant(timezone="Pacific/Kiritimati"), points=5)

    story = explain(card)

    assert story.keeps_until == date(2026, 8, 30)
    assert "Aug. 30, 2026 (Pacific/Kiritimati time)" in story.sentences[1]
    assert story.movements[0].happened_on == date(2026, 3, 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"status": "suspended"}, "suspended; nothing expires on it."),
        ({"status": "closed"}, "closed; nothing expires on it."),
        ({"expiration_exempt": True, "expiration_exempt_reason": "VIP"}, "It is exempt from expiry: VIP"),
    ],
)
def test_a_card_that_does_not_expire_says_why(card, change, sentence):
    Card.objects.update(**change)

    story = explain(card)

    assert story.keeps_until is None
    assert len(story.sentences) == 2
    assert sentence in story.sentences[1].replace("Suspended", "suspended").replace("Closed", "closed")


def test_a_program_whose_points_do_not_expire_says_so():
    assert explain(make_card(make_merchant(points_expiration_days=0), points=5)).sentences[1:] == [
        "Points of this program do not expire."
    ]


def test_an_empty_card_says_that_nothing_could_expire():
    story = explain(make_card())

    assert (story.keeps_until, story.sentences[1:]) == (None, ["There is nothing that could expire."])


def test_a_pause_is_told(card):
    Program.objects.update(expiration_paused_until=date(2026, 12, 24))

    assert explain(card).sentences[-1] == "Expiry is paused until Dec. 24, 2026."


def test_a_balance_that_is_not_what_the_ledger_says_is_told_at_once(card):
    spoil(card)

    assert explain(card).sentences[:2] == [
        "The card holds 1,201 points.",
        "Its ledger ends at 1,200 points and 0 stamps, in row 2, and its balance is another: the card cannot move, and "
        "nothing expires on it, before that is mended.",
    ]


def test_points_past_the_limit_that_nobody_was_warned_about_are_kept(card):
    story = explain(card, at=NOON + days(300))

    assert story.keeps_until == (NOON + days(314)).date()
    assert story.sentences[1].startswith("The points can be used at least to the end of Jan. 10, 2027")
    assert story.sentences[-1] == "They are kept until a warning has been sent and its time is up."
    assert "kept until a warning" not in " ".join(explain(card, at=NOON + days(166)).sentences)


# --- warnings and their mail


@pytest.mark.parametrize(
    ("mail", "sentence"),
    [
        ({"status": "due"}, "The mail is waiting to be sent."),
        ({"status": "sent", "sent_at": NOON + days(167)}, "The mail was handed over on Aug. 16, 2026."),
        ({"status": "cancelled", "cancelled_at": NOON}, "The mail was cancelled before it was sent."),
        ({"status": "dead", "last_error": "550 no"}, "The mail could not be delivered: 550 no"),
        ({"status": "undeliverable", "recipient": ""}, "No mail could be sent: the customer has no address."),
    ],
    ids=lambda value: value["status"] if isinstance(value, dict) else "",
)
def test_a_warning_tells_whether_its_mail_arrived(card, mail, sentence):
    expire(NOON + days(166))
    Message.objects.filter(kind="loyalty_points_expiring").update(**mail)

    assert explain(card, at=NOON + days(167)).sentences[-2:] == ["The customer was warned on Aug. 15, 2026.", sentence]


def test_a_warning_whose_mail_is_gone_is_told_too(card):
    expire(NOON + days(166))
    Message.objects.all().delete()

    assert explain(card).sentences[-1] == "No mail about it is kept any more."


def test_a_promise_that_is_later_than_the_rule_is_explained(card):
    expire(NOON + days(200))

    story = explain(card, at=NOON + days(201))

    assert story.keeps_until == (NOON + days(214)).date()
    assert "That is later than the rule says, because this day was promised in a warning." in story.sentences


# --- movements


def told(card: Card) -> str:
    """The latest movement in words."""
    return explain(card, at=NOON + days(400)).movements[0].sentence


def test_movements_come_newest_first_with_their_points(card):
    first = Transaction.objects.get(card=card, seq=1)

    movements = explain(card).movements

    assert [(m.points_delta, m.points_balance_after) for m in movements] == [(1200, 1200), (0, 0)]
    assert movements[1].transaction_id == first.pk
    assert [m.sentence for m in movements] == ["Balance imported.", "Card created."]


def test_only_so_many_movements_are_told_as_asked_for(card):
    assert len(explain(card, movements=1).movements) == 1


def test_a_purchase_is_told_with_amount_and_store(card):
    store = make_store(card.program.merchant)
    earning.earn(store=store, card_id=card.pk, amount_minor=1_234_56, at=NOON)

    assert told(card) == "A purchase of €1,234.56 at Main Street earned 1,234 points."


def test_a_redemption_is_told_with_its_reward(card):
    store = make_store(card.program.merchant)
    reward = make_reward(card.program.merchant, points_cost=1000)
    redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=NOON)
    assert told(card) == "1,000 points were exchanged for Coffee."

    redeeming.redeem_points(store=store, card_id=card.pk, points=200, at=NOON)
    assert told(card) == "200 points were used as a discount."


def test_an_adjustment_is_told_with_who_and_why(card):
    merchant = card.program.merchant
    adjustments.adjust(merchant=merchant, card_id=card.pk, points=-1100, reason="Wrong card", actor="kim", at=NOON)

    assert told(card) == "kim adjusted the balance by -1,100 points: Wrong card"


def test_a_restore_is_told_as_one(card):
    restoring.restore_points(
        merchant=card.program.merchant, card_id=card.pk, points=5, reason="Was ill", actor="kim", at=NOON
    )

    assert told(card) == "kim restored the balance by +5 points: Was ill"


def test_an_expiry_is_told_with_the_last_day_and_the_warning(card):
    expire(NOON + days(166))
    expire(NOON + days(181))

    assert told(card) == (
        "1,200 points expired. They could be used until Aug. 29, 2026; the customer was warned on Aug. 15, 2026."
    )


def test_an_expiry_after_a_longer_promise_names_the_promised_day(card):
    expire(NOON + days(200))
    expire(NOON + days(215))

    assert "could be used until Oct. 2, 2026" in told(card)


def test_an_expiry_after_a_promise_that_the_rule_outlived_names_the_day_of_the_rule():
    card = make_card(make_merchant(require_expiration_notice=False), points=5)
    CardBalance.objects.filter(card=card).update(expiration_warned_for=date(2026, 8, 1))
    expire(NOON + days(181))

    assert told(card) == "5 points expired. They could be used until Aug. 29, 2026; no warning was required."


def test_erased_movements_can_still_be_told(card):
    expire(NOON + days(166))
    expire(NOON + days(181))
    restoring.restore_points(
        merchant=card.program.merchant, card_id=card.pk, points=5, reason="Was ill", actor="kim", at=NOON + days(182)
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE loyalty_transaction SET reason = 'erased', details = '\"erased\"'")

    sentences = [movement.sentence for movement in explain(card, at=NOON + days(183)).movements]

    assert sentences[:2] == ["kim adjusted the balance by +5 points: erased", "Points expired. erased"]


def test_a_card_of_another_merchant_is_unknown(card):
    with pytest.raises(CardNotFound):
        explaining.explain(merchant=make_merchant(), card_id=card.pk, at=NOON)
