import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.models import Merchant, PolicyChange, Program
from loyalty.services import policies, programs
from loyalty.services.policies import PolicyTerms
from tests.factories import days, make_card, make_merchant, make_store
from tests.loyalty.admin.rows import make_policy_change
from tests.loyalty.runs import table_hashes

pytestmark = pytest.mark.django_db


def page_of(program: Program) -> str:
    return reverse("admin:loyalty_program_change", args=[program.pk])


def filled(client: Client, program: Program, **answers) -> dict[str, str]:
    """The program's form as the page shows it, with these answers."""
    form = client.get(page_of(program)).context["adminform"].form
    shown = {name: form[name].value() for name in form.fields}
    shown = {name: value for name, value in shown.items() if value is not None and value is not False}
    return {**shown, "_save": "Save", **answers}


def hidden_answers(page) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.content.decode()))


def make_idle_program(**program) -> Program:
    """180 days until points expire; one card has been idle for 100 days."""
    merchant = make_merchant(**program)
    make_card(merchant, points=70, at=timezone.now() - days(100))
    return merchant.program


def test_shortening_first_shows_the_impact_and_saves_nothing(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, points_expiration_days="90", name="Gold")
    before = table_hashes()

    page = admin_client.post(page_of(program), form)

    assert (page.context["cards"], page.context["points"], page.context["warnings"]) == ("1", "70", "1")
    assert page.context["before"] == "180 days, warned 14 days before"
    assert page.context["after"] == "90 days, warned 14 days before"
    assert "Yes, change it for 1 card" in page.content.decode()
    assert table_hashes() == before


def test_the_confirmed_change_is_made_with_all_else_in_the_form(admin_client):
    program = make_idle_program()
    asked = admin_client.post(page_of(program), filled(admin_client, program, points_expiration_days="90", name="Gold"))

    answers = hidden_answers(asked)
    done = admin_client.post(page_of(program), {**answers, "confirmed_cards": "1", "policy_reason": "Costs"})

    assert done.status_code == 302
    program.refresh_from_db()
    assert (program.points_expiration_days, program.name, program.version) == (90, "Gold", 3)
    change = program.policy_changes.get()
    assert (change.actor, change.reason, change.impact["cards_past_limit"]) == ("admin", "Costs", 1)


def test_when_more_cards_are_past_the_limit_than_confirmed_it_asks_again(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, points_expiration_days="90")
    make_card(program.merchant, points=5, at=timezone.now() - days(120))

    page = admin_client.post(page_of(program), {**form, "confirmed_cards": "1"})

    assert "More cards are past the limit now than you confirmed." in page.content.decode()
    assert hidden_answers(page)["confirmed_cards"] == "2"
    assert not PolicyChange.objects.exists()


@pytest.mark.parametrize("number", ["", "-1", "all", "9" * 5000, "\0"])
def test_what_is_no_number_confirms_nothing(number, admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, points_expiration_days="90")

    page = admin_client.post(page_of(program), {**form, "confirmed_cards": number})

    assert page.status_code == 200
    assert not PolicyChange.objects.exists()


def test_a_reason_that_is_too_long_is_refused_on_the_page_that_asks(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, points_expiration_days="90")

    page = admin_client.post(page_of(program), {**form, "confirmed_cards": "1", "policy_reason": "x" * 501})

    assert "Ensure this value has at most 500 characters" in page.content.decode()
    assert not PolicyChange.objects.exists()


def test_lengthening_needs_no_question(admin_client):
    program = make_idle_program()

    done = admin_client.post(page_of(program), filled(admin_client, program, points_expiration_days="365"))

    assert done.status_code == 302
    assert program.policy_changes.get().new_policy["points_expiration_days"] == 365


def test_pausing_needs_no_question_and_ending_the_pause_does(admin_client):
    program = make_idle_program()
    until = (timezone.now() + timedelta(days=30)).date().isoformat()

    admin_client.post(page_of(program), filled(admin_client, program, expiration_paused_until=until))
    asked = admin_client.post(page_of(program), filled(admin_client, program, expiration_paused_until=""))

    program.refresh_from_db()
    assert program.expiration_paused_until is not None
    assert "confirmed_cards" in hidden_answers(asked)


def test_days_that_contradict_each_other_are_told_beside_the_field(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, points_expiration_days="10", name="Gold")
    before = table_hashes()

    page = admin_client.post(page_of(program), form)

    assert page.context["adminform"].form.errors["points_expiration_days"] == [
        "Points cannot expire after 10 days when customers are warned 14 days before. "
        "Choose more than 14 days, a shorter warning, or switch the required notice off."
    ]
    assert table_hashes() == before


