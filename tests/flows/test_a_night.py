"""A whole night with real parts: the task from the broker, a real worker, a real mail server."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from loyalty.models import ExpirationRun, Transaction
from loyalty.tasks import expire_points
from loyalty_site.models import JobRun
from notifications.models import Message
from tests.factories import balance_of, make_card
from tests.fakes.celery_process import wait_until, worker
from tests.fakes.smtp import HANG, FakeSmtp
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def mail_server(monkeypatch):
    """A mail server of which the worker's environment tells."""
    with FakeSmtp() as server:
        monkeypatch.setenv("EMAIL_URL", f"smtp://127.0.0.1:{server.port}")
        monkeypatch.setenv("EMAIL_TIMEOUT", "2")
        yield server


@pytest.fixture
def due_card():
    """A card whose promised day was yesterday."""
    last_active = timezone.now() - timedelta(days=181)
    card = make_card(points=300, at=last_active, email="ana@example.com")
    expire(last_active + timedelta(days=166))
    return card


def test_the_task_expires_what_is_due_and_the_mails_leave_by_themselves(tmp_path, mail_server, due_card):
    with worker(tmp_path):
        expire_points.delay()
        wait_until(lambda: len(mail_server.received) == 3, seconds=20)
        wait_until(lambda: JobRun.objects.filter(task="loyalty.expire_points", status="succeeded").exists())

    run = ExpirationRun.objects.counting().get()
    assert (run.trigger, run.cards_expired, run.points_expired) == ("schedule", 1, 300)
    assert balance_of(due_card).points_balance == 0
    row = Transaction.objects.get(type="POINTS_EXPIRED")
    assert (row.points_delta, row.expiration_run_id) == (-300, run.pk)
    assert JobRun.objects.filter(task="loyalty.expire_points", result__cards_expired=1).count() == 1
    assert set(Message.objects.values_list("status", flat=True)) == {"sent"}


def test_the_same_task_delivered_twice_expires_once(tmp_path, mail_server, due_card):
    with worker(tmp_path, concurrency=2):
        expire_points.delay()
        expire_points.delay()
        wait_until(lambda: ExpirationRun.objects.counting().count() == 2, seconds=20)
        wait_until(lambda: not Message.objects.waiting().exists(), seconds=20)

    assert Transaction.objects.filter(type="POINTS_EXPIRED").count() == 1
    assert sum(ExpirationRun.objects.values_list("cards_expired", flat=True)) == 1
    assert len(mail_server.received) == 3


def test_a_mail_server_that_hangs_does_not_hold_up_expiry(tmp_path, mail_server, due_card):
    mail_server.when("connect", HANG)
    with worker(tmp_path, queues="notifications"), worker(tmp_path, queues="default"):
        began = time.monotonic()
        expire_points.delay()
        wait_until(lambda: ExpirationRun.objects.counting().exists(), seconds=20)

        assert time.monotonic() - began < 10
        assert balance_of(due_card).points_balance == 0
        assert Message.objects.waiting().count() == 3
