import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from loyalty.models import Customer, Transaction
from loyalty.services.privacy import erase_customer, export_customer
from tests.factories import NOON, make_card, make_merchant
from tests.loyalty.personal import EMAIL, Life, found, live
from tests.loyalty.runs import table_hashes
from tests.loyalty.test_erasing_together import wait_for_a_blocked_session

pytestmark = pytest.mark.django_db

REASON = "asked for by letter 17"
ANSWERS = {"reason": REASON, "sure": "on"}
every_action = pytest.mark.parametrize("action", ["export", "erase"])


@pytest.fixture
def life():
    return live()


def page_of(customer: Customer, action: str = "change") -> str:
    return reverse(f"admin:loyalty_customer_{action}", args=[customer.pk])


def errors_of(page) -> str:
    return " ".join(re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', page.content.decode(), re.DOTALL))


def labels(page) -> list[str]:
    return [button["label"] for button in page.context["buttons"]]


def erase_by_verb(life: Life) -> None:
    erase_customer(merchant=life.merchant, customer_id=life.customer.pk, reason=REASON, actor="ana", at=NOON)


def test_an_export_is_downloaded(life, admin_client):
    answer = admin_client.post(page_of(life.customer, "export"))

    expected = export_customer(merchant=life.merchant, customer_id=life.customer.pk, at=NOON)
    shown = json.loads(answer.content)
    assert {**shown, "exported_at": "", "admin_log": []} == {**expected, "exported_at": "", "admin_log": []}
    assert len(shown["admin_log"]) == 2
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="customer-{life.customer.pk}.json"'


def test_the_admins_log_says_who_exported(life, admin_client):
    admin_client.post(page_of(life.customer, "export"))

    assert "Export." in admin_client.get(page_of(life.customer, "history")).content.decode()


def test_the_page_says_what_an_erasure_does_before_it_is_done(life, admin_client):
    page = admin_client.get(page_of(life.customer, "erase"))

    assert page.context["facts"][:3] == [
        "2 cards with 34 points and 3 stamps: closed and emptied, and the old numbers and QR codes lead nowhere.",
        "3 messages: emptied, and not sent any more.",
        "3 kept answers to tills and 3 waiting lines of imports: deleted.",
    ]
    assert f"merged with those of customers {life.friend.customer_id}, who stay" in page.context["facts"][-1]


def test_a_customer_whose_cards_were_not_merged_is_shown_nobody_else(admin_client):
    page = admin_client.get(page_of(make_card().customer, "erase"))

    assert not [fact for fact in page.context["facts"] if "merged" in fact]


def test_an_erasure_leaves_no_trace_but_who_did_it_and_why(life, admin_client):
    admin_client.post(page_of(life.customer), form_of(admin_client, life.customer, first_name="Canariafirst II"))
    page = admin_client.post(page_of(life.customer, "erase"), ANSWERS, follow=True)

    assert page.redirect_chain == [(page_of(life.customer), 302)]
    assert "Erased. 2 cards closed, 34 points gone." in page.content.decode()
    assert found(life.traces) == {}
    row = Transaction.objects.filter(card=life.card).latest("seq")
    assert (row.actor, row.reason) == ("admin", REASON)
    entry = LogEntry.objects.latest("pk")
    assert (entry.object_repr, entry.change_message) == (f"customer {life.customer.pk}", "Erase.")


def form_of(client: Client, customer: Customer, **answers: str) -> dict[str, str]:
    """The customer's own form, as the page shows it."""
    form = client.get(page_of(customer)).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    return {**{name: "" if value is None else str(value) for name, value in shown.items()}, **answers}


def test_an_erased_customer_has_no_buttons_left_to_erase_and_cannot_be_edited(life, admin_client):
    form = form_of(admin_client, life.customer, first_name="Ben")
    erase_by_verb(life)

    page = admin_client.get(page_of(life.customer))
    again = admin_client.post(page_of(life.customer, "erase"), ANSWERS)

    assert labels(page) == ["Export"]
    assert "The data of this customer has been erased already." in errors_of(again)
    assert again.context["facts"] == ["The data of this customer has been erased already."]
    assert admin_client.post(page_of(life.customer), form).status_code == 403
    assert Customer.objects.get(pk=life.customer.pk).first_name == ""


@pytest.mark.django_db(transaction=True)
def test_a_form_that_is_saved_at_the_moment_of_an_erasure_brings_nothing_back(admin_client):
    life = live()
    form = form_of(admin_client, life.customer, first_name="Benback")

    def save() -> int:
        try:
            return int(admin_client.post(page_of(life.customer), form).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            erase_by_verb(life)
            saved = pool.submit(save)
            wait_for_a_blocked_session()
        assert saved.result(timeout=30) == 403

    assert found({**life.traces, "edited name": "Benback"}) == {}


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"reason": " "}, "This field is required."),
        ({"reason": "x" * 501}, "at most 500 characters"),
        ({"sure": ""}, "This field is required."),
    ],
)
def test_a_refused_erasure_changes_nothing(answers, sentence, life, admin_client):
    form = {name: answer for name, answer in {**ANSWERS, **answers}.items() if answer}
    before = table_hashes()

    page = admin_client.post(page_of(life.customer, "erase"), form)

    assert sentence in errors_of(page)
    assert table_hashes() == before


@every_action
def test_looking_changes_nothing(action, life, admin_client):
    before = table_hashes()

    page = admin_client.get(page_of(life.customer, action), ANSWERS)

    assert page.status_code == 200
    assert EMAIL not in page.content.decode()
    assert table_hashes() == before


@every_action
def test_a_form_of_another_site_is_refused(action, life, admin_user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    before = table_hashes()

    assert client.post(page_of(life.customer, action), ANSWERS).status_code == 403
    assert table_hashes() == before


@every_action
def test_reading_and_supporting_is_not_enough(action, life, client_for):
    readers = client_for("loyalty.view_customer", managing=[life.merchant])
    support = client_for("loyalty.view_customer", "loyalty.change_customer", supporting=[life.merchant])

    for client in (readers, support):
        assert client.get(page_of(life.customer, action)).status_code == 403
        assert client.post(page_of(life.customer, action), ANSWERS).status_code == 403
        assert labels(client.get(page_of(life.customer))) == []
    assert Customer.objects.get(pk=life.customer.pk).erased_at is None


@every_action
def test_a_manager_may_do_both_for_their_own_merchant_only(action, life, client_for):
    permissions = ("loyalty.view_customer", "loyalty.change_customer")
    stranger = client_for(*permissions, managing=[make_merchant()])
    manager = client_for(*permissions, managing=[life.merchant])

    assert stranger.get(page_of(life.customer, action)).status_code == 404
    assert stranger.post(page_of(life.customer, action), ANSWERS).status_code == 404
    assert labels(manager.get(page_of(life.customer))) == ["Export", "Erase"]
    assert manager.post(page_of(life.customer, action), ANSWERS).status_code in (200, 302)


@every_action
def test_an_unknown_customer_is_not_found(action, admin_client):
    for unknown in ("0", "x", "9" * 30):
        path = reverse(f"admin:loyalty_customer_{action}", args=[unknown])
        assert admin_client.get(path).status_code == 404
        assert admin_client.post(path, ANSWERS).status_code == 404


@every_action
def test_who_is_not_signed_in_is_asked_to(action, life, client):
    answer = client.post(page_of(life.customer, action), ANSWERS)

    assert answer.status_code == 302
    assert "/login/" in answer.headers["Location"]
    assert Customer.objects.get(pk=life.customer.pk).erased_at is None
