"""The task and the command."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from loyalty_site.celery import app
from notifications import services
from notifications.models import Message
from notifications.tasks import send_messages
from tests.fakes.smtp import FakeSmtp
from tests.notifications.messages import queued, queued_many

pytestmark = pytest.mark.django_db


def run(capsys, *arguments: str) -> tuple[str, int]:
    try:
        call_command("send_messages", *arguments)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    return capsys.readouterr().out.strip(), code


def test_the_task_sends_what_is_due_and_returns_its_report():
    queued_many(2)
    assert send_messages() == {
        "sent": 2,
        "retried": 0,
        "dead": 0,
        "deferred": 0,
        "cancelled": 0,
        "out_of_time": False,
    }
    assert Message.objects.waiting().count() == 0


def test_the_task_has_the_name_and_the_queue_that_the_schedule_uses():
    assert send_messages.name == "notifications.send_messages"
    route = app.amqp.router.route({}, send_messages.name)
    assert route["queue"].name == "notifications"


def test_the_command_ends_with_one_line(capsys):
    queued_many(2)
    assert run(capsys) == ("Sent 2 messages, 0 to retry, 0 dead, 0 deferred", 0)
    assert run(capsys) == ("Sent 0 messages, 0 to retry, 0 dead, 0 deferred", 0)


def test_a_retry_is_not_a_failure_of_the_command(mail_to_smtp_server: FakeSmtp, capsys):
    queued_many(2)
    mail_to_smtp_server.when("rcpt", "451 4.3.0 Later", times=1)
    output, code = run(capsys)
    sent, waiting = output.splitlines()
    assert (sent, code) == ("Sent 1 messages, 1 to retry, 0 dead, 0 deferred", 0)
    next_attempt_at = Message.objects.waiting().get().next_attempt_at
    assert waiting == f"1 wait for later; the next is due at {next_attempt_at:%Y-%m-%d %H:%M:%S} UTC"
    assert run(capsys)[0].splitlines() == ["Sent 0 messages, 0 to retry, 0 dead, 0 deferred", waiting]


def test_a_dead_message_is_a_finding_of_the_command(mail_to_smtp_server: FakeSmtp, capsys):
    queued_many(2)
    mail_to_smtp_server.when("rcpt", "550 5.1.1 Unknown", times=1)
    assert run(capsys) == ("Sent 1 messages, 0 to retry, 1 dead, 0 deferred", 1)


def test_an_outage_is_a_finding_of_the_command(mail_to_smtp_server: FakeSmtp, capsys):
    queued_many(2)
    mail_to_smtp_server.close()
    output, code = run(capsys, "--json")
    assert json.loads(output) == {"sent": 0, "retried": 0, "dead": 0, "deferred": 2, "cancelled": 0}
    assert code == 1


def test_the_command_goes_on_until_nothing_is_due(mail_to_smtp_server: FakeSmtp, capsys, monkeypatch):
    queued_many(12)
    mail_to_smtp_server.reply_delay = 0.005
    real, runs = services.send_messages, []

    def short(**words: Any) -> services.SendReport:
        report = real(**words, budget_seconds=0.1)
        runs.append(report)
        return report

    monkeypatch.setattr(services, "send_messages", short)
    output, code = run(capsys)
    assert (output, code) == ("Sent 12 messages, 0 to retry, 0 dead, 0 deferred", 0)
    assert len(runs) > 1


def test_the_doors_read_the_clock(capsys):
    queued(at=timezone.now() + timedelta(minutes=5))
    assert send_messages()["sent"] == 0
    assert run(capsys)[0].startswith("Sent 0 messages")
