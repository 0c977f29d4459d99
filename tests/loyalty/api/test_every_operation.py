"""Rules that hold for every operation of the OpenAPI document, whoever adds the next one."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from loyalty.api.operations import OPERATIONS, Access, NoFields, read
from tests.loyalty.api import described
from tests.loyalty.api.described import UNKNOWN, Described, World, ask, names_an_id, without_request_id
from tests.loyalty.api.offices import Office

pytestmark = pytest.mark.django_db
PERMISSIONS = Path(__file__).resolve().parents[3] / "docs" / "permissions.md"
EVERY = described.operations()
of_paths = [(op, name) for op in EVERY for name in op.path_names]
of_bodies = [(op, name) for op in EVERY for name in described.body_ids(op)]
of_queries = [(op, name) for op in EVERY for name in op.query_names if names_an_id(name)]
ADMIN = [op for op in EVERY if not op.is_of_store]
# What these name is the user's own, or nobody's.
# Their examples are refused in the world of these tests, where nothing is like that.
REFUSED_AS_DOCUMENTED = {
    "admin_api_keys_revoke",
    "admin_cards_end_exemption",
    "admin_cards_reactivate",
    "admin_memberships_add",
    "admin_merchants_restore",
    "admin_programs_create",
    "admin_programs_policy_resume",
    "admin_staff_unlock",
    "admin_wallet_credentials_activate",
    "admin_wallet_credentials_rollback",
}
HALF = "\ud800"  # the first half of a character beyond the first 65,536: JSON can hold it, and no text can
REFUSED_AS_NO_TEXT = {(400, "invalid_request"), (400, "invalid_amount"), (400, "invalid_input")}
NOT_A_MERCHANTS = {
    ("admin_api_keys_revoke", "key_id"),
    ("admin_wallet_credentials_activate", "credential_id"),
    ("admin_wallet_credentials_rollback", "credential_id"),
    ("admin_wallet_sync_runs_get", "sync_run_id"),
}


@pytest.fixture(scope="module")
def worlds(django_db_setup, django_db_blocker):
    """Two merchants with one of everything, made once; each test rolls back what it did to them."""
    of_tests = transaction.atomic()
    of_tests._from_testcase = True  # type: ignore[attr-defined]  # as Django's own: durable blocks may be inside
    with django_db_blocker.unblock(), of_tests:
        made = World(), World()
        yield made
        transaction.set_rollback(True)


@pytest.fixture
def own(worlds, db):
    return worlds[0]


@pytest.fixture
def foreign(worlds, db):
    return worlds[1]


def rows() -> list[tuple[str, int]]:
    """How many rows each of our tables has, and how often balances moved."""
    tables = [
        name for name in connection.introspection.table_names() if name.startswith(("loyalty_", "notif", "wallet_"))
    ]
    with connection.cursor() as cursor:
        counts = []
        for table in sorted(tables):
            cursor.execute(f"SELECT count(*) FROM {table}")
            counts.append((table, cursor.fetchone()[0]))
        cursor.execute("SELECT sum(version) FROM loyalty_cardbalance")
        return [*counts, ("versions", cursor.fetchone()[0])]


def test_every_operation_is_described_and_every_id_is_known(own):
    assert {op.name for op in EVERY} == set(OPERATIONS)
    named = {name for op in EVERY for name in (*op.path_names, *op.query_names, *described.body_ids(op))}
    assert not {name for name in named if names_an_id(name) and not own.knows(name)}


@pytest.mark.parametrize(("operation", "name"), of_paths, ids=str)
def test_a_foreign_id_in_the_path_is_answered_like_an_unknown_one(own, foreign, operation: Described, name):
    if (operation.name, name) in NOT_A_MERCHANTS:
        return
    before = rows()

    of_foreign = ask(own, operation, path={name: foreign.id_of(name)})
    of_unknown = ask(own, operation, path={name: UNKNOWN})

    assert of_foreign.status_code == 404, of_foreign.content
    assert without_request_id(of_foreign) == without_request_id(of_unknown)
    assert rows() == before


@pytest.mark.parametrize(("operation", "name"), of_bodies, ids=str)
def test_a_foreign_id_in_the_body_is_answered_like_an_unknown_one(own, foreign, operation: Described, name):
    before = rows()
    answers = []
    for number in (foreign.id_of(name), UNKNOWN):
        body = described.own_body(operation, own) | {name: [number] if name.endswith("_ids") else number}
        answers.append(ask(own, operation, body=body, key=f"key-for-{number}"))

    shown = [re.sub(r"'card_id': \d+", "'card_id': ID", str(without_request_id(answer))) for answer in answers]
    assert shown[0] == shown[1]
    if not name.endswith("_ids"):  # a bulk operation answers for each id
        assert 400 <= answers[0].status_code < 500
        assert rows() == before


@pytest.mark.parametrize(("operation", "name"), of_queries, ids=str)
def test_a_foreign_id_in_the_query_is_answered_like_an_unknown_one(own, foreign, operation: Described, name):
    answers = [ask(own, operation, query={name: number}) for number in (foreign.id_of(name), UNKNOWN)]

    first, second = map(without_request_id, answers)
    assert first == second
    assert first[0] == 404 or first[1]["results"] == []


@pytest.mark.parametrize("operation", EVERY, ids=str)
def test_unknown_fields_and_parameters_are_refused(own, operation: Described):
    own.asker_of(operation)
    before = rows()
    of_query = ask(own, operation, query={"surprise": "1"})
    assert (of_query.status_code, of_query.json()["code"]) == (400, "invalid_request")
    if operation.method != "get" and set(operation.media_types) <= {"application/json"}:
        of_body = ask(own, operation, body={**described.own_body(operation, own), "surprise": 1})
        assert (of_body.status_code, of_body.json()["code"]) == (400, "invalid_request")
        assert "/surprise" in [error["pointer"] for error in of_body.json()["errors"]]
    assert rows() == before


@pytest.mark.parametrize("operation", [op for op in EVERY if op.media_types == ("application/json",)], ids=str)
def test_half_of_a_character_is_refused_in_every_field(own, operation: Described):
    own.asker_of(operation)
    before = rows()
    for name in [*OPERATIONS[operation.name].body().fields, HALF]:
        answer = ask(own, operation, body={**described.own_body(operation, own), name: HALF})

        assert (answer.status_code, answer.json()["code"]) in REFUSED_AS_NO_TEXT, (name, answer.content)
    assert rows() == before


@pytest.mark.parametrize("operation", EVERY, ids=str)
def test_nobody_may_do_anything_without_signing_in(own, operation: Described):
    class Nobody:
        client = Client()
        headers: dict[str, str] = {}

    answer = ask(own, operation, asker=Nobody)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    # And the key of the other API opens nothing.
    other = own.manager if operation.is_of_store else own.till
    assert ask(own, operation, asker=other).json()["code"] == "invalid_api_key"


def may(access: Access, role: str) -> bool:
    allowed = {
        Access.READ: {"platform admin", "manager", "support"},
        Access.RESTORE: {"platform admin", "manager", "support"},
        Access.MANAGE: {"platform admin", "manager"},
        Access.PLATFORM: {"platform admin"},
        Access.SELF: {"platform admin", "manager", "support", "any user"},
    }
    return role in allowed[access]


@pytest.mark.parametrize("operation", ADMIN, ids=str)
def test_each_role_may_do_what_the_table_says_and_nothing_else(own, operation: Described):
    allowed = permissions()[operation.name]
    # Who may least comes first, so that nothing is changed yet when it is refused.
    for role, office in (("support", own.support), ("manager", own.manager), ("platform admin", own.admin)):
        answer = ask(own, operation, asker=office, key=f"key-of-{role.replace(' ', '-')}")

        assert (answer.status_code in (401, 403)) == (role not in allowed), (role, answer.content)
        if role not in allowed:
            assert answer.json()["code"] == "permission_denied"


@pytest.mark.parametrize("operation", ADMIN, ids=str)
def test_what_is_of_no_merchant_of_a_user_is_not_there_for_them(own, foreign, operation: Described):
    before = rows()

    answer = ask(own, operation, asker=foreign.manager)

    if permissions()[operation.name] == {"platform admin"}:
        assert answer.status_code == 403
    elif operation.path_names or any(described.body_ids(operation)):
        of_bulk = operation.name.startswith("admin_cards_bulk")
        assert answer.status_code == 404 or of_bulk, answer.content
        assert rows() == before or of_bulk
    else:
        assert str(own.card.card_number) not in answer.content.decode()


def permissions() -> dict[str, set[str]]:
    """The table of docs/permissions.md."""
    lines = re.findall(r"^\| `(admin_\w+)` \|(.*)\|$", PERMISSIONS.read_text(), re.MULTILINE)
    columns = ("platform admin", "manager", "support", "any user")
    found = {}
    for name, marks in lines:
        cells = [cell.strip() for cell in marks.split("|")]
        found[name] = {column for column, cell in zip(columns, cells, strict=True) if cell == "yes"}
    return found


def test_the_table_of_permissions_says_what_the_code_declares():
    declared = {
        op.name: {role for role in ("platform admin", "manager", "support", "any user") if may(access, role)}
        for op in ADMIN
        for access in [OPERATIONS[op.name].access]
    }
    assert permissions() == declared


@pytest.mark.parametrize("operation", EVERY, ids=str)
def test_every_example_is_one(operation: Described):
    declared = OPERATIONS[operation.name]
    if declared.body is not NoFields:
        assert read(declared.body, example_of(declared.body))
    if declared.answer is not None:
        assert set(example_of(declared.answer)) == set(declared.answer().fields)


def example_of(serializer: Any) -> dict[str, Any]:
    example: dict[str, Any] = serializer.example
    return example


def test_every_operation_has_a_summary_and_a_description():
    for name, declared in OPERATIONS.items():
        assert re.fullmatch(r"[A-Z][^.]{3,60}", declared.summary), name


@pytest.mark.parametrize("operation", [op for op in ADMIN if OPERATIONS[op.name].changes], ids=str)
def test_a_repeat_by_a_user_is_done_once(own, operation: Described):
    office = Office()
    done = ask(own, operation, asker=office, key="the-same-key")
    before = rows()
    again = ask(own, operation, asker=office, key="the-same-key")

    assert (done.status_code < 400) == (operation.name not in REFUSED_AS_DOCUMENTED), done.content
    assert rows() == before
    if done.status_code >= 400:
        assert without_request_id(again) == without_request_id(done)
    elif OPERATIONS[operation.name].secret:
        assert (again.status_code, again.json()["code"]) == (409, "secret_shown_once")
    else:
        assert (again.status_code, again.content) == (done.status_code, done.content)
        assert again.headers["Idempotency-Replayed"] == "true"
