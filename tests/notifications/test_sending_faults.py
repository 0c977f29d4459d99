"""What a mail server can do wrong, and that nothing is lost by it."""

import time
from datetime import datetime, timedelta

import pytest

from notifications import services
from notifications.models import Message
from notifications.services import SendReport
from tests.fakes.smtp import CUT, HANG, FakeSmtp
from tests.notifications.messages import AT, addresses, queued_many

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def assert_untouched_for_a_minute(count: int, at: datetime = AT) -> None:
    """Given back without an attempt, for a minute."""
    messages = Message.objects.waiting()
    assert len(messages) == count
    for message in messages:
        assert (message.status, message.attempts, message.lease_until) == ("due", 0, None)
        assert timedelta() <= message.next_attempt_at - at - MINUTE < timedelta(seconds=10)
        assert message.last_error


def elapsed_seconds(started: float) -> float:
    return time.monotonic() - started


def test_a_server_that_refuses_connections_costs_no_attempt(mail_to_smtp_server: FakeSmtp):
    queued_many(3)
    mail_to_smtp_server.close()

    assert services.send_messages(at=AT) == SendReport(deferred=3)
    assert_untouched_for_a_minute(3)

    mail_to_smtp_server.open()
    assert services.send_messages(at=AT + 2 * MINUTE) == SendReport(sent=3)
    assert mail_to_smtp_server.recipients == addresses(3)


def test_an_outage_of_a_day_loses_nothing(mail_to_smtp_server: FakeSmtp):
    queued_many(5)
    mail_to_smtp_server.close()
    moment = AT
    while moment < AT + timedelta(days=1):
        assert services.send_messages(at=moment, batch_size=2).dead == 0
        moment += timedelta(minutes=20)
    mail_to_smtp_server.open()

    assert services.send_messages(at=moment) == SendReport(sent=5)
    assert sorted(mail_to_smtp_server.recipients) == addresses(5)
    assert set(Message.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        ("connect", "421 4.3.2 Shutting down"),
        ("connect", "554 5.3.2 Go away"),
        ("connect", CUT),
        ("ehlo", CUT),
        ("auth", "535 5.7.8 Bad credentials"),
        ("auth", "454 4.7.0 Temporary failure"),
    ],
)
def test_a_run_that_gets_no_connection_connects_once_and_defers_its_batch(
    mail_to_smtp_server: FakeSmtp, settings, stage, answer
):
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "loyalty", "secret"
    queued_many(6)
    mail_to_smtp_server.when(stage, answer)

    assert services.send_messages(at=AT, batch_size=4) == SendReport(deferred=4)

    assert mail_to_smtp_server.connections == 1
    assert Message.objects.due(AT).count() == 2
    mail_to_smtp_server.behave()
    assert services.send_messages(at=AT + 2 * MINUTE) == SendReport(sent=6)
    assert set(Message.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.parametrize("stage", ["connect", "ehlo"])
def test_a_server_that_hangs_before_the_first_mail_is_left_after_the_timeout(mail_to_smtp_server: FakeSmtp, stage):
    queued_many(3)
    mail_to_smtp_server.when(stage, HANG)

    started = time.monotonic()
    assert services.send_messages(at=AT) == SendReport(deferred=3)

    assert 1 <= elapsed_seconds(started) < 2.5
    assert_untouched_for_a_minute(3)


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("mail", "421 4.7.0 Too busy"),
        ("rcpt", "421 4.7.0 Too busy"),
        ("body", "421 4.7.0 Too busy"),
        ("mail", "530 5.7.0 Authentication required"),
        ("mail", "550 5.7.1 Sender not allowed"),
        ("mail", "451 4.3.0 Disk full"),
    ],
)
def test_a_server_that_serves_nobody_costs_no_attempt_and_few_connections(mail_to_smtp_server: FakeSmtp, stage, reply):
    queued_many(10)
    mail_to_smtp_server.when(stage, reply)

    assert services.send_messages(at=AT) == SendReport(deferred=10)

    assert mail_to_smtp_server.connections == 3
    assert_untouched_for_a_minute(10)
    mail_to_smtp_server.behave()
    assert services.send_messages(at=AT + 2 * MINUTE) == SendReport(sent=10)


def test_a_server_that_limits_mails_per_connection_gets_another_connection(mail_to_smtp_server: FakeSmtp):
    queued_many(6)
    mail_to_smtp_server.when("rcpt", "421 4.7.0 Enough for one connection", to="c3@example.com", times=1)
    mail_to_smtp_server.when("rcpt", "421 4.7.0 Enough for one connection", to="c5@example.com", times=1)

    assert services.send_messages(at=AT) == SendReport(sent=6)

    assert mail_to_smtp_server.recipients == addresses(6)
    assert mail_to_smtp_server.connections == 3
    assert set(Message.objects.values_list("attempts", flat=True)) == {1}


