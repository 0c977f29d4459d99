"""Mail that is owed to customers, in the hands of back offices, over HTTP."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Card, Merchant
from notifications import services
from notifications.models import Message
from tests.factories import make_card, make_merchant
from tests.loyalty.api.offices import Office
from tests.loyalty.parallel import in_parallel

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def card():
    return make_card(email="ana@example.com", first_name="Ana")


@pytest.fixture
def merchant(card: Card) -> Merchant:
    return card.program.merchant


@pytest.fixture
def office(merchant):
    return Office(merchant, role="manager")


@pytest.fixture
def message(card) -> Message:
    """The welcome mail, which was sent."""
    Message.objects.update(status="sent", sent_at=timezone.now(), attempts=1)
    return Message.objects.get()


def refused(answer, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    problem: dict[str, Any] = answer.json()
    return problem


def without_id(answer) -> dict[str, Any]:
    return {**answer.json(), "request_id": ""}


def shown(office: Office, **query: Any) -> list[int]:
    answer = office.get("messages", **query)
    assert answer.status_code == 200, answer.content
    return [row["card_id"] for row in answer.json()["results"]]


def test_the_list_masks_who_they_go_to(office, message, card):
    [row] = office.get("messages").json()["results"]

    assert all(row.pop(name) for name in ("created_at", "next_attempt_at", "sent_at"))
    assert row == {
        "id": message.pk,
        "kind": "loyalty_enrollment",
        "merchant_id": card.program.merchant_id,
        "card_id": card.pk,
        "recipient": "a…@e…",
        "locale": "en",
        "status": "sent",
        "attempts": 1,
        "resends": 0,
        "cancelled_at": None,
    }


def test_one_message_tells_its_address_and_why_it_has_not_arrived(office, message):
    Message.objects.update(last_error="550 ana@example.com is unknown")

    told = office.get(f"messages/{message.pk}").json()

    assert (told["recipient"], told["last_error"]) == ("ana@example.com", "550 ana@example.com is unknown")
    assert "last_error" not in office.get("messages").json()["results"][0]


def test_no_address_and_an_erased_one_are_told_as_they_are(office, card):
    for recipient, status in (("", "undeliverable"), ("erased", "dead")):
        Message.objects.update(recipient=recipient, status=status)
        assert office.get("messages").json()["results"][0]["recipient"] == recipient


def test_messages_are_found_by_card_kind_status_and_merchant(office, merchant, card):
    second, foreign = make_card(merchant), make_card()
    Message.objects.filter(reference=str(second.pk)).update(status="dead")

    assert shown(office) == shown(office, merchant_id=merchant.pk) == [second.pk, card.pk]
    assert shown(office, card_id=card.pk) == [card.pk]
    assert shown(office, status="dead") == [second.pk]
    assert shown(office, kind="loyalty_points_expired") == []
    assert shown(office, kind="loyalty_enrollment", card_id=card.pk, status="due") == [card.pk]
    assert shown(Office()) == [foreign.pk, second.pk, card.pk]
    assert shown(Office(), merchant_id=foreign.program.merchant_id) == [foreign.pk]
    refused(office.get("messages", merchant_id=foreign.program.merchant_id), 404, "merchant_not_found")
    refused(office.get("messages", card_id=foreign.pk), 404, "card_not_found")
    refused(Office().get("messages", card_id=987_654_321), 404, "card_not_found")


def test_a_card_and_another_merchant_have_nothing_in_common(card):
    other = make_merchant()

    assert shown(Office(), card_id=card.pk, merchant_id=other.pk) == []


@pytest.mark.parametrize(
    "query", [{"status": "lost"}, {"kind": "spam"}, {"card_id": "x"}, {"card_id": "0"}, {"merchant_id": "9" * 30}]
)
def test_a_query_of_another_form_is_refused(office, query):
    refused(office.get("messages", **query), 400, "invalid_request")


def test_a_long_list_takes_no_more_statements(office, merchant, card):
    office.get("messages")

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert shown(office)
        return len(captured)

    one = statements()
    for _ in range(4):
        make_card(merchant)
    assert statements() == one


# --- sending again


def test_a_message_is_sent_again_once(office, message):
    path = f"messages/{message.pk}/send-again"

    first = office.post(path, key="mail-again-1")
    again = office.post(path, key="mail-again-1")

    assert (first.status_code, again.content, again.headers["Idempotency-Replayed"]) == (200, first.content, "true")
    assert {name: first.json()[name] for name in ("status", "attempts", "resends", "recipient", "sent_at")} == {
        "status": "due",
        "attempts": 0,
        "resends": 1,
        "recipient": "a…@e…",
        "sent_at": None,
    }
    message.refresh_from_db()
    assert (message.status, message.resends) == ("due", 1)
    refused(office.post(path), 409, "message_already_waiting")


def test_two_requests_with_one_key_at_the_same_moment_get_one_answer(office, message):
    answers: list[Any] = []

    in_parallel(lambda n: answers.append(office.post(f"messages/{message.pk}/send-again", key="mail-again-1")), 4)

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    message.refresh_from_db()
    assert message.resends == 1


def test_the_answer_that_is_kept_goes_with_an_erasure(office, message, card):
    office.post(f"messages/{message.pk}/send-again", key="mail-again-1")

    with connection.cursor() as cursor:
        cursor.execute("SELECT card_id FROM loyalty_idempotencykey WHERE key = 'mail-again-1'")
        assert cursor.fetchall() == [(card.pk,)]


def test_what_cannot_be_sent_is_refused_with_the_reason(office, message):
    path = f"messages/{message.pk}/send-again"

    Message.objects.update(recipient="", status="undeliverable", sent_at=None)
    assert "no address" in refused(office.post(path), 409, "message_has_no_address")["detail"]
    Message.objects.update(recipient="ana@example.com", status="sent", sent_at=timezone.now())
    services.scrub(reference=message.reference, at=timezone.now())
    assert "erased" in refused(office.post(path), 409, "message_erased")["detail"]


def test_a_message_of_another_merchant_is_not_known(message):
    foreign = Office(make_merchant(), role="manager")

    def answers(message_id: int) -> list[dict[str, Any]]:
        return [
            without_id(foreign.get(f"messages/{message_id}")),
            without_id(foreign.post(f"messages/{message_id}/send-again")),
        ]

    assert answers(message.pk) == answers(987_654_321)
    assert {answer["code"] for answer in answers(message.pk)} == {"message_not_found"}


def test_what_was_not_queued_for_a_merchant_is_not_known(message):
    Message.objects.update(scope="shop")

    refused(Office().get(f"messages/{message.pk}"), 404, "message_not_found")


def test_support_looks_and_sends_nothing(merchant, message):
    support = Office(merchant, role="support")

    assert support.get(f"messages/{message.pk}").status_code == 200
    refused(support.post(f"messages/{message.pk}/send-again"), 403, "permission_denied")
    assert Office().post(f"messages/{message.pk}/send-again").status_code == 200


def test_a_message_tells_its_card(office, message, card):
    assert office.get(f"messages/{message.pk}").json()["card_id"] == Card.objects.get().pk == card.pk
