"""Merchants, stores and memberships: set up, changed, and who may not."""

import threading
from collections import Counter
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from structlog.testing import capture_logs

from loyalty.errors import (
    AlreadyMember,
    CurrencyFixed,
    InvalidInput,
    LoyaltyError,
    MembershipNotFound,
    MerchantExists,
    NothingToChange,
    OwnMembership,
    StoreExists,
    StoreNotFound,
    UserNotFound,
)
from loyalty.models import Membership, Merchant, Program, Store
from loyalty.services import setting_up
from tests.factories import NOON, make_card, make_merchant, make_store
from tests.fakes.celery_process import wait_until
from tests.loyalty.parallel import in_parallel

pytestmark = pytest.mark.django_db
BY: dict[str, Any] = {"actor": "ana", "at": NOON}
BAKERY: dict[str, Any] = {"name": "Bakery", "slug": "bakery", "timezone": "Europe/Luxembourg", "currency": "EUR"}


def create(**values) -> Merchant:
    return setting_up.create_merchant(**{**BAKERY, **values}, **BY)


def make_user(name: str = "bea", **fields) -> User:
    return User.objects.create_user(name, **fields)


def make_membership(role: str = "support", username: str = "bea") -> Membership:
    return Membership.objects.create(user=make_user(username), merchant=make_merchant(), role=role)


def test_a_merchant_is_taken_in_without_a_program():
    with capture_logs() as logs:
        merchant = create(country="LU", locale="fr", support_email="hello@bakery.example")

    merchant.refresh_from_db()
    assert (merchant.name, merchant.slug, merchant.timezone) == ("Bakery", "bakery", "Europe/Luxembourg")
    assert (merchant.currency, merchant.country, merchant.locale) == ("EUR", "LU", "fr")
    assert merchant.support_email == "hello@bakery.example"
    assert merchant.is_active
    assert not Program.objects.filter(merchant=merchant).exists()
    assert [(log["event"], log["merchant_id"]) for log in logs] == [("loyalty.merchant_created", merchant.pk)]


def test_what_is_not_said_of_a_merchant_has_a_default():
    merchant = create()

    assert (merchant.country, merchant.locale, merchant.support_email) == ("", "en", "")


def test_a_slug_names_one_merchant():
    create()

    with pytest.raises(MerchantExists, match="Choose another slug"):
        create(name="Another")


BAD_VALUES = [
    ("name", ""),
    ("name", "   "),
    ("name", "x" * 121),
    ("name", "two\nlines"),
    ("name", "nul\x00"),
    ("name", "half \ud800"),
    ("timezone", "Mars/Olympus"),
    ("timezone", "localtime"),
    ("timezone", "europe/luxembourg"),
    ("timezone", ""),
    ("currency", "eur"),
    ("currency", "XXQ"),
    ("currency", "EURO"),
    ("country", "lu"),
    ("country", "LUX"),
    ("locale", ""),
    ("locale", "français"),
    ("locale", "fr_"),
    ("locale", "x" * 17),
    ("support_email", "nobody"),
    ("support_email", "a@b.example\nBcc: all@example.com"),
]


@pytest.mark.parametrize(("field", "value"), [*BAD_VALUES, ("slug", "a b"), ("slug", ""), ("slug", "bäckerei")])
def test_a_value_that_cannot_be_used_takes_in_no_merchant(field, value):
    with pytest.raises(InvalidInput) as refusal:
        create(**{field: value})

    assert refusal.value.details["field"] == field
    assert not Merchant.objects.exists()


@pytest.mark.parametrize(("field", "value"), BAD_VALUES)
def test_a_value_that_cannot_be_used_changes_no_merchant(field, value):
    merchant = make_merchant()
    before = Merchant.objects.values().get()

    with pytest.raises(InvalidInput) as refusal:
        setting_up.update_merchant(merchant=merchant, **{field: value}, **BY)

    assert refusal.value.details["field"] == field
    assert Merchant.objects.values().get() == before


def test_a_merchant_is_changed_only_in_what_is_given():
    merchant = create(country="LU", support_email="hello@bakery.example")

    with capture_logs() as logs:
        setting_up.update_merchant(merchant=merchant, name=" Bakery & Sons ", country="", **BY)

    merchant.refresh_from_db()
    assert (merchant.name, merchant.country) == ("Bakery & Sons", "")
    assert (merchant.slug, merchant.timezone) == ("bakery", "Europe/Luxembourg")
    assert merchant.support_email == "hello@bakery.example"
    assert [(log["event"], log["fields"]) for log in logs] == [("loyalty.merchant_changed", ["country", "name"])]


def test_a_merchant_that_is_like_this_already_has_nothing_to_change():
    merchant = create()

    same: list[dict[str, Any]] = [{}, {"name": "Bakery"}, {"currency": "EUR", "locale": "en"}]
    for values in same:
        with pytest.raises(NothingToChange):
            setting_up.update_merchant(merchant=merchant, **values, **BY)


