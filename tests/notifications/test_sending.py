from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications import services
from notifications.models import Message
from notifications.services import SendReport
from notifications.services.sending import RETRY_AFTER
from tests.fakes.smtp import FakeSmtp
from tests.notifications.messages import AT, addresses, queued, queued_many

pytestmark = pytest.mark.django_db
MOMENT = timedelta(seconds=10)  # a run's own duration


def events(caplog) -> list[dict[str, object]]:
    return [record.msg for record in caplog.records if isinstance(record.msg, dict)]


def test_what_is_due_is_sent_once_in_order_over_one_connection(mail_to_smtp_server: FakeSmtp):
    queued_many(7)

    assert services.send_messages(at=AT, batch_size=3) == SendReport(sent=7)

    assert mail_to_smtp_server.recipients == addresses(7)
    assert mail_to_smtp_server.connections == 1
    for message in Message.objects.all():
        assert (message.status, message.attempts, message.lease_until) == ("sent", 1, None)
        assert message.sent_at is not None
        assert AT <= message.sent_at < AT + MOMENT


def test_the_mail_arrives_as_it_was_composed(mail_to_smtp_server: FakeSmtp):
    message = queued(locale="de", context={"first_name": "Zoë", "merchant_name": "Bäckerei 🥐"})
    services.send_messages(at=AT)
    (received,) = mail_to_smtp_server.received
    assert received.sender == "loyalty@localhost"
    assert "Bäckerei 🥐" in str(received.mail["Subject"])
    assert str(received.mail["Message-ID"]).startswith(f"<message-{message.id}-")
    text = received.mail.get_body(("plain",))
    assert text is not None
    assert "Zoë" in text.get_content()
    assert "12.500 points" in text.get_content()


def test_a_second_run_finds_nothing_and_does_not_even_connect(mail_to_smtp_server: FakeSmtp):
    queued()
    services.send_messages(at=AT)
    assert services.send_messages(at=AT + timedelta(days=1)) == SendReport()
    assert mail_to_smtp_server.connections == 1


def test_a_message_of_the_future_waits(mail_to_smtp_server: FakeSmtp):
    queued(at=AT + timedelta(hours=1))
    assert services.send_messages(at=AT) == SendReport()
    assert services.send_messages(at=AT + timedelta(hours=1)) == SendReport(sent=1)


def test_undeliverable_and_cancelled_messages_are_not_sent(mail_to_smtp_server: FakeSmtp):
    queued(1, recipient="")
    queued(2)
    services.cancel(reference="2", kinds=["loyalty_points_expiring"], at=AT, reason="restored")
    assert services.send_messages(at=AT) == SendReport()
    assert mail_to_smtp_server.received == []


def test_a_message_sent_again_arrives_under_a_new_message_id(mail_to_smtp_server: FakeSmtp):
    message = queued()
    services.send_messages(at=AT)
    services.send_again(message_id=message.id, at=AT + MOMENT)
    assert services.send_messages(at=AT + MOMENT).sent == 1
    first, second = (received.mail["Message-ID"] for received in mail_to_smtp_server.received)
    assert first != second


@pytest.mark.parametrize("failures", range(7))
def test_a_message_that_is_refused_for_now_is_tried_again_later_each_time(mail_to_smtp_server: FakeSmtp, failures):
    message = queued()
    Message.objects.update(attempts=failures)
    mail_to_smtp_server.when("rcpt", "451 4.3.0 Try again later")

    report = services.send_messages(at=AT)

    message.refresh_from_db()
    assert message.attempts == failures + 1
    assert message.last_error == "451 4.3.0 Try again later"
    if failures == 6:
        assert (message.status, report) == ("dead", SendReport(dead=1))
    else:
        assert (message.status, report) == ("due", SendReport(retried=1))
        wait = [1, 5, 15, 60, 240, 720][failures]
        assert timedelta() <= message.next_attempt_at - AT - timedelta(minutes=wait) < MOMENT


def test_a_greylisted_message_arrives_at_the_next_attempt(mail_to_smtp_server: FakeSmtp):
    queued_many(3)
    mail_to_smtp_server.when("rcpt", "451 4.7.1 Greylisted", to="c2@example.com", times=1)
    assert services.send_messages(at=AT) == SendReport(sent=2, retried=1)
    assert services.send_messages(at=AT + timedelta(seconds=30)) == SendReport()
    assert services.send_messages(at=AT + timedelta(minutes=2)) == SendReport(sent=1)
    assert sorted(mail_to_smtp_server.recipients) == addresses(3)


def test_the_schedule_of_attempts_spans_most_of_a_day():
    assert timedelta(hours=17) < sum(RETRY_AFTER, timedelta()) < timedelta(hours=18)


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("rcpt", "550 5.1.1 No such user"),
        ("rcpt", "553 5.1.3 Bad address"),
        ("body", "554 5.7.1 Looks like spam"),
        ("mail", "552 5.3.4 Message too large"),
    ],
)
def test_a_message_that_is_refused_for_good_is_dead_at_once(mail_to_smtp_server: FakeSmtp, stage, reply):
    queued_many(3)
    mail_to_smtp_server.when(stage, reply, times=1)

    assert services.send_messages(at=AT) == SendReport(sent=2, dead=1)

    dead = Message.objects.undelivered().get()
    assert (dead.status, dead.attempts, dead.last_error) == ("dead", 1, reply)
    assert mail_to_smtp_server.recipients == addresses(3)[1:]