def test_one_recipient_that_is_always_turned_away_holds_nobody_up(mail_to_smtp_server: FakeSmtp):
    queued_many(4)
    mail_to_smtp_server.when("rcpt", "421 4.7.0 Not this one", to="c1@example.com")
    assert services.send_messages(at=AT) == SendReport(sent=3, deferred=1)
    assert mail_to_smtp_server.recipients == addresses(4)[1:]


def test_a_server_that_cuts_after_the_last_dot_gets_that_message_once_more(mail_to_smtp_server: FakeSmtp):
    queued_many(4)
    mail_to_smtp_server.when("body", CUT, to="c2@example.com", times=1)

    assert services.send_messages(at=AT) == SendReport(sent=3, retried=1)
    assert mail_to_smtp_server.connections == 2
    cut = Message.objects.waiting().get()
    assert (cut.recipient, cut.attempts) == ("c2@example.com", 1)
    assert "closed" in cut.last_error

    assert services.send_messages(at=AT + 2 * MINUTE) == SendReport(sent=1)
    # One cut, so one message may be double, and its receiver can tell by the Message-ID.
    assert sorted(mail_to_smtp_server.recipients) == sorted([*addresses(4), "c2@example.com"])
    twice = [received for received in mail_to_smtp_server.received if received.recipient == "c2@example.com"]
    assert twice[0].mail["Message-ID"] == twice[1].mail["Message-ID"]


def test_a_server_that_cuts_after_refusing_a_recipient_costs_the_next_message_nothing(mail_to_smtp_server: FakeSmtp):
    queued_many(3)
    mail_to_smtp_server.when("rcpt", "550 5.1.1 No such user", to="c1@example.com")
    mail_to_smtp_server.when("rset", CUT)
    assert services.send_messages(at=AT) == SendReport(sent=2, dead=1)
    assert mail_to_smtp_server.connections == 2


@pytest.mark.parametrize("stage", ["mail", "rcpt"])
def test_a_cut_before_the_data_loses_and_doubles_nothing(mail_to_smtp_server: FakeSmtp, stage):
    queued_many(4)
    mail_to_smtp_server.when(stage, CUT, times=1)
    assert services.send_messages(at=AT) == SendReport(sent=3, retried=1)
    assert services.send_messages(at=AT + 2 * MINUTE) == SendReport(sent=1)
    assert sorted(mail_to_smtp_server.recipients) == addresses(4)


def test_three_cuts_in_a_row_end_the_run(mail_to_smtp_server: FakeSmtp):
    queued_many(8)
    mail_to_smtp_server.when("rcpt", CUT)

    assert services.send_messages(at=AT) == SendReport(retried=3, deferred=5)

    assert mail_to_smtp_server.connections == 3
    assert sorted(Message.objects.values_list("attempts", flat=True)) == [0] * 5 + [1] * 3
    mail_to_smtp_server.behave()
    assert services.send_messages(at=AT + 2 * MINUTE) == SendReport(sent=8)


def test_nothing_is_said_to_be_deferred_when_nothing_is_left(mail_to_smtp_server: FakeSmtp, caplog):
    queued_many(3)
    mail_to_smtp_server.when("rcpt", CUT)
    assert services.send_messages(at=AT) == SendReport(retried=3)
    assert "notifications.messages_deferred" not in caplog.text


def test_cuts_that_are_not_in_a_row_do_not_end_the_run(mail_to_smtp_server: FakeSmtp):
    queued_many(8)
    for number in (1, 2, 4, 5, 7, 8):
        mail_to_smtp_server.when("rcpt", CUT, to=f"c{number}@example.com", times=1)
    assert services.send_messages(at=AT) == SendReport(sent=2, retried=6)


def test_a_message_that_is_cut_again_and_again_is_given_up(mail_to_smtp_server: FakeSmtp):
    queued_many(1)
    Message.objects.update(attempts=6)
    mail_to_smtp_server.when("body", CUT)
    assert services.send_messages(at=AT) == SendReport(dead=1)


def test_a_server_that_hangs_after_the_last_dot_costs_one_timeout(mail_to_smtp_server: FakeSmtp):
    queued_many(3)
    mail_to_smtp_server.when("body", HANG, to="c1@example.com", times=1)

    started = time.monotonic()
    assert services.send_messages(at=AT) == SendReport(sent=2, retried=1)

    assert 1 <= elapsed_seconds(started) < 2.5
    assert mail_to_smtp_server.recipients == addresses(3)


def test_a_server_that_goes_away_in_the_middle_of_a_batch_leaves_the_rest_for_later(mail_to_smtp_server: FakeSmtp):
    queued_many(5)
    mail_to_smtp_server.when("rcpt", "421 4.3.2 Shutting down", to="c3@example.com", times=1)
    mail_to_smtp_server.when("connect", "421 4.3.2 Shutting down", after=1)

    assert services.send_messages(at=AT) == SendReport(sent=2, deferred=3)
    assert mail_to_smtp_server.connections == 2
    mail_to_smtp_server.behave()
    assert services.send_messages(at=AT + 2 * MINUTE) == SendReport(sent=3)
    assert mail_to_smtp_server.recipients == addresses(5)