@pytest.mark.parametrize("days_typed", ["soon", "-1", "3651", "9" * 30])
def test_what_is_no_number_of_days_is_an_error_in_the_form(days_typed, admin_client):
    program = make_idle_program()

    page = admin_client.post(page_of(program), filled(admin_client, program, points_expiration_days=days_typed))

    assert "points_expiration_days" in page.context["adminform"].form.errors
    assert not PolicyChange.objects.exists()


def test_a_new_program_is_held_to_the_same_days(admin_client):
    merchant = Merchant.objects.create(name="New", slug="new", currency="EUR")
    form = {
        field.name: "" if field.default is None or callable(field.default) else field.get_default()
        for field in Program._meta.fields
    }
    form |= {"merchant": merchant.pk, "name": "Card", "barcode": "qr", "points_per_unit": "1"}

    refused = admin_client.post(reverse("admin:loyalty_program_add"), {**form, "points_expiration_days": "7"})
    added = admin_client.post(reverse("admin:loyalty_program_add"), {**form, "points_expiration_days": "180"})

    assert "points_expiration_days" in refused.context["adminform"].form.errors
    assert added.status_code == 302
    assert (merchant.program.points_expiration_days, merchant.program.version) == (180, 1)


def test_a_rule_that_is_not_about_expiry_is_saved_and_the_version_grows(admin_client):
    program = make_idle_program()

    admin_client.post(page_of(program), filled(admin_client, program, points_per_unit="2.5"))

    program.refresh_from_db()
    assert (program.points_per_unit, program.version) == (Decimal("2.5"), 2)
    assert not PolicyChange.objects.exists()


@pytest.mark.parametrize("name", ["name", "stamps_reward"])
def test_characters_that_are_no_text_are_an_error_in_the_form(name, admin_client):
    program = make_idle_program()

    page = admin_client.post(page_of(program), filled(admin_client, program, **{name: "Gold\tCard"}))

    assert name in page.context["adminform"].form.errors


@pytest.mark.parametrize(("country", "hinted"), [("CA", True), ("LU", False)])
def test_merchants_in_canada_are_told_of_the_notice_of_quebec(country, hinted, admin_client):
    program = make_idle_program()
    Merchant.objects.filter(pk=program.merchant_id).update(country=country)

    assert ("Quebec" in admin_client.get(page_of(program)).content.decode()) is hinted


def test_saving_without_a_change_changes_nothing(admin_client):
    program = make_idle_program()

    admin_client.post(page_of(program), filled(admin_client, program))

    program.refresh_from_db()
    assert program.version == 1


def test_what_another_changed_meanwhile_stays(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, name="Gold")
    Program.objects.filter(pk=program.pk).update(welcome_bonus_points=9)

    admin_client.post(page_of(program), form | {"welcome_bonus_points": "9"})

    program.refresh_from_db()
    assert (program.name, program.welcome_bonus_points) == ("Gold", 9)


def test_the_same_change_sent_twice_is_one_change(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, points_expiration_days="90")

    for _ in range(2):
        done = admin_client.post(page_of(program), {**form, "confirmed_cards": "1"})
        assert done.status_code == 302

    assert PolicyChange.objects.count() == 1


def wait_until_somebody_waits_for_a_lock() -> None:
    deadline = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            time.sleep(0.02)
    raise AssertionError("nobody waited")