def test_the_connection_outlives_a_refused_recipient(mail_to_smtp_server: FakeSmtp):
    queued_many(5)
    mail_to_smtp_server.when("rcpt", "550 5.1.1 No such user", to="c2@example.com")
    mail_to_smtp_server.when("rcpt", "451 4.3.0 Later", to="c4@example.com")
    services.send_messages(at=AT)
    assert mail_to_smtp_server.connections == 1


@pytest.mark.parametrize(
    "recipient", ["anna@@example.com", "a@example.com, b@example.com", "a@example.com\r\nRCPT TO:<b@c.de>"]
)
def test_an_address_that_is_none_is_dead_and_the_others_go_on(mail_to_smtp_server: FakeSmtp, recipient):
    queued(1, recipient=recipient)
    queued(2)
    assert services.send_messages(at=AT) == SendReport(sent=1, dead=1)
    assert mail_to_smtp_server.recipients == ["c2@example.com"]
    assert Message.objects.get(status="dead").last_error.startswith("ValueError: Invalid address")


def test_a_message_that_cannot_be_written_is_dead_and_the_others_go_on(mail_to_smtp_server: FakeSmtp):
    queued(1, context={"expires_on": "soon"})
    queued(2, kind="loyalty_never_heard_of")
    queued(3)
    assert services.send_messages(at=AT) == SendReport(sent=1, dead=2)
    reasons = Message.objects.filter(status="dead").order_by("id").values_list("last_error", flat=True)
    assert "Invalid isoformat string" in reasons[0]
    assert "TemplateDoesNotExist" in reasons[1]


def test_the_run_stops_at_its_budget_and_gives_the_rest_back_at_once(mail_to_smtp_server: FakeSmtp):
    queued_many(20)
    mail_to_smtp_server.reply_delay = 0.02

    report = services.send_messages(at=AT, budget_seconds=0.4)

    assert report.out_of_time
    assert 0 < report.sent < 20
    assert Message.objects.due(AT).filter(status="due", lease_until=None).count() == 20 - report.sent
    mail_to_smtp_server.reply_delay = 0
    assert services.send_messages(at=AT) == SendReport(sent=20 - report.sent)
    assert mail_to_smtp_server.recipients == addresses(20)


@pytest.mark.parametrize("backend", ["TakesNothing", "ProviderSaysNo"])
def test_another_backend_that_fails_is_tried_again(settings, backend):
    settings.EMAIL_BACKEND = f"tests.notifications.backends.{backend}"
    queued_many(2)
    assert services.send_messages(at=AT) == SendReport(retried=2)


def test_any_backend_of_django_will_do():
    queued_many(2)
    assert services.send_messages(at=AT) == SendReport(sent=2)
    assert [message.to for message in mail.outbox] == [["c1@example.com"], ["c2@example.com"]]


def test_a_lease_outlasts_everything_one_message_can_take(settings, mail_to_smtp_server: FakeSmtp):
    settings.EMAIL_TIMEOUT = 10
    queued()
    with CaptureQueriesContext(connection) as queries:
        services.send_messages(at=AT, budget_seconds=50)
    (claim,) = [query["sql"] for query in queries if '"status" = \'leased\', "lease_until" = ' in query["sql"]]
    assert str(AT + timedelta(seconds=50 + 12 * 10))[:19] in claim


def test_the_log_tells_what_was_sent_and_what_failed_without_naming_a_person(mail_to_smtp_server: FakeSmtp, caplog):
    sent, refused, dead = (queued(number) for number in (1, 2, 3))
    mail_to_smtp_server.when("rcpt", "451 4.3.0 <c2@example.com> later", to="c2@example.com")
    mail_to_smtp_server.when("rcpt", "550 5.1.1 <c3@example.com> unknown", to="c3@example.com")

    with caplog.at_level("INFO"):
        services.send_messages(at=AT)

    ours = [event for event in events(caplog) if str(event["event"]).startswith("notifications.")]
    told = [(event["event"], event["message_id"], event.get("result"), event.get("reason")) for event in ours]
    assert told == [
        ("notifications.message_sent", sent.id, None, None),
        ("notifications.message_failed", refused.id, "retried", "smtp_451"),
        ("notifications.message_failed", dead.id, "dead", "smtp_550"),
    ]
    assert "example.com" not in str(ours)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, 30])
def test_a_batch_costs_two_statements_and_each_message_two(count):
    queued_many(count)
    with CaptureQueriesContext(connection) as queries:
        services.send_messages(at=AT)
    statements = [query["sql"] for query in queries if query["sql"].startswith(("SELECT", "UPDATE", "INSERT"))]
    looked_for_more = 1
    assert len(statements) == 2 + 2 * count + looked_for_more
