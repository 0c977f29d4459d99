"""cancel, scrub and send_again."""

from datetime import timedelta
from typing import Any

import pytest

from notifications import services
from notifications.errors import (
    MessageAlreadyWaiting,
    MessageErased,
    MessageError,
    MessageHasNoAddress,
    MessageNotFound,
)
from notifications.models import Message
from tests.notifications.messages import AT, queued

pytestmark = pytest.mark.django_db
LATER = AT + timedelta(hours=3)


def cancel(**words):
    values = {"reference": "1", "kinds": ["loyalty_points_expiring"], "at": LATER, "reason": "restored", **words}
    return services.cancel(**values)


def test_a_waiting_message_is_cancelled_with_the_reason():
    message = queued()
    assert cancel() == 1
    message.refresh_from_db()
    assert (message.status, message.cancelled_at, message.last_error) == ("cancelled", LATER, "restored")


def test_a_message_in_a_senders_hands_is_cancelled():
    message = queued()
    Message.objects.update(status="leased", lease_until=LATER)
    assert cancel() == 1
    message.refresh_from_db()
    assert (message.status, message.lease_until) == ("cancelled", None)


def test_a_sent_message_stays_sent():
    message = queued()
    Message.objects.update(status="sent", sent_at=AT)
    assert cancel() == 0
    message.refresh_from_db()
    assert message.status == "sent"


@pytest.mark.parametrize("other", [{"reference": "2"}, {"kinds": ["loyalty_enrollment"]}, {"kinds": []}])
def test_only_the_named_kinds_about_the_named_thing_are_cancelled(other):
    queued()
    assert cancel(**other) == 0
    assert Message.objects.waiting().count() == 1


def test_cancelling_takes_one_statement(django_assert_num_queries):
    queued()
    with django_assert_num_queries(1):
        cancel()


def test_scrubbing_erases_personal_data_in_every_state_and_sends_nothing_more(django_assert_num_queries):
    states: list[dict[str, Any]] = [
        {"status": "due"},
        {"status": "leased", "lease_until": LATER},
        {"status": "sent", "sent_at": AT},
        {"status": "dead", "last_error": "550 <anna@example.com> unknown"},
        {"status": "cancelled", "cancelled_at": AT},
    ]
    for number, state in enumerate(states):
        message = queued(number, reference="anna", recipient="anna@example.com", dedupe_key=str(number))
        Message.objects.filter(id=message.id).update(**state)
    queued(9, reference="anna", recipient="")
    queued(10, reference="ben")

    with django_assert_num_queries(1):
        assert services.scrub(reference="anna", at=LATER) == 6

    rows = Message.objects.about("anna").order_by("id")
    assert [row.status for row in rows] == ["cancelled", "cancelled", "sent", "dead", "cancelled", "undeliverable"]
    assert [row.cancelled_at for row in rows] == [LATER, LATER, None, None, AT, None]
    assert [row.recipient for row in rows] == ["erased"] * 5 + [""]
    assert [(row.context, row.locale) for row in rows] == [({}, "")] * 6
    assert [row.last_error for row in rows] == ["", "", "", "erased", "", ""]
    assert Message.objects.about("ben").get().recipient == "c10@example.com"


@pytest.mark.parametrize(
    "state",
    [
        {"status": "dead", "attempts": 7, "last_error": "550 no"},
        {"status": "sent", "sent_at": AT, "attempts": 1},
        {"status": "cancelled", "cancelled_at": AT},
    ],
)
def test_a_settled_message_can_be_sent_again(state):
    message = queued()
    Message.objects.update(**state)

    services.send_again(message_id=message.id, at=LATER)

    message.refresh_from_db()
    assert (message.status, message.attempts, message.resends) == ("due", 0, 1)
    assert (message.next_attempt_at, message.last_error) == (LATER, "")
    assert (message.sent_at, message.cancelled_at) == (None, None)


def refusal_of(message_id: int) -> MessageError:
    with pytest.raises(MessageError) as caught:
        services.send_again(message_id=message_id, at=LATER)
    assert str(caught.value).endswith(".")
    return caught.value


@pytest.mark.parametrize("state", [{"status": "due"}, {"status": "leased", "lease_until": LATER}])
def test_a_waiting_message_is_not_sent_again(state):
    message = queued()
    Message.objects.update(**state)
    assert isinstance(refusal_of(message.id), MessageAlreadyWaiting)


def test_a_message_without_address_is_not_sent_again():
    assert isinstance(refusal_of(queued(recipient="").id), MessageHasNoAddress)


def test_an_erased_message_is_not_sent_again():
    message = queued()
    services.scrub(reference="1", at=AT)
    refusal = refusal_of(message.id)
    assert isinstance(refusal, MessageErased)
    assert refusal.code == "message_erased"


def test_an_unknown_message_is_not_sent_again():
    assert isinstance(refusal_of(404), MessageNotFound)
