"""Several senders, a slow server, and what happens to a message while it is in a sender's hands."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from notifications import services
from notifications.models import Message
from notifications.services import SendReport
from tests.fakes.smtp import HANG, FakeSmtp
from tests.notifications.messages import AT, addresses, new_message, queued_many

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = ["loyalty_points_expiring"]


def send(**words: Any) -> SendReport:
    try:
        return services.send_messages(at=AT, **words)
    finally:
        connection.close()


@contextmanager
def senders(count: int = 1, **words: Any) -> Iterator[list["Future[SendReport]"]]:
    with ThreadPoolExecutor(count) as pool:
        yield [pool.submit(send, **words) for _ in range(count)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "this should have happened long ago"
        time.sleep(0.005)


def test_senders_at_the_same_time_send_each_message_once(mail_to_smtp_server: FakeSmtp):
    queued_many(60)
    mail_to_smtp_server.reply_delay = 0.002
    with senders(4, batch_size=7) as running:
        reports = [future.result() for future in running]
    assert sum(report.sent for report in reports) == 60
    assert sorted(mail_to_smtp_server.recipients) == sorted(addresses(60))
    assert mail_to_smtp_server.connections == sum(report.sent > 0 for report in reports) > 1


def test_a_hung_connection_holds_up_its_own_batch_only(mail_to_smtp_server: FakeSmtp):
    queued_many(20)
    mail_to_smtp_server.when("connect", HANG, times=1)
    with senders(1, batch_size=5) as (hung,):
        wait_until(lambda: mail_to_smtp_server.connections == 1)
        started = time.monotonic()
        assert send(batch_size=5) == SendReport(sent=15)
        assert time.monotonic() - started < 1
        assert not hung.done()
    assert hung.result() == SendReport(deferred=5)
    assert services.send_messages(at=AT + timedelta(minutes=2)) == SendReport(sent=5)


def test_a_message_that_somebody_has_locked_holds_up_no_other(mail_to_smtp_server: FakeSmtp):
    queued_many(3)
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        services.cancel(reference="1", kinds=KINDS, at=AT, reason="restored")
        assert pool.submit(send).result(timeout=5) == SendReport(sent=2)
    assert mail_to_smtp_server.recipients == addresses(3)[1:]


def test_no_transaction_is_open_while_a_server_hangs(mail_to_smtp_server: FakeSmtp):
    queued_many(2)
    mail_to_smtp_server.when("body", HANG, times=1)
    with senders(1) as (hung,):
        wait_until(lambda: len(mail_to_smtp_server.received) == 1)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' AND xact_start IS NOT NULL"
            )
            assert cursor.fetchone() == (0,)
            # What a till or the expiry does to the same rows is not held up either.
            cursor.execute("SET lock_timeout = '100ms'")
            assert services.cancel(reference="2", kinds=KINDS, at=AT, reason="restored") == 1
            cursor.execute("RESET lock_timeout")
        assert not hung.done()


def test_a_message_that_is_cancelled_while_it_waits_in_a_batch_is_not_sent(mail_to_smtp_server: FakeSmtp):
    queued_many(3)
    mail_to_smtp_server.reply_delay = 0.1
    with senders(1) as (sending,):
        wait_until(lambda: mail_to_smtp_server.recipients == addresses(1))
        assert Message.objects.get(reference="3").status == "leased"
        assert services.cancel(reference="3", kinds=KINDS, at=AT, reason="restored") == 1
    assert sending.result() == SendReport(sent=2, cancelled=1)
    assert mail_to_smtp_server.recipients == addresses(2)
    cancelled = Message.objects.get(reference="3")
    assert (cancelled.status, cancelled.last_error) == ("cancelled", "restored")


def test_a_message_that_is_erased_while_it_waits_in_a_batch_is_not_sent(mail_to_smtp_server: FakeSmtp):
    queued_many(2)
    mail_to_smtp_server.reply_delay = 0.1
    with senders(1) as (sending,):
        wait_until(lambda: mail_to_smtp_server.recipients == addresses(1))
        services.scrub(reference="2", at=AT)
    assert sending.result() == SendReport(sent=1, cancelled=1)
    assert Message.objects.get(reference="2").recipient == "erased"


def test_a_message_that_is_cancelled_on_the_wire_ends_as_sent(mail_to_smtp_server: FakeSmtp):
    queued_many(1)
    mail_to_smtp_server.reply_delay = 0.1
    with senders(1) as (sending,):
        wait_until(lambda: mail_to_smtp_server.recipients == addresses(1))
        assert services.cancel(reference="1", kinds=KINDS, at=AT, reason="restored") == 1
    assert sending.result() == SendReport(sent=1)
    message = Message.objects.get()
    assert (message.status, message.cancelled_at, message.last_error) == ("sent", None, "")


@pytest.mark.parametrize("reply", ["451 4.3.0 <c1@example.com> later", "550 5.1.1 <c1@example.com> unknown"])
def test_a_message_that_is_erased_while_it_is_refused_stays_erased(mail_to_smtp_server: FakeSmtp, reply):
    queued_many(1)
    mail_to_smtp_server.reply_delay = 0.1
    mail_to_smtp_server.when("rcpt", reply)
    with senders(1) as (sending,):
        wait_until(lambda: mail_to_smtp_server.connections == 1)
        services.scrub(reference="1", at=AT)
    assert sending.result() == SendReport(cancelled=1)
    message = Message.objects.get()
    assert (message.status, message.recipient, message.last_error) == ("cancelled", "erased", "")


def test_a_lease_that_ran_out_makes_a_message_due_again(mail_to_smtp_server: FakeSmtp):
    queued_many(2)
    Message.objects.update(status="leased", lease_until=AT + timedelta(minutes=3))
    assert services.send_messages(at=AT + timedelta(minutes=2)) == SendReport()
    assert services.send_messages(at=AT + timedelta(minutes=3)) == SendReport(sent=2)


def test_a_sender_that_slept_past_its_lease_leaves_the_batch_to_its_successor(mail_to_smtp_server: FakeSmtp):
    queued_many(2)
    mail_to_smtp_server.reply_delay = 0.1
    with senders(1) as (slow,):
        wait_until(lambda: mail_to_smtp_server.recipients == addresses(1))
        Message.objects.filter(reference="2").update(lease_until=AT + timedelta(days=1))
    assert slow.result() == SendReport(sent=1, cancelled=1)
    assert mail_to_smtp_server.recipients == addresses(1)
    assert Message.objects.get(reference="2").status == "leased"


def test_queueing_goes_on_while_senders_work(mail_to_smtp_server: FakeSmtp):
    stop = threading.Event()

    def keep_sending() -> int:
        sent = 0
        while not stop.is_set():
            sent += send().sent
        return sent + send().sent

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_sending) for _ in range(2)]
        for number in range(1, 41):
            services.queue(new_message(number), at=AT)
        stop.set()
        assert sum(future.result() for future in running) == 40
    assert sorted(mail_to_smtp_server.recipients) == sorted(addresses(40))
