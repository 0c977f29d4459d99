import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from loyalty.admin.screens import MERCHANTS_IN_FILTER
from tests.factories import make_cards, make_merchant
from tests.loyalty.admin.rows import MAKERS

pytestmark = pytest.mark.django_db

SCREENS = sorted(admin.site._registry, key=lambda model: model._meta.label)
ours = pytest.mark.parametrize(
    "model",
    [model for model in SCREENS if model._meta.app_label in ("loyalty", "wallet")],
    ids=lambda model: model._meta.label,
)
every_screen = pytest.mark.parametrize("model", SCREENS, ids=lambda model: model._meta.label)


def page(model, name: str, *args) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def statements(client: Client, path: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = client.get(path)
    assert answer.status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@every_screen
def test_a_list_costs_the_same_with_three_rows_as_with_one(model, admin_client):
    make_one_more = MAKERS[model]
    for _ in range(2):  # the filter by merchant shows from two merchants on
        make_merchant()
    make_one_more()
    admin_client.get(page(model, "changelist"))  # caches of content types and sites
    with_one = statements(admin_client, page(model, "changelist"))

    make_one_more()
    make_one_more()

    assert len(statements(admin_client, page(model, "changelist"))) == len(with_one)


@every_screen
def test_a_row_opens(model, admin_client):
    row = MAKERS[model]()

    assert admin_client.get(page(model, "change", row.pk)).status_code == 200
    assert admin_client.get(page(model, "history", row.pk)).status_code == 200


@every_screen
def test_the_form_for_a_new_row_opens_where_there_is_one(model, rf: RequestFactory, admin_client, admin_user):
    request = rf.get("/")
    request.user = admin_user
    may_add = admin.site._registry[model].has_add_permission(request)

    assert admin_client.get(page(model, "add")).status_code == (200 if may_add else 403)


@every_screen
@pytest.mark.parametrize("search", ["ana@example.com", "+352621123456", "123 456 789 012", "R1", "é%_'\\", "9" * 30])
def test_any_search_is_answered(model, search, admin_client):
    MAKERS[model]()

    assert admin_client.get(page(model, "changelist"), {"q": search}).status_code == 200


@ours
@pytest.mark.parametrize("parameters", [{"merchant": "x"}, {"merchant": "9" * 40}, {"merchant": "\0"}, {"q": "a\0b"}])
def test_a_filter_that_means_nothing_is_no_error(model, parameters, admin_client):
    for _ in range(2):
        make_merchant()

    assert admin_client.get(page(model, "changelist"), parameters, follow=True).status_code == 200


def test_a_filter_by_one_of_many_merchants_works_though_not_all_are_listed(admin_client):
    for _ in range(MERCHANTS_IN_FILTER + 2):
        last = make_merchant()

    shown = admin_client.get("/admin/loyalty/program/", {"merchant": last.pk}).context["cl"]

    assert list(shown.result_list) == [last.program]


@ours
def test_no_list_counts_a_whole_table(model, admin_client):
    MAKERS[model]()
    table = re.escape(model._meta.db_table)

    for search in ("", "?q=ana@example.com"):
        counts = [sql for sql in statements(admin_client, page(model, "changelist") + search) if "COUNT(" in sql]
        unbounded = [sql for sql in counts if re.search(table, sql) and "LIMIT" not in sql]
        assert not unbounded


@ours
def test_lists_are_not_sorted_by_what_has_no_index(model):
    screen = admin.site._registry[model]

    assert screen.sortable_by == ()
    assert screen.ordering == ("-pk",)
    assert screen.date_hierarchy is None


def test_every_model_of_the_app_has_a_screen():
    models = {model for model in apps.get_app_config("loyalty").get_models() if not model._meta.auto_created}

    assert models <= set(admin.site._registry)


@pytest.mark.parametrize("text", ["c5@example.com", "+352621123456", "X7", "123456789012"])
@pytest.mark.parametrize("path", ["card", "customer", "transaction"])
def test_a_search_reads_no_whole_table(path, text, admin_client):
    make_cards(make_merchant(), 3000)
    with connection.cursor() as cursor:
        for table in ("customer", "card", "cardbalance", "transaction"):
            cursor.execute(f"ANALYZE loyalty_{table}")

    for sql in statements(admin_client, f"/admin/loyalty/{path}/?q={text.replace('+', '%2B')}"):
        if sql.startswith(("SELECT", "(SELECT")):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert not re.search(r"Seq Scan on loyalty_(customer|card|cardbalance|transaction)\b", plan), plan


def test_a_list_of_cards_reads_a_page_and_no_more(admin_client):
    make_cards(make_merchant(), 3000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE loyalty_card")

    [page_of_cards] = [
        sql
        for sql in statements(admin_client, "/admin/loyalty/card/")
        if sql.startswith('SELECT "loyalty_card"."id"') and "ORDER BY" in sql
    ]

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {page_of_cards}")
        [[[explained]]] = cursor.fetchall()
    assert "LIMIT 50" in page_of_cards
    assert rows_read(explained["Plan"], "loyalty_card") <= 50


def rows_read(plan, table: str) -> int:
    own = plan["Actual Rows"] * plan["Actual Loops"] if plan.get("Relation Name") == table else 0
    return int(own) + sum(rows_read(part, table) for part in plan.get("Plans", ()))
