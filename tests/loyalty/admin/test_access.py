import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.urls import reverse

from loyalty.models import (
    CardImport,
    Customer,
    ExemptionChange,
    ExpirationRun,
    IdempotencyKey,
    Membership,
    Merchant,
    PolicyChange,
    ReceiptClaim,
    Reward,
    StaffMember,
    StaffSession,
    Store,
    StoreApiKey,
    Transaction,
    UserApiKey,
)
from loyalty_site.models import JobRun
from tests.factories import make_card, make_merchant, make_reward, make_store
from tests.loyalty.admin.rows import MAKERS, make_staff_member, make_user, make_user_key
from tests.loyalty.runs import table_hashes

pytestmark = pytest.mark.django_db

OURS = sorted(
    (model for model in admin.site._registry if model._meta.app_label in ("loyalty", "loyalty_site")),
    key=lambda model: model._meta.label,
)
WRITTEN_BY_VERBS = [
    CardImport,
    ExemptionChange,
    ExpirationRun,
    IdempotencyKey,
    JobRun,
    PolicyChange,
    ReceiptClaim,
    StaffSession,
    Transaction,
]
every_model = pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)


def page(model, name: str, *args) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


@pytest.mark.parametrize("model", WRITTEN_BY_VERBS, ids=lambda model: model._meta.label)
def test_what_verbs_write_nobody_edits(model, admin_client):
    row = MAKERS[model]()
    before = table_hashes()

    assert admin_client.get(page(model, "add")).status_code == 403
    assert admin_client.post(page(model, "add"), {}).status_code == 403
    assert admin_client.post(page(model, "change", row.pk), {"reason": "x"}).status_code == 403
    assert table_hashes() == before


@every_model
def test_nothing_with_a_history_is_deleted(model, admin_client):
    row = MAKERS[model]()
    selected = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}

    answer = admin_client.post(page(model, "delete", row.pk), {"post": "yes"})
    admin_client.post(page(model, "changelist"), selected)

    if model is Membership:
        assert answer.status_code == 302
    else:
        assert answer.status_code == 403
        assert model._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", [StoreApiKey, UserApiKey, StaffSession, StaffMember])
def test_no_secret_is_ever_shown(model, admin_client):
    row = MAKERS[model]()
    secret = getattr(row, "key_hash", "") or getattr(row, "token_hash", "") or getattr(row, "pin_hash", "")

    for path in (page(model, "changelist"), page(model, "change", row.pk)):
        assert secret not in admin_client.get(path).content.decode()


def test_a_pin_cannot_be_typed(admin_client):
    member = make_staff_member()

    admin_client.post(
        page(StaffMember, "change", member.pk),
        {"display_name": "Bea", "role": "manager", "pin_hash": "mine", "failed_attempts": "0", "is_active": "on"},
    )

    member.refresh_from_db()
    assert (member.role, member.pin_hash) == ("manager", "scrypt$secret")


def test_the_qr_token_which_opens_a_customer_s_page_is_not_shown(admin_client):
    card = make_card()

    assert card.qr_token not in admin_client.get(page(type(card), "change", card.pk)).content.decode()


@every_model
def test_staff_without_permissions_see_nothing(model, client_for):
    row = MAKERS[model]()
    client = client_for()

    assert client.get(page(model, "changelist")).status_code == 403
    assert client.get(page(model, "change", row.pk)).status_code == 403


@pytest.mark.parametrize("model", [model for model in OURS if model is not JobRun], ids=lambda model: model._meta.label)
def test_staff_never_see_rows_of_a_merchant_that_they_do_not_look_after(model, client_for):
    row = MAKERS[model]()
    client = client_for(f"loyalty.view_{model._meta.model_name}", managing=[make_merchant()])

    rows = client.get(page(model, "changelist")).context["cl"].result_list
    assert row not in rows
    opened = client.get(page(model, "change", row.pk))
    assert (opened.status_code, opened.url) == (302, "/admin/")


@pytest.mark.parametrize("role", ["managing", "supporting"])
def test_staff_see_rows_of_their_merchants(role, client_for):
    card = make_card()
    client = client_for("loyalty.view_card", "loyalty.view_customer", **{role: [card.program.merchant]})

    for row in (card, card.customer):
        assert list(client.get(page(type(row), "changelist")).context["cl"].result_list) == [row]
        assert client.get(page(type(row), "change", row.pk)).status_code == 200


def test_a_search_does_not_reach_into_foreign_merchants(client_for):
    card = make_card(email="ana@example.com")
    client = client_for("loyalty.view_card", "loyalty.view_transaction", managing=[make_merchant()])

    for model in (type(card), Transaction):
        for text in ("ana@example.com", card.card_number, card.qr_token):
            assert not client.get(page(model, "changelist"), {"q": text}).context["cl"].result_list


