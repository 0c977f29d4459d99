"""`manage.py send_messages` as a real process, killed with SIGKILL."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings as project
from django.db import connection
from django.utils import timezone

from notifications import services
from notifications.models import Message
from tests.fakes.smtp import HANG, FakeSmtp
from tests.notifications.messages import addresses, queued_many

pytestmark = pytest.mark.django_db(transaction=True)


def sender(server: FakeSmtp, *arguments: str) -> "subprocess.Popen[str]":
    database = connection.settings_dict
    account = quote(str(database["USER"])) + (f":{quote(str(database['PASSWORD']))}" if database["PASSWORD"] else "")
    return subprocess.Popen(
        [sys.executable, "manage.py", "send_messages", *arguments],
        cwd=Path(project.BASE_DIR),
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "loyalty_site.settings",
            "DATABASE_URL": f"postgresql://{account}@{database['HOST']}:{database['PORT']}/{database['NAME']}",
            "EMAIL_URL": f"smtp://{server.host}:{server.port}",
            "EMAIL_TIMEOUT": "30",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def kill_when(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, "the sender ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def finish() -> None:
    """What the next sender does once the lease of the dead one has run out."""
    later = timezone.now() + timedelta(minutes=10)
    assert services.send_messages(at=later).sent > 0
    assert set(Message.objects.values_list("status", flat=True)) == {"sent"}


def test_the_command_sends_what_is_due_and_says_so(smtp_server: FakeSmtp):
    queued_many(3)
    process = sender(smtp_server, "--json")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(output) == {"sent": 3, "retried": 0, "dead": 0, "deferred": 0, "cancelled": 0}
    assert smtp_server.recipients == addresses(3)


def test_a_sender_killed_between_the_servers_yes_and_its_note_doubles_that_one(mail_to_smtp_server: FakeSmtp):
    queued_many(8)
    mail_to_smtp_server.when("body", HANG, to="c5@example.com", times=1)
    kill_when(sender(mail_to_smtp_server), lambda: "c5@example.com" in mail_to_smtp_server.recipients)

    finish()

    assert sorted(mail_to_smtp_server.recipients) == sorted([*addresses(8), "c5@example.com"])
    twice = [received for received in mail_to_smtp_server.received if received.recipient == "c5@example.com"]
    assert twice[0].mail["Message-ID"] == twice[1].mail["Message-ID"]


def test_a_sender_killed_at_any_moment_loses_nothing_and_doubles_at_most_one(mail_to_smtp_server: FakeSmtp):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moment = random.Random(seed)
    queued_many(40)
    mail_to_smtp_server.reply_delay = 0.005
    arrived, delay = moment.randint(0, 35), moment.random() * 0.05

    process = sender(mail_to_smtp_server)
    kill_when(process, lambda: mail_to_smtp_server.connections > 0 and len(mail_to_smtp_server.received) >= arrived)
    time.sleep(delay)
    mail_to_smtp_server.reply_delay = 0
    finish()

    times = Counter(mail_to_smtp_server.recipients)
    assert set(times) == set(addresses(40))
    assert sum(times.values()) <= 41
