"""Everything that is held about a customer is given out, and nothing about anybody else."""

import json

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry

from loyalty.errors import CustomerNotFound, InvalidInput
from loyalty.models import (
    Campaign,
    Card,
    CardImport,
    CardImportRow,
    Customer,
    ExpirationRun,
    Membership,
    Merchant,
    MerchantChange,
    PolicyChange,
    Program,
    Reward,
    StaffMember,
    StaffSession,
    Store,
    StoreApiKey,
    UserApiKey,
)
from loyalty.services.privacy import export_customer, find_customer, held_about, held_above
from tests.factories import NOON, days, make_card, make_merchant
from tests.loyalty.personal import EMAIL, EXTERNAL_ID, PHONE, SECRETS_OF_PHONE, found, live
from tests.loyalty.runs import table_hashes
from wallet.models import Artwork, Breaker, CallbackNonce, Credential, DeviceLog, GoogleClass, SyncRun

pytestmark = pytest.mark.django_db
LATER = NOON + days(1)
ABOUT_NO_CUSTOMER = {
    Artwork,
    Breaker,
    CallbackNonce,
    Credential,
    DeviceLog,
    GoogleClass,
    SyncRun,
    Campaign,
    Campaign.stores.through,
    CardImport,
    ExpirationRun,
    Membership,
    Merchant,
    MerchantChange,
    PolicyChange,
    Program,
    Reward,
    StaffMember,
    StaffMember.stores.through,
    StaffSession,
    Store,
    StoreApiKey,
    UserApiKey,
}


@pytest.fixture
def life():
    return live()


def export(life):
    return export_customer(merchant=life.merchant, customer_id=life.customer.pk, at=LATER)


def test_every_model_is_exported_or_holds_nothing_about_customers(life):
    ours = {
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in ("loyalty", "wallet", "notifications", "admin")
    }
    card_ids = [life.card.pk]
    exported = {rows.model for rows in (*held_about(life.customer, card_ids), *held_above(card_ids).values())}

    assert exported | ABOUT_NO_CUSTOMER == ours
    assert exported & ABOUT_NO_CUSTOMER == set()


def test_every_table_that_a_trace_was_left_in_gives_out_its_rows(life):
    card_ids = [life.old_card.pk, life.card.pk]
    held = (*held_about(life.customer, card_ids), *held_above(card_ids).values())
    tables = {f"public.{rows.model._meta.db_table}" for rows in held}
    document = export(life)

    assert {place for places in found(life.traces).values() for place in places} <= tables
    assert [name for name, rows in document.items() if not rows] == []
    text = json.dumps(document).lower()
    assert [name for name, trace in life.traces.items() if trace.lower() not in text] == []


def test_the_cards_come_with_all_that_happened_on_them(life):
    document = export(life)

    assert [(card["id"], card["status"], card["balance"]["points_balance"]) for card in document["cards"]] == [
        (life.old_card.pk, "closed", 0),
        (life.card.pk, "active", 34),
    ]
    assert [row["type"] for row in document["transactions"] if row["card_id"] == life.card.pk] == [
        "CARD_CREATED",
        "POINTS_EARNED",
        "POINTS_REDEEMED",
        "ADMIN_ADJUSTMENT",
        "POINTS_EARNED",
        "MERGE_IN",
    ]
    assert [claim["receipt_number"] for claim in document["receipt_claims"]] == ["R1"]
    assert {message["status"] for message in document["messages"]} == {"sent", "dead"}
    assert [line["line"] for line in document["import_lines"]] == [2, 3, 4]


def test_passes_in_phones_come_without_what_opens_them(life):
    document = export(life)

    [wallet_pass] = document["wallet_passes"]
    assert (wallet_pass["card_id"], wallet_pass["platform"]) == (life.card.pk, "apple")
    [registration] = document["wallet_registrations"]
    assert set(registration) == {"id", "wallet_pass_id", "registered_at"}
    assert [failure["code"] for failure in document["wallet_sync_failures"]] == ["http_503"]
    assert [secret for secret in SECRETS_OF_PHONE if secret in json.dumps(document)] == []


def test_it_is_plain_data_and_says_when_it_was_made(life):
    document = export(life)

    assert json.loads(json.dumps(document)) == document
    assert document["exported_at"] == "2026-03-03T12:00:00Z"
    assert document["customer"]["birth_date"] == "1937-11-09"
    assert document["merchant"] == {"id": life.merchant.pk, "name": life.merchant.name}


def test_nothing_about_anybody_else_is_given_out(life):
    stranger = make_card(life.merchant, points=5, email="ben@example.com", first_name="Benstranger")
    elsewhere = CardImport.objects.create(merchant=make_merchant(), file_name="f", sha256="b" * 64, actor="ana")
    CardImportRow.objects.create(card_import=elsewhere, line=1, email=EMAIL, first_name="Elsewhere")
    user_id = LogEntry.objects.values_list("user_id", flat=True)[0]
    LogEntry.objects.create(user_id=user_id, object_id=str(life.card.pk), object_repr="Otherthing", action_flag=1)

    text = json.dumps(export(life))

    assert all(word not in text for word in ("ben@example.com", "Benstranger", "Elsewhere", "Otherthing"))
    assert str(life.friend.card_number) not in text
    assert f'"card_id": {stranger.pk}' not in text


def test_a_customer_without_contacts_gets_no_lines_of_others(life):
    nobody = make_card(life.merchant, email="", first_name="Nobody")
    CardImportRow.objects.create(card_import=CardImport.objects.get(), line=20, first_name="Empty")

    document = export_customer(merchant=life.merchant, customer_id=nobody.customer_id, at=LATER)

    assert document["import_lines"] == []


def test_exporting_changes_nothing(life):
    before = table_hashes()
    export(life)

    assert table_hashes() == before


def test_a_customer_of_another_merchant_is_unknown(life):
    for merchant, customer_id in ((make_merchant(), life.customer.pk), (life.merchant, 10**12)):
        with pytest.raises(CustomerNotFound):
            export_customer(merchant=merchant, customer_id=customer_id, at=LATER)


def test_a_customer_is_found_by_what_people_read_out(life):
    grouped = " ".join([life.card.card_number[:4], life.card.card_number[4:8], life.card.card_number[8:]])

    for name in (str(life.customer.pk), EMAIL.upper(), PHONE, "+352 621 777 333", life.old_card.card_number, grouped):
        assert find_customer(merchant=life.merchant, name=name) == life.customer


@pytest.mark.parametrize(
    "name", ["", " ", "Canariafirst", EXTERNAL_ID, "nobody@example.com", "@", "+352621000000", "000000000000", "9" * 40]
)
def test_who_is_not_there_is_not_found(life, name):
    with pytest.raises(CustomerNotFound):
        find_customer(merchant=life.merchant, name=name)


@pytest.mark.parametrize("name", ["caf\udcff", "a\0b", "²"])
def test_what_is_no_text_is_not_found(life, name):
    with pytest.raises(CustomerNotFound):
        find_customer(merchant=life.merchant, name=name)


def test_a_number_that_is_no_phone_number_is_refused(life):
    with pytest.raises(InvalidInput):
        find_customer(merchant=life.merchant, name="+1")


def test_nobody_is_found_at_another_merchant(life):
    other = make_merchant()

    for name in (str(life.customer.pk), EMAIL, PHONE, life.card.card_number):
        with pytest.raises(CustomerNotFound):
            find_customer(merchant=other, name=name)
    assert Customer.objects.filter(merchant=other).count() == 0
    assert Card.objects.of(other).count() == 0
