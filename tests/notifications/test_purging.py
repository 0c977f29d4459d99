"""purge_sent: what was sent long ago goes, in batches, but for what the caller needs."""

from datetime import timedelta

import pytest

from notifications import services
from notifications.models import Message
from notifications.services import purging
from tests.notifications.messages import AT, queued, queued_many

pytestmark = pytest.mark.django_db
LONG_AGO = AT - timedelta(days=10)


def purge(*, needed=lambda old: []) -> int:
    return services.purge_sent(before=AT, needed=needed)


def sent(number: int, *, at=LONG_AGO, **fields) -> Message:
    message = queued(number, at=at, **fields)
    Message.objects.filter(pk=message.pk).update(status="sent", sent_at=at)
    return message


def left() -> list[int]:
    return sorted(int(reference) for reference in Message.objects.values_list("reference", flat=True))


def test_what_was_sent_before_the_moment_goes_and_later_mail_stays():
    sent(1)
    sent(2, at=AT - timedelta(microseconds=1))
    sent(3, at=AT)

    assert purge() == 2
    assert left() == [3]


@pytest.mark.parametrize(
    "state",
    [
        {"status": "due"},
        {"status": "leased", "lease_until": AT},
        {"status": "dead", "last_error": "550 no"},
        {"status": "cancelled", "cancelled_at": LONG_AGO},
        {"status": "undeliverable", "recipient": ""},
    ],
    ids=lambda state: state["status"],
)
def test_what_reached_nobody_stays(state):
    Message.objects.filter(pk=queued(1, at=LONG_AGO).pk).update(**state)

    assert purge() == 0
    assert left() == [1]


def test_an_old_message_that_was_sent_lately_stays():
    message = sent(1)
    Message.objects.filter(pk=message.pk).update(sent_at=AT)

    assert purge() == 0


def test_what_the_caller_needs_stays():
    for number in range(1, 5):
        sent(number, kind="loyalty_points_expiring" if number > 2 else "loyalty_enrollment")

    def needed(old):
        return [message.pk for message in old if message.kind == "loyalty_points_expiring" and message.reference == "4"]

    assert purge(needed=needed) == 3
    assert left() == [4]


def test_the_caller_is_asked_only_about_what_would_go():
    sent(1)
    sent(2, at=AT)
    queued(3, at=LONG_AGO)
    asked = []

    def needed(old):
        asked.append([message.reference for message in old])
        return []

    purge(needed=needed)

    assert asked == [["1"]]


def test_batches_reach_all_that_is_old_and_no_further(monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(purging, "MESSAGES_PER_COMMIT", 2)
    for number in range(1, 6):
        sent(number)
    for number in range(6, 21):
        sent(number, at=AT)

    with django_assert_num_queries(4 + 3):  # three pages with old rows and one without; three with rows to delete
        assert purge(needed=lambda old: [message.pk for message in old if message.reference == "3"]) == 4

    assert left() == [3, *range(6, 21)]


def test_purging_again_deletes_nothing():
    queued_many(3, at=LONG_AGO)
    services.send_messages(at=LONG_AGO)

    assert (purge(), purge()) == (3, 0)


def test_a_message_that_is_being_sent_again_stays():
    message = sent(1)

    def send_again(old):
        services.send_again(message_id=message.pk, at=AT)
        return []

    assert purge(needed=send_again) == 0
    assert left() == [1]


def test_one_line_in_the_log_says_how_many(caplog):
    sent(1)
    purge()
    purge()

    events = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [event["count"] for event in events if event["event"] == "notifications.messages_purged"] == [1]
