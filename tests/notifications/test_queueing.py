import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from notifications import services
from notifications.models import Message
from tests.notifications.messages import AT, new_message, queued, queued_many

pytestmark = pytest.mark.django_db


def test_a_queued_message_is_due_at_once_and_holds_all_that_the_mail_needs():
    assert services.queue(new_message(7, context={"first_name": "Zoë"}), at=AT) is True

    message = Message.objects.due(AT).get()
    assert (message.status, message.attempts, message.resends) == ("due", 0, 0)
    assert (message.kind, message.scope, message.reference) == ("loyalty_points_expiring", "1", "7")
    assert (message.recipient, message.locale) == ("c7@example.com", "en")
    assert message.context["first_name"] == "Zoë"
    assert message.context["points"] == 12500
    assert message.created_at == message.next_attempt_at == AT


def test_a_message_is_not_due_before_its_time():
    queued()
    assert not Message.objects.due(AT - timedelta(microseconds=1)).exists()


def test_the_same_dedupe_key_is_queued_once():
    assert services.queue(new_message(context={"points": 1}), at=AT) is True
    assert services.queue(new_message(context={"points": 2}), at=AT) is False
    assert Message.objects.get().context["points"] == 1


def test_many_messages_are_queued_and_only_new_ones_are_counted():
    queued(2)
    assert services.queue_many([new_message(number) for number in (1, 2, 3, 3)], at=AT) == 2
    assert Message.objects.count() == 3


def test_no_messages_are_queued_without_a_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert services.queue_many([], at=AT) == 0


@pytest.mark.parametrize("count", [1, 500])
def test_any_number_of_messages_takes_one_statement(django_assert_num_queries, count):
    messages = [new_message(number) for number in range(count)]
    with django_assert_num_queries(1):
        assert services.queue_many(iter(messages), at=AT) == count


def test_queueing_costs_the_caller_little_cpu():
    messages = [new_message(number) for number in range(500)]
    fastest = 1.0
    for _ in range(5):
        Message.objects.all().delete()
        started = time.process_time()
        services.queue_many(messages, at=AT)
        fastest = min(fastest, time.process_time() - started)
    assert fastest / len(messages) < 30e-6  # measured at 5; room for a busy machine


def test_without_an_address_a_message_is_kept_as_undeliverable():
    queued(recipient="")
    message = Message.objects.undelivered().get()
    assert message.status == "undeliverable"
    assert not Message.objects.waiting().exists()


@pytest.mark.parametrize(
    "name", ["O'Hara", 'a "b" \\ c', "%s %(x)s {y}", "line\nbreak", "名前 🎉", "'; DROP TABLE x; --"]
)
def test_no_text_confuses_the_database(name):
    message = queued(reference=name, recipient=f"{name}@example.com", context={"first_name": name}, dedupe_key=name)
    assert (message.reference, message.context["first_name"], message.dedupe_key) == (name, name, name)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_owed_when_the_caller_rolls_back():
    def fail() -> None:
        with transaction.atomic():
            queued_many(3)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("message_status_known", {"status": "unheard-of"}),
        ("message_leased_until_some_moment", {"status": "leased"}),
        ("message_leased_until_some_moment", {"lease_until": AT}),
        ("message_sent_at_some_moment", {"status": "sent"}),
        ("message_sent_at_some_moment", {"sent_at": AT}),
        ("message_cancelled_at_some_moment", {"status": "cancelled"}),
        ("message_cancelled_at_some_moment", {"cancelled_at": AT}),
        ("message_undeliverable_without_recipient", {"status": "undeliverable"}),
        ("message_undeliverable_without_recipient", {"recipient": ""}),
    ],
)
def test_the_database_refuses_states_that_make_no_sense(constraint: str, fields: dict[str, Any]):
    message = queued()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Message.objects.filter(id=message.id).update(**fields)


def plan_of(queryset) -> str:
    return str(queryset.explain())


def test_finding_what_is_due_reads_an_index_of_what_is_due():
    queued_many(3000)
    Message.objects.filter(id__gt=Message.objects.earliest("id").id + 5).update(status="sent", sent_at=AT)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_message")
    due = Message.objects.due(AT).select_for_update(skip_locked=True).order_by("next_attempt_at", "id")
    assert "message_due" in plan_of(due[:100])
    assert "message_about_reference" in plan_of(Message.objects.about("17"))


def test_a_message_names_no_person_in_the_admin_log():
    message = queued(recipient="anna@example.com")
    assert str(message) == f"Points will expire {message.id}"
