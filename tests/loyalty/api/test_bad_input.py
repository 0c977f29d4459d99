"""What a till can send wrong: a clear refusal, nothing done, never a 500."""

from typing import Any

import pytest

from loyalty.models import Card, Store, Transaction
from tests.factories import make_card
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db
EARN = "/api/v1/store/loyalty/cards/{}/earn"


@pytest.fixture
def till():
    return Till(staff_pin_policy="optional", kind="hybrid")


@pytest.fixture
def card(till):
    return make_card(till.merchant, points=100)


@pytest.fixture(autouse=True)
def nothing_is_written(till, card):
    before = Transaction.objects.filter(card=card).count()
    yield
    assert Transaction.objects.filter(card=card).count() == before


def refused(answer: Any, status: int, code: str, pointer: str | None = None) -> Any:
    assert answer.status_code == status, answer.content
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code, problem
    assert problem["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in problem["errors"]]
    return problem


def raw(till, card, body: bytes | str, content_type: str = "application/json", **headers):
    return till.client.post(
        EARN.format(card.pk),
        body,
        content_type=content_type,
        headers={**till.headers, "Idempotency-Key": "raw-key-1", **headers},
    )


@pytest.mark.parametrize("amount", [12.99, 12, -1, 0, True, None, [], {}, [12], {"minor": 1299}])
def test_an_amount_that_is_no_string_is_refused(till, card, amount):
    refused(till.post(f"cards/{card.pk}/earn", {"amount": amount}), 400, "invalid_request", "/amount")


@pytest.mark.parametrize(
    "amount",
    [
        "12,99",
        "-1.00",
        "+1.00",
        "1" + "0" * 30,
        "NaN",
        "Infinity",
        "1e3",
        "",
        " ",
        "12.999",
        "١٢",
        "12.99€",
        "😀",
        "1 000",
    ],
)
def test_an_amount_that_is_no_amount_is_refused(till, card, amount):
    for path in ("earn", "earn/preview"):
        problem = refused(till.post(f"cards/{card.pk}/{path}", {"amount": amount}), 400, "invalid_amount")
        assert problem["errors"][0]["pointer"] == "/amount"


def test_json_that_is_not_json_is_refused(till, card):
    for body in (
        b"{",
        b'{"amount": NaN}',
        b'{"amount": "1.00"} x',
        b"\xff\xfe",
        b"[" * 100_000,
        b"'amount'",
        b'{"amount": ' + b"9" * 6000 + b"}",
    ):
        refused(raw(till, card, body), 400, "malformed_json")


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"amount"', b"true"])
def test_json_that_is_no_object_is_refused(till, card, body):
    refused(raw(till, card, body), 400, "invalid_request")


def test_a_key_that_is_named_twice_is_refused(till, card):
    problem = refused(raw(till, card, '{"amount": "1.00", "amount": "1000.00"}'), 400, "malformed_json")
    assert "'amount' appears twice" in problem["detail"]


def test_an_unknown_field_is_refused(till, card):
    answer = till.post(f"cards/{card.pk}/earn", {"amount": "1.00", "reciept_number": "R1"})
    problem = refused(answer, 400, "invalid_request", "/reciept_number")
    assert problem["errors"][0]["code"] == "unknown_field"


def test_unknown_and_repeated_parameters_are_refused(till, card):
    path = f"{Till.base}cards/{card.pk}/transactions"
    for query in (
        "?limt=5",
        "?limit=0",
        "?limit=1000",
        "?limit=x",
        "?limit=5&limit=6",
        "?cursor=xx",
        "?cursor=cD0neCc%3D",
    ):
        refused(till.client.get(path + query, headers=till.headers), 400, "invalid_request")


def test_a_body_of_ten_megabytes_is_refused(till, card):
    refused(raw(till, card, b'{"amount": "' + b"1" * 10_000_000 + b'"}'), 413, "body_too_large")


def test_emoji_are_text(till, card):
    answer = till.post("cards/lookup", {"q": "😀" * 100}, key=None)
    refused(answer, 404, "card_not_found")


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_characters_that_no_database_takes_are_refused(till, card, text):
    answer = till.post(f"cards/{card.pk}/earn", {"amount": "1.00", "receipt_number": text})
    refused(answer, 400, "invalid_request", "/receipt_number")
    refused(till.post("cards/lookup", {"q": text}, key=None), 400, "invalid_request", "/q")


def test_what_comes_back_of_a_wrong_value_is_short_and_can_be_written(till):
    for locale, told in (("\ud800", '"?" is not a valid choice.'), ("x" * 10_000, "x…")):
        problem = refused(till.post("cards", {"accepts_terms": True, "locale": locale}), 400, "invalid_request")
        assert problem["errors"][0]["detail"].endswith(told)
        assert len(problem["detail"]) < 400


def test_of_many_unknown_fields_the_first_are_named(till, card):
    answer = till.post(f"cards/{card.pk}/earn", {"amount": "1.00"} | {f"field-{n}": 1 for n in range(10_000)})

    problem = refused(answer, 400, "invalid_request", "/field-49")
    assert len(problem["errors"]) == 50
    assert problem["detail"].endswith(" And 9,950 more.")


@pytest.mark.parametrize(
    ("name", "pointer"), [("\ud800", "/?"), ("a/b~c", "/a~1b~0c"), ("x" * 9000, "/" + "x" * 300 + "…")]
)
def test_an_unknown_field_of_any_name_is_pointed_to(till, card, name, pointer):
    refused(till.post(f"cards/{card.pk}/earn", {"amount": "1.00", name: 1}), 400, "invalid_request", pointer)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_another_content_type_is_refused(till, card, content_type):
    refused(raw(till, card, b"amount=1.00", content_type), 415, "unsupported_media_type")


def test_a_client_that_takes_no_json_is_told(till, card):
    refused(
        till.client.get(f"{Till.base}program", headers={**till.headers, "Accept": "text/html"}), 406, "not_acceptable"
    )


@pytest.mark.parametrize("key", [None, "", "short", "x" * 129, "with space", "ümläute-ü", "tab\there123"])
def test_an_idempotency_key_that_is_none_is_refused(till, card, key):
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = till.post(f"cards/{card.pk}/earn", {"amount": "1.00"}, key=None, **headers)
    refused(answer, 400, "idempotency_key_required")


@pytest.mark.parametrize(
    ("moment", "status", "code"),
    [
        ("0001-01-01T00:00:00Z", 400, "invalid_request"),
        ("9999-12-31T23:59:59-14:00", 400, "invalid_request"),
        ("2026-03-01", 400, "invalid_request"),
        ("2026-03-01T12:00:00", 400, "invalid_request"),
        ("yesterday", 400, "invalid_request"),
        (1_700_000_000, 400, "invalid_request"),
        ("1990-01-01T00:00:00Z", 422, "moment_not_accepted"),
        ("2190-01-01T00:00:00Z", 422, "moment_not_accepted"),
    ],
)
def test_a_moment_that_cannot_be_is_refused(till, card, moment, status, code):
    refused(till.post(f"cards/{card.pk}/earn", {"amount": "1.00", "transaction_at": moment}), status, code)


@pytest.mark.parametrize("points", ["10", 10.0, 1.5, True, 0, -5, 10**30, None])
def test_points_that_are_no_whole_number_are_refused(till, card, points):
    refused(till.post(f"cards/{card.pk}/redeem", {"points": points}), 400, "invalid_request", "/points")


def test_redeeming_neither_or_both_is_refused(till, card):
    for body in ({}, {"points": 5, "reward_id": 1}):
        refused(till.post(f"cards/{card.pk}/redeem", body), 400, "invalid_input")


@pytest.mark.parametrize("card_id", ["0", "999999999999999999", "000999999999999999"])
def test_a_card_id_that_names_no_card_is_not_found(till, card, card_id):
    refused(till.post(f"cards/{card_id}/earn", {"amount": "1.00"}), 404, "card_not_found")


@pytest.mark.parametrize(
    "path", ["cards/-1", "cards/abc", "cards/1.0", "cards/9999999999999999999", "cards/1/", "nothing", "cards/%00"]
)
def test_an_address_of_nothing_is_not_found(till, path):
    refused(till.get(path), 404, "not_found")


def test_another_method_is_refused(till, card):
    answer = till.client.put(EARN.format(card.pk), {}, headers=till.headers)
    refused(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("status", ["suspended", "closed", "erased"])
def test_a_card_out_of_use_is_named_so(till, card, status):
    Card.objects.filter(pk=card.pk).update(status=status)

    problem = refused(till.post(f"cards/{card.pk}/earn", {"amount": "1.00"}), 409, "card_not_active")
    assert problem["details"] == {"status": status}
    refused(till.post(f"cards/{card.pk}/redeem", {"points": 5}), 409, "card_not_active")
    refused(till.post(f"cards/{card.pk}/stamps"), 409, "card_not_active")


def test_a_merged_card_leads_to_its_target_and_cannot_be_used(till, card):
    other = make_card(till.merchant, email="other@example.com")
    Card.objects.filter(pk=other.pk).update(status="merged", merged_into=card)

    found = till.post("cards/lookup", {"q": other.card_number}, key=None).json()
    assert found["id"] == card.pk
    refused(till.post(f"cards/{other.pk}/earn", {"amount": "1.00"}), 409, "card_not_active")


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Api-Key", "Api-Key ", "Api-Key nonsense", "Bearer x", "Api-Key \x7f", "Api-Key " + "x" * 5000],
)
def test_who_has_no_key_is_told(till, card, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = till.client.get(f"{Till.base}program", headers=headers)
    code = "invalid_api_key" if authorization and authorization.lower().startswith("api-key") else "not_authenticated"
    refused(answer, 401, code)
    assert answer.headers["WWW-Authenticate"] == "Api-Key"


def test_a_store_that_is_switched_off_is_told(till, card):
    Store.objects.filter(pk=till.store.pk).update(is_active=False)
    refused(till.get("program"), 403, "store_not_active")


def test_a_session_that_is_over_is_told(till, card):
    answer = till.post(f"cards/{card.pk}/earn", {"amount": "1.00"}, **{"X-Staff-Session": "nonsense"})
    refused(answer, 401, "invalid_staff_session")


def test_what_changes_something_wants_a_person(card):
    till = Till(staff_pin_policy="required")
    for path in ("cards", "cards/1/earn", "cards/1/redeem", "cards/1/stamps", "transactions/1/void"):
        refused(till.post(path, {}), 403, "staff_session_required")
    assert till.get("program").status_code == 200


@pytest.mark.parametrize(
    "person",
    [
        {"email": "nobody"},
        {"phone": "12"},
        {"phone": "+999999999999999999"},
        {"birth_date": "1200-01-01"},
        {"birth_date": "9999-12-31"},
        {"birth_date": "2199-01-01"},
        {"birth_date": 19900101},
        {"first_name": "x" * 81},
        {"first_name": ["Ana"]},
        {"locale": "xx"},
        {"accepts_marketing": "yes"},
        {"accepts_terms": None},
    ],
)
def test_a_person_that_cannot_be_is_refused(till, person):
    answer = till.post("cards", {"accepts_terms": True, **person})
    assert answer.status_code == 400, answer.content
    [error] = answer.json()["errors"]
    assert error["pointer"] == "/" + next(iter(person))


def test_who_has_not_accepted_the_terms_gets_no_card(till):
    refused(till.post("cards", {"email": "a@example.com", "accepts_terms": False}), 422, "terms_not_accepted")


def test_a_japanese_amount_has_no_decimals():
    till = Till(staff_pin_policy="disabled", currency="JPY")
    answer = till.post(f"cards/{make_card(till.merchant).pk}/earn", {"amount": "100.5"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_amount")