def test_the_filter_names_no_foreign_merchants(client_for):
    own, second, foreign = make_merchant(), make_merchant(), make_merchant()
    client = client_for("loyalty.view_card", managing=[own, second])

    shown = client.get(page(type(make_card(own)), "changelist")).content.decode()

    assert own.name in shown
    assert foreign.name not in shown


def test_suggestions_name_no_foreign_merchants(client_for):
    own, _foreign = make_merchant(), make_merchant()
    client = client_for("loyalty.add_store", "loyalty.view_store", "loyalty.view_merchant", managing=[own])
    field = {"app_label": "loyalty", "model_name": "store", "field_name": "merchant"}

    for term in ("", "shop", "a\0b"):
        found = client.get("/admin/autocomplete/", {**field, "term": term}).json()["results"]
        assert [suggestion["id"] for suggestion in found] in ([str(own.pk)], [])


def test_the_filter_by_merchant_keeps_only_its_rows(admin_client):
    card, other = make_card(), make_card()

    for row in (card, card.customer, card.program, card.transactions.get()):
        filtered = admin_client.get(page(type(row), "changelist"), {"merchant": card.program.merchant_id})
        assert list(filtered.context["cl"].result_list) == [row]
    assert other.program.merchant_id != card.program.merchant_id


def test_a_role_for_one_merchant_is_none_for_another(client_for):
    managed, supported = make_merchant(), make_merchant()
    client = client_for("loyalty.change_store", managing=[managed], supporting=[supported])
    form = {"name": "Corner", "code": "corner", "is_active": "on"}

    for merchant, status in ((managed, 302), (supported, 403)):
        store = make_store(merchant)
        assert client.post(page(Store, "change", store.pk), form).status_code == status
        store.refresh_from_db()
        assert (store.name == "Corner") is (status == 302)


def test_another_s_manager_role_does_not_help_support(client_for):
    merchant = make_merchant()
    client_for(managing=[merchant])  # somebody else manages it
    client = client_for("loyalty.change_store", supporting=[merchant])

    assert client.post(page(Store, "change", make_store(merchant).pk), {}).status_code == 403


