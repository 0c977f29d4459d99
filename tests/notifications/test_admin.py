from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from notifications import services
from notifications.admin import EstimatedCountPaginator
from notifications.models import Message
from tests.notifications.messages import AT, queued, queued_many

pytestmark = pytest.mark.django_db
LIST = "/admin/notifications/message/"


@pytest.fixture(autouse=True)
def no_collected_static_files(settings):
    settings.WHITENOISE_AUTOREFRESH = True  # otherwise it warns that `collectstatic` has not run


def signed_in(*permissions: str) -> Client:
    user = User.objects.create_user("anton", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def staff() -> Client:
    return signed_in("view_message", "send_again_message")


@pytest.fixture
def reader() -> Client:
    return signed_in("view_message")


def page(client: Client, url: str = LIST) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def detail(message: Message) -> str:
    return reverse("admin:notifications_message_change", args=[message.pk])


def dead_message(**fields) -> Message:
    message = queued(**fields)
    Message.objects.filter(id=message.id).update(status="dead", attempts=1, last_error="550 5.1.1 Unknown")
    return message


def test_the_list_shows_who_what_and_why_not(staff: Client):
    dead_message()
    text = page(staff)
    for shown in ("c1@example.com", "Points will expire", "Given up", "550 5.1.1 Unknown"):
        assert shown in text


def test_the_list_costs_the_same_with_one_and_with_three_messages(staff: Client):
    queued(1)
    page(staff)
    with CaptureQueriesContext(connection) as one:
        page(staff)
    queued(2)
    queued(3)
    with CaptureQueriesContext(connection) as three:
        page(staff)
    assert len(one) == len(three)
    assert not [query for query in three if "COUNT(*)" in query["sql"] and "LIMIT" not in query["sql"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [("q=anna", [1]), ("q=ANNA@ex", [1]), ("q=card-2", [2]), ("q=key-3", [3]), ("q=key-", []), ("q=example", [])],
)
def test_search_finds_by_the_beginning_of_an_address_and_by_exact_keys(staff: Client, query, found):
    queued(1, recipient="Anna@example.com", reference="card-1", dedupe_key="key-1")
    queued(2, recipient="ben@example.com", reference="card-2", dedupe_key="key-2")
    queued(3, recipient="cleo@example.com", reference="card-3", dedupe_key="key-3")
    response = staff.get(f"{LIST}?{query}")
    references = [row.reference for row in response.context["cl"].result_list]
    assert references == [f"card-{number}" for number in found]


def test_search_reads_indexes(staff: Client):
    with CaptureQueriesContext(connection) as queries:
        page(staff, f"{LIST}?q=anna%40example.com")
    (rows,) = [query["sql"] for query in queries if query["sql"].startswith('SELECT "notifications_message"."id"')]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
        cursor.execute(f"EXPLAIN {rows}")
        plan = str(cursor.fetchall())
    for index in ("message_to_recipient", "message_about_reference", "message_once_per_dedupe_key"):
        assert index in plan


@pytest.mark.parametrize(("query", "found"), [("status__exact=dead", 1), ("kind__exact=loyalty_points_expiring", 2)])
def test_filters_narrow_the_list(staff: Client, query, found):
    queued(1, kind="loyalty_enrollment")
    queued(2)
    dead_message(number=3)
    response = staff.get(f"{LIST}?{query}")
    assert len(response.context["cl"].result_list) == found


def test_nothing_can_be_added_changed_or_deleted(staff: Client):
    message = queued()
    assert staff.get(f"{LIST}add/").status_code == 403
    assert staff.get(detail(message).replace("change", "delete")).status_code == 403
    assert staff.post(detail(message), {"recipient": "x@example.com"}).status_code == 403
    assert "_save" not in page(staff, detail(message))


@pytest.mark.parametrize("kind", ["loyalty_enrollment", "loyalty_points_expiring"])
def test_the_detail_page_shows_the_mail_as_it_would_be_sent(staff: Client, kind):
    message = queued(kind=kind)
    rendered = services.preview(message)
    text = page(staff, detail(message))
    assert rendered.subject in unescape(text)
    assert rendered.text.strip() in unescape(text)
    assert "<iframe sandbox srcdoc=" in text
    assert rendered.html.strip() in unescape(text)


def test_what_a_name_contains_cannot_run_in_the_admin(staff: Client):
    message = queued(context={"merchant_name": '"><script>alert(1)</script>', "first_name": "</pre><script>x</script>"})
    for url in (LIST, detail(message)):
        text = page(staff, url)
        assert "<script>alert(1)" not in text
        assert "<script>x" not in text


def test_a_message_that_cannot_be_written_still_has_its_page(staff: Client):
    message = queued(context={"expires_on": "soon"})
    assert "It cannot be written" in page(staff, detail(message))
    services.scrub(reference="1", at=AT)
    assert "Its context lacks" in page(staff, detail(message))


def test_the_button_sends_a_message_again_and_notes_who_asked(staff: Client):
    message = dead_message()
    assert "Send again" in page(staff, detail(message))

    response = staff.post(f"{LIST}{message.id}/send-again/", follow=True)

    assert "will be sent again" in response.content.decode()
    message.refresh_from_db()
    assert (message.status, message.resends) == ("due", 1)
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id) == ("anton", str(message.id))
    assert "example.com" not in entry.object_repr + entry.change_message


def test_a_refusal_is_shown_as_a_sentence(staff: Client):
    message = queued()
    response = staff.post(f"{LIST}{message.id}/send-again/", follow=True)
    assert "already waiting to be sent" in response.content.decode()
    assert not LogEntry.objects.exists()


def test_the_action_sends_many_again_and_counts_what_it_refuses(staff: Client):
    dead = [dead_message(number=number) for number in (1, 2)]
    waiting = queued(3)
    chosen = [message.pk for message in [*dead, waiting]]
    response = staff.post(LIST, {"action": "send_selected_again", "_selected_action": chosen}, follow=True)
    text = response.content.decode()
    assert "2 messages will be sent again." in text
    assert "1 not: This message is already waiting to be sent." in text
    assert Message.objects.filter(status="due").count() == 3


def test_only_who_may_send_again_sees_the_button_or_can_use_it(reader: Client):
    message = dead_message()
    assert "Send again" not in page(reader, detail(message))
    assert "send_selected_again" not in page(reader)
    assert reader.post(f"{LIST}{message.id}/send-again/").status_code == 403
    reader.post(LIST, {"action": "send_selected_again", "_selected_action": [message.pk]})
    message.refresh_from_db()
    assert message.status == "dead"


def test_sending_again_needs_a_post_and_a_message(staff: Client):
    message = dead_message()
    assert staff.get(f"{LIST}{message.id}/send-again/").status_code == 405
    assert staff.post(f"{LIST}404404/send-again/").status_code == 404
    assert Client().post(f"{LIST}{message.id}/send-again/").status_code == 302
    message.refresh_from_db()
    assert message.status == "dead"


def test_a_stranger_sees_no_messages():
    queued()
    assert signed_in().get(LIST).status_code == 403


class SmallPaginator(EstimatedCountPaginator):
    count_up_to = 3


def test_a_short_list_is_counted_exactly():
    queued_many(3)
    assert SmallPaginator(Message.objects.order_by("-id"), 2).count == 3


def test_a_long_table_is_estimated_without_reading_it():
    queued_many(10)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_message")
    queued(11)
    with CaptureQueriesContext(connection) as queries:
        assert SmallPaginator(Message.objects.order_by("-id"), 2).count == 10
    assert len(queries) == 2


def test_a_long_filtered_list_ends_at_the_limit():
    queued_many(10)
    assert SmallPaginator(Message.objects.waiting().order_by("-id"), 2).count == 4


def test_a_table_that_was_never_analysed_counts_at_least_what_was_seen():
    queued_many(10)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pg_class SET reltuples = -1 WHERE oid = 'notifications_message'::regclass")
    assert SmallPaginator(Message.objects.order_by("-id"), 2).count == 4