def test_a_currency_changes_until_there_is_a_transaction():
    merchant = make_merchant(currency="EUR")
    assert setting_up.update_merchant(merchant=merchant, currency="CHF", **BY).currency == "CHF"

    make_card(merchant)

    with pytest.raises(CurrencyFixed) as refusal:
        setting_up.update_merchant(merchant=merchant, currency="EUR", name="Renamed", **BY)
    merchant.refresh_from_db()
    assert (refusal.value.details["field"], merchant.currency) == ("currency", "CHF")
    assert merchant.name != "Renamed"


def test_the_same_currency_may_be_sent_along_for_ever():
    merchant = make_card().program.merchant

    assert setting_up.update_merchant(merchant=merchant, currency="EUR", name="Renamed", **BY).name == "Renamed"


@pytest.mark.django_db(transaction=True)
def test_no_first_card_is_given_out_while_the_currency_changes():
    merchant = make_merchant(currency="EUR")
    given_out: list[str] = []

    def give_out() -> None:
        try:
            make_card(merchant)
            given_out.append(Merchant.objects.get(pk=merchant.pk).currency)
        finally:
            connection.close()

    till = threading.Thread(target=give_out)
    with transaction.atomic():
        setting_up.update_merchant(merchant=merchant, currency="JPY", **BY)
        till.start()
        wait_until(somebody_waits)
        assert not given_out
    till.join(30)

    assert given_out == ["JPY"]
    with pytest.raises(CurrencyFixed):
        setting_up.update_merchant(merchant=merchant, currency="EUR", **BY)


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_no_card_waits_for_other_changes():
    merchant = make_merchant()
    names: list[str] = []
    with transaction.atomic():
        setting_up.update_merchant(merchant=merchant, name="Renamed", **BY)
        in_parallel(lambda n: names.append(make_card(merchant).program.merchant.name), 2)

    assert set(names) == {merchant.name} != {"Renamed"}


@pytest.mark.parametrize("changed", [{"timezone": "Pacific/Honolulu"}, {"name": "Renamed"}])
def test_what_cards_show_and_runs_count_by_is_seen_to_have_changed(changed):
    merchant = make_merchant(timezone="UTC")
    version = merchant.program.version

    setting_up.update_merchant(merchant=merchant, country="LU", **BY)
    assert Program.objects.get(merchant=merchant).version == version

    setting_up.update_merchant(merchant=merchant, **changed, **BY)
    assert Program.objects.get(merchant=merchant).version == version + 1


def test_a_store_is_opened_and_changed():
    merchant = make_merchant()

    with capture_logs() as logs:
        store = setting_up.create_store(merchant=merchant, name=" Main Street ", code="main", **BY)
        setting_up.update_store(merchant=merchant, store_id=store.pk, is_active=False, throttle_factor=0, **BY)

    store.refresh_from_db()
    assert (store.merchant, store.name, store.code) == (merchant, "Main Street", "main")
    assert (store.is_active, store.throttle_factor) == (False, 0)
    assert [log["event"] for log in logs] == ["loyalty.store_created", "loyalty.store_changed"]
    assert {log["store_id"] for log in logs} == {store.pk}


def test_a_store_changes_only_in_what_is_given():
    store = make_store(code="one", throttle_factor=3)

    changed = setting_up.update_store(merchant=store.merchant, store_id=store.pk, code="two", **BY)

    assert (changed.name, changed.code, changed.is_active, changed.throttle_factor) == ("Main Street", "two", True, 3)
    for values in ({}, {"code": "two"}, {"is_active": True}):
        with pytest.raises(NothingToChange):
            setting_up.update_store(merchant=store.merchant, store_id=store.pk, **values, **BY)


def test_a_code_names_one_store_of_a_merchant():
    store = make_store(code="one")
    second = make_store(store.merchant, code="two")

    for code in ("one", " one "):
        with pytest.raises(StoreExists) as refusal:
            setting_up.create_store(merchant=store.merchant, name="Corner", code=code, **BY)
        with pytest.raises(StoreExists):
            setting_up.update_store(merchant=store.merchant, store_id=second.pk, code=code, **BY)
        assert refusal.value.details["field"] == "code"
    assert setting_up.create_store(merchant=make_merchant(), name="Corner", code="one", **BY).code == "one"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 121),
        ("name", "bell \x07"),
        ("code", ""),
        ("code", "a b"),
        ("code", "x" * 41),
        ("code", "größe"),
        ("throttle_factor", -1),
        ("throttle_factor", 32_768),
    ],
)
def test_a_value_that_no_store_can_have_is_refused(field, value):
    store = make_store()

    with pytest.raises(InvalidInput) as creating:
        setting_up.create_store(merchant=store.merchant, **{"name": "Corner", "code": "corner", field: value}, **BY)
    with pytest.raises(InvalidInput) as changing:
        setting_up.update_store(merchant=store.merchant, store_id=store.pk, **{field: value}, **BY)

    assert creating.value.details["field"] == changing.value.details["field"] == field
    assert Store.objects.get() == store