@pytest.mark.parametrize(
    ("model", "relation", "form"),
    [
        (Store, "merchant", {"name": "Corner", "code": "corner"}),
        (Reward, "program", {"name": "Coffee", "points_cost": "50"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_rows_are_added_to_managed_merchants_only(model, relation, form, client_for):
    managed, supported, foreign = make_merchant(), make_merchant(), make_merchant()
    client = client_for(f"loyalty.add_{model._meta.model_name}", managing=[managed], supporting=[supported])

    def add_to(merchant: Merchant) -> int:
        target = merchant if relation == "merchant" else merchant.program
        return int(client.post(page(model, "add"), {**form, relation: target.pk}).status_code)

    assert [add_to(merchant) for merchant in (supported, foreign, managed)] == [200, 200, 302]
    assert model._default_manager.count() == 1


def test_a_staff_member_works_in_stores_of_the_own_merchant(admin_client):
    merchant = make_merchant()
    form = {"merchant": merchant.pk, "display_name": "Bea", "role": "cashier"}

    refused = admin_client.post(page(StaffMember, "add"), {**form, "stores": [make_store().pk]})
    added = admin_client.post(page(StaffMember, "add"), {**form, "stores": [make_store(merchant).pk]})

    assert refused.context["form"].errors["stores"] == ["Choose only stores of the same merchant."]
    assert added.status_code == 200
    assert StaffMember.objects.get().stores.get().merchant == merchant


def test_everybody_sees_their_own_keys_and_platform_admins_all(admin_client, client_for):
    key = make_user_key()
    client = client_for("loyalty.view_userapikey")

    assert not client.get(page(UserApiKey, "changelist")).context["cl"].result_list
    client.force_login(key.user)
    key.user.is_staff = True
    key.user.save()
    key.user.user_permissions.add(Permission.objects.get(codename="view_userapikey"))
    assert list(client.get(page(UserApiKey, "changelist")).context["cl"].result_list) == [key]
    assert list(admin_client.get(page(UserApiKey, "changelist")).context["cl"].result_list) == [key]


def test_a_membership_is_given_and_taken_away(admin_client):
    user, merchant = make_user(), make_merchant()
    form = {"user": user.pk, "merchant": merchant.pk, "role": "support"}

    admin_client.post(page(Membership, "add"), form)
    twice = admin_client.post(page(Membership, "add"), form)
    membership = Membership.objects.get()
    admin_client.post(page(Membership, "delete", membership.pk), {"post": "yes"})

    assert "already exists" in str(twice.context["adminform"].form.errors)
    assert not Membership.objects.exists()


def test_only_managers_take_memberships_of_their_merchant_away(client_for):
    merchant = make_merchant()
    membership = Membership.objects.create(user=make_user(), merchant=merchant, role="support")
    permissions = ("loyalty.view_membership", "loyalty.change_membership", "loyalty.delete_membership")
    support, manager = client_for(*permissions, supporting=[merchant]), client_for(*permissions, managing=[merchant])

    assert support.post(page(Membership, "delete", membership.pk), {"post": "yes"}).status_code == 403
    assert manager.post(page(Membership, "delete", membership.pk), {"post": "yes"}).status_code == 302


def test_only_platform_admins_open_merchants(client_for, admin_client):
    form = {"name": "New", "slug": "new", "timezone": "UTC", "currency": "EUR", "locale": "en", "is_active": "on"}

    assert client_for("loyalty.add_merchant").post(page(Merchant, "add"), form).status_code == 403
    assert admin_client.post(page(Merchant, "add"), form).status_code == 302


def test_a_merchant_s_currency_is_fixed_by_its_first_transaction(admin_client):
    merchant = make_merchant()
    form = {"name": "Shop", "slug": "shop", "timezone": "UTC", "currency": "CHF", "locale": "en", "is_active": "on"}

    admin_client.post(page(Merchant, "change", merchant.pk), form)
    merchant.refresh_from_db()
    assert merchant.currency == "CHF"

    make_card(merchant)
    admin_client.post(page(Merchant, "change", merchant.pk), {**form, "currency": "EUR", "name": "Shop 2"})
    merchant.refresh_from_db()
    assert (merchant.currency, merchant.name) == ("CHF", "Shop 2")


@pytest.mark.parametrize(
    ("field", "value"), [("timezone", "Mars/Olympus"), ("currency", "XXQ"), ("country", "lu"), ("slug", "a b")]
)
def test_a_merchant_is_checked_before_it_is_saved(field, value, admin_client):
    form = {"name": "New", "slug": "new", "timezone": "UTC", "currency": "EUR", "locale": "en", field: value}

    page_again = admin_client.post(page(Merchant, "add"), form)

    assert field in page_again.context["adminform"].form.errors


def test_a_store_code_that_is_taken_is_told_in_the_form(admin_client):
    store = make_store(code="one")
    second = make_store(store.merchant, code="two")

    page_again = admin_client.post(page(Store, "change", second.pk), {"name": "Corner", "code": "one"})

    assert "Store with this Merchant and Code already exists." in str(page_again.context["adminform"].form.errors)


def customer_form(customer: Customer, **fields: str) -> dict[str, str]:
    kept = ("first_name", "last_name", "email", "phone", "locale", "external_id")
    return {**{name: getattr(customer, name) for name in kept}, **fields}


def test_a_customer_s_contact_is_kept_in_its_one_form(admin_client):
    card = make_card()
    Merchant.objects.filter(pk=card.program.merchant_id).update(country="LU")
    form = customer_form(card.customer, email=" Ana@example.com ", phone="621 123 456")

    admin_client.post(page(Customer, "change", card.customer_id), form)

    card.customer.refresh_from_db()
    assert (card.customer.email, card.customer.phone) == ("Ana@example.com", "+352621123456")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"email": "BEA@example.com"}, "Another customer of this merchant has this e-mail address."),
        ({"phone": "+352 621 123 457"}, "Another customer of this merchant has this phone number."),
        ({"external_id": "X8"}, "Another customer of this merchant has this external id."),
        ({"email": "nobody"}, "Enter a valid email address."),
        ({"phone": "12"}, "This is not a phone number, such as +352 621 123 456."),
    ],
)
def test_what_a_customer_cannot_have_is_told_in_the_form(fields, sentence, admin_client):
    merchant = make_merchant()
    make_card(merchant, email="bea@example.com", phone="+352621123457", external_id="X8")
    customer = make_card(merchant, email="ana@example.com").customer

    page_again = admin_client.post(page(Customer, "change", customer.pk), customer_form(customer, **fields))

    assert sentence in str(page_again.context["adminform"].form.errors)


def test_the_same_address_at_another_merchant_is_no_conflict(admin_client):
    make_card(email="bea@example.com")
    customer = make_card().customer

    form = customer_form(customer, email="bea@example.com")
    assert admin_client.post(page(Customer, "change", customer.pk), form).status_code == 302


def test_an_erased_customer_is_not_filled_in_again(admin_client):
    customer = make_card().customer
    Customer.objects.filter(pk=customer.pk).update(erased_at=customer.created_at)

    assert admin_client.post(page(Customer, "change", customer.pk), {"first_name": "Ana"}).status_code == 403


def test_a_merchant_s_page_leads_to_its_rows(admin_client):
    merchant = make_reward(make_merchant()).program.merchant

    shown = admin_client.get(page(Merchant, "change", merchant.pk)).content.decode()

    for model in ("store", "card", "customer", "transaction", "expirationrun", "staffmember"):
        assert f'<a href="/admin/loyalty/{model}/?merchant={merchant.pk}">' in shown