def post_while_somebody_else(client: Client, program: Program, form: dict[str, str], act: Callable[[], Any]) -> int:
    """Post the form while somebody else holds the program, who acts and then lets it go."""

    def post() -> int:
        try:
            return int(client.post(page_of(program), form).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Program.objects.select_for_update().get(pk=program.pk)
            posted = pool.submit(post)
            wait_until_somebody_waits_for_a_lock()
            act()
        return posted.result(timeout=20)


@pytest.mark.django_db(transaction=True)
def test_a_change_that_somebody_else_makes_at_the_same_moment_is_made_once(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, points_expiration_days="365")
    terms = replace(PolicyTerms.of(program), points_expiration_days=365)

    def change() -> None:
        policies.change_policy(program_id=program.pk, terms=terms, actor="bea", at=timezone.now())

    assert post_while_somebody_else(admin_client, program, form, change) == 302
    assert [change.actor for change in PolicyChange.objects.all()] == ["bea"]


@pytest.mark.django_db(transaction=True)
def test_a_rule_that_somebody_else_changes_alike_at_the_same_moment_is_changed_once(admin_client):
    program = make_idle_program()
    form = filled(admin_client, program, name="Gold")

    def change() -> None:
        programs.update_program(program=program, settings={"name": "Gold"})

    assert post_while_somebody_else(admin_client, program, form, change) == 302
    program.refresh_from_db()
    assert (program.name, program.version) == ("Gold", 2)


def test_looking_changes_nothing(admin_client):
    program = make_idle_program()
    before = table_hashes()

    admin_client.get(page_of(program), {"points_expiration_days": "1", "confirmed_cards": "1"})

    assert table_hashes() == before


def test_who_may_only_look_cannot_change(client_for):
    program = make_idle_program()
    client = client_for("loyalty.view_program", managing=[program.merchant])

    assert client.get(page_of(program)).status_code == 200
    assert client.post(page_of(program), {"points_expiration_days": "365"}).status_code == 403
    assert not PolicyChange.objects.exists()


def test_support_looks_at_a_program_and_does_not_change_it(client_for):
    program = make_idle_program()
    client = client_for("loyalty.change_program", supporting=[program.merchant])

    assert client.get(page_of(program)).status_code == 200
    assert client.post(page_of(program), {"points_expiration_days": "365"}).status_code == 403


@pytest.mark.parametrize(("country", "hinted"), [("CA", True), ("LU", False), ("", False)])
def test_canadian_merchants_are_told_of_quebec(country, hinted, admin_client):
    program = make_idle_program()
    Merchant.objects.filter(pk=program.merchant_id).update(country=country)

    field = admin_client.get(page_of(program)).context["adminform"].form.fields["expiration_warning_days"]

    assert ("30 to 60 days" in str(field.help_text)) is hinted


def test_the_page_of_a_program_shows_its_latest_changes(admin_client):
    change = make_policy_change()

    page = admin_client.get(page_of(change.program)).content.decode()

    assert "180 days, warned 14 days before" in page
    assert "365 days, warned 30 days before" in page


def test_every_kind_of_policy_has_words(admin_client):
    program = make_idle_program()
    for terms in (
        PolicyTerms(
            points_expiration_days=None,
            expiration_warning_days=14,
            require_expiration_notice=True,
            expiration_paused_until=None,
        ),
        PolicyTerms(
            points_expiration_days=30,
            expiration_warning_days=0,
            require_expiration_notice=False,
            expiration_paused_until=timezone.now().date() + timedelta(days=900),
        ),
    ):
        policies.change_policy(program_id=program.pk, terms=terms, actor="ana", at=timezone.now(), confirmed_cards=10)

    page = admin_client.get(reverse("admin:loyalty_policychange_changelist")).content.decode()

    assert ">never<" in page
    assert re.search(r"30 days, warned 0 days before, also without a notice, paused until \w+\.? \d+, \d{4}", page)


def test_a_campaign_takes_place_in_stores_of_its_merchant(admin_client):
    merchant, other = make_merchant(), make_merchant()
    form = {
        "program": merchant.program.pk,
        "name": "Spring",
        "multiplier": "2",
        "bonus_points": "0",
        "minimum_purchase_minor": "0",
        "starts_at_0": "2026-03-01",
        "starts_at_1": "00:00",
        "ends_at_0": "2026-04-01",
        "ends_at_1": "00:00",
    }
    add = reverse("admin:loyalty_campaign_add")

    refused = admin_client.post(add, {**form, "stores": [make_store(other).pk]})
    added = admin_client.post(add, {**form, "stores": [make_store(merchant).pk]})

    assert refused.context["adminform"].form.errors["stores"] == ["Choose only stores of the program's merchant."]
    assert added.status_code == 302


def test_a_stock_that_tills_moved_is_not_put_back_by_an_old_page(admin_client):
    reward = make_merchant().program.rewards.create(name="Coffee", points_cost=50, stock=10)
    page = reverse("admin:loyalty_reward_change", args=[reward.pk])
    type(reward).objects.filter(pk=reward.pk).update(stock=9)
    shown = {"name": "Espresso", "points_cost": "50", "stock": "10", "initial-stock": "10", "is_active": "on"}

    admin_client.post(page, {**shown, "stock": "9"})

    reward.refresh_from_db()
    assert (reward.name, reward.stock) == ("Espresso", 9)