def test_a_store_of_another_merchant_is_not_known():
    store = make_store()

    with pytest.raises(StoreNotFound):
        setting_up.update_store(merchant=make_merchant(), store_id=store.pk, name="Mine", **BY)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_take_one_name_one_gets_it():
    merchant, user = make_merchant(), make_user()
    outcomes: list[str] = []

    def work(n: int) -> None:
        for verb, values in (
            (setting_up.create_merchant, BAKERY),
            (setting_up.create_store, {"merchant": merchant, "name": "Corner", "code": "corner"}),
            (setting_up.add_membership, {"merchant": merchant, "username": "bea", "role": "support"}),
        ):
            try:
                outcomes.append(type(verb(**values, **BY)).__name__)
            except LoyaltyError as refusal:
                outcomes.append(refusal.code)

    in_parallel(work, 4)

    assert Counter(outcomes) == {
        "Merchant": 1,
        "merchant_exists": 3,
        "Store": 1,
        "store_exists": 3,
        "Membership": 1,
        "already_member": 3,
    }
    assert Membership.objects.get().user == user


def test_a_user_is_given_a_membership_by_exact_name():
    user, merchant = make_user(), make_merchant()

    with capture_logs() as logs:
        membership = setting_up.add_membership(merchant=merchant, username="bea", role="support", **BY)

    assert (membership.user, membership.merchant, membership.role) == (user, merchant, "support")
    assert logs == [
        {
            "event": "loyalty.membership_added",
            "log_level": "info",
            "merchant_id": merchant.pk,
            "membership_id": membership.pk,
            "role": "support",
        }
    ]


@pytest.mark.parametrize("username", ["be", "BEA", "nobody", "gone", "root", ""])
def test_who_cannot_be_a_member_is_as_unknown_as_nobody(username):
    merchant = make_merchant()
    make_user("bea")
    make_user("gone", is_active=False)
    make_user("root", is_superuser=True)

    with capture_logs() as logs, pytest.raises(UserNotFound) as refusal:
        setting_up.add_membership(merchant=merchant, username=username, role="support", **BY)

    assert refusal.value.sentence == "There is no user of this name who can be given a membership."
    assert refusal.value.details == {"field": "username"}
    assert logs == [{"event": "loyalty.membership_refused", "log_level": "warning", "merchant_id": merchant.pk}]
    assert not Membership.objects.exists()


@pytest.mark.parametrize("role", ["", "owner", "MANAGER", "x" * 100])
def test_an_unknown_role_is_refused(role):
    membership = make_membership()
    make_user("kim")

    with pytest.raises(InvalidInput) as refusal:
        setting_up.add_membership(merchant=membership.merchant, username="kim", role=role, **BY)
    with pytest.raises(InvalidInput):
        setting_up.change_membership(merchant=membership.merchant, membership_id=membership.pk, role=role, **BY)

    assert refusal.value.details["field"] == "role"
    assert Membership.objects.get().role == "support"


def test_a_user_has_one_membership_of_a_merchant():
    membership = make_membership()

    with pytest.raises(AlreadyMember):
        setting_up.add_membership(merchant=membership.merchant, username="bea", role="manager", **BY)
    assert setting_up.add_membership(merchant=make_merchant(), username="bea", role="manager", **BY).role == "manager"
    membership.refresh_from_db()
    assert membership.role == "support"


def test_a_membership_is_changed_and_taken_away():
    membership = make_membership("support")
    named: dict[str, Any] = {"merchant": membership.merchant, "membership_id": membership.pk}

    with capture_logs() as logs:
        assert setting_up.change_membership(**named, role="manager", **BY).role == "manager"
        with pytest.raises(NothingToChange):
            setting_up.change_membership(**named, role="manager", **BY)
        setting_up.remove_membership(**named, **BY)

    assert not Membership.objects.exists()
    assert User.objects.filter(username="bea").exists()
    assert [log["event"] for log in logs] == ["loyalty.membership_changed", "loyalty.membership_removed"]


@pytest.mark.parametrize("role", ["manager", "support"])
def test_nobody_changes_or_removes_their_own_membership(role):
    membership = make_membership(role, username="ana")
    named: dict[str, Any] = {"merchant": membership.merchant, "membership_id": membership.pk}

    with pytest.raises(OwnMembership):
        setting_up.change_membership(**named, role="manager", **BY)
    with pytest.raises(OwnMembership):
        setting_up.remove_membership(**named, **BY)

    membership.refresh_from_db()
    assert membership.role == role


def test_a_membership_of_another_merchant_is_not_known():
    membership = make_membership()
    named: dict[str, Any] = {"merchant": make_merchant(), "membership_id": membership.pk}

    with pytest.raises(MembershipNotFound):
        setting_up.change_membership(**named, role="manager", **BY)
    with pytest.raises(MembershipNotFound):
        setting_up.remove_membership(**named, **BY)
    assert Membership.objects.get().role == "support"
