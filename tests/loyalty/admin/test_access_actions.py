"""Keys and PINs in the admin: handed out once, taken away with a button."""

import re

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.models import StaffMember, StaffSession, StoreApiKey, UserApiKey
from loyalty.services import keys
from tests.factories import make_merchant, make_store
from tests.loyalty.admin.rows import make_staff_member, make_store_key, make_user, make_user_key
from tests.loyalty.runs import table_hashes
from tests.loyalty.staff_members import PIN, add, lets_in, lock, refused, sign_in, state

pytestmark = pytest.mark.django_db
ISSUERS = [StoreApiKey, UserApiKey, StaffMember]


def page(model, name: str, *args) -> str:
    return reverse(f"admin:loyalty_{model._meta.model_name}_{name.replace('-', '_')}", args=args)


def secret_of(answer) -> str:
    """The one secret that a page shows."""
    assert answer.status_code == 200
    [secret] = re.findall(r'<code id="secret">(.+?)</code>', answer.content.decode())
    return str(secret)


def key_form(store=None, **answers) -> dict[str, object]:
    return {
        "label": "Till 1",
        "expires_at_0": "",
        "expires_at_1": "",
        **({"store": store.pk} if store else {}),
        **answers,
    }


def staff_form(merchant, **answers) -> dict[str, object]:
    return {"merchant": merchant.pk, "display_name": "Bea", "role": "cashier", "pin": "", **answers}


def form_for(model) -> dict[str, object]:
    if model is StaffMember:
        return staff_form(make_merchant())
    return key_form(make_store()) if model is StoreApiKey else key_form(user=make_user().pk)


def buttons(client: Client, thing) -> list[str]:
    return [button["label"] for button in client.get(page(type(thing), "change", thing.pk)).context["buttons"]]


# Handing out


def test_a_key_for_a_till_is_shown_on_the_page_that_answers(admin_client):
    store = make_store()

    key = secret_of(
        admin_client.post(page(StoreApiKey, "add"), key_form(store, expires_at_0="2099-01-31", expires_at_1="08:00"))
    )

    found = keys.till_signed_in(key=key, session_token=None, at=timezone.now())
    assert found
    assert (found.store, found.label) == (store, "Till 1")
    assert f"{StoreApiKey.objects.get().expires_at:%Y-%m-%d %H:%M}" == "2099-01-31 08:00"


def test_everybody_makes_keys_of_their_own_only(client_for):
    other = make_user()
    client = client_for("loyalty.add_userapikey", "loyalty.view_userapikey")
    assert "user" not in client.get(page(UserApiKey, "add")).context["form"].fields

    key = secret_of(client.post(page(UserApiKey, "add"), key_form(user=other.pk)))

    found = keys.user_signed_in(key=key, at=timezone.now())
    assert found
    assert found.user.pk == int(client.session["_auth_user_id"])


def test_platform_admins_make_keys_for_any_user(admin_client):
    user = make_user()

    key = secret_of(admin_client.post(page(UserApiKey, "add"), key_form(user=user.pk)))

    found = keys.user_signed_in(key=key, at=timezone.now())
    assert found
    assert found.user == user


@pytest.mark.parametrize("chosen", ["", "4711"])
def test_a_new_staff_member_s_pin_is_shown_on_the_page_that_answers(chosen, admin_client):
    store = make_store()

    pin = secret_of(
        admin_client.post(page(StaffMember, "add"), staff_form(store.merchant, stores=[store.pk], pin=chosen))
    )

    member = StaffMember.objects.get()
    assert (member.display_name, list(member.stores.all()), member.is_active) == ("Bea", [store], True)
    assert lets_in(store, member, pin)
    assert pin == chosen or (not chosen and len(pin) == 6)


@pytest.mark.parametrize("model", ISSUERS)
def test_a_page_that_shows_a_secret_is_kept_by_no_browser_and_by_no_message(model, admin_client):
    answer = admin_client.post(page(model, "add"), form_for(model))

    assert secret_of(answer)
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.cookies.keys() <= {"csrftoken"}
    assert not list(answer.context["messages"])


@pytest.mark.parametrize("model", ISSUERS)
def test_who_handed_it_out_is_in_the_history(model, admin_client):
    admin_client.post(page(model, "add"), form_for(model))

    history = admin_client.get(page(model, "history", model.objects.get().pk)).content.decode()

    assert "Issued." in history


@pytest.mark.parametrize(
    ("model", "answers", "sentence"),
    [
        (StoreApiKey, {"label": ""}, "This field is required."),
        (StoreApiKey, {"label": "a\x07b"}, "This holds characters that are no text."),
        (StoreApiKey, {"store": "0"}, "Select a valid choice."),
        (StoreApiKey, {"expires_at_0": "2020-01-31", "expires_at_1": "08:00"}, "This moment is over"),
        (UserApiKey, {"expires_at_0": "soon"}, "Enter a valid date."),
        (UserApiKey, {"label": "x" * 81}, "at most 80 characters"),
        (StaffMember, {"pin": "123456"}, "too easy to guess"),
        (StaffMember, {"pin": "12"}, "A PIN has 4 to 12 digits"),
        (StaffMember, {"pin": "7" * 13}, "at most 12 characters"),
        (StaffMember, {"role": "owner"}, "Select a valid choice."),
        (StaffMember, {"display_name": "B\x07ea"}, "This holds characters that are no text."),
    ],
)
def test_what_cannot_be_made_is_told_in_the_form(model, answers, sentence, admin_client):
    form = {**form_for(model), **answers}
    before = table_hashes()

    again = admin_client.post(page(model, "add"), form)

    assert again.status_code == 200
    assert sentence in str(again.context["form"].errors)
    assert table_hashes() == before


def test_a_user_who_is_switched_off_gets_no_key(admin_client):
    again = admin_client.post(page(UserApiKey, "add"), key_form(user=make_user(is_active=False).pk))

    assert "This user is switched off" in str(again.context["form"].errors["user"])


@pytest.mark.parametrize("model", ISSUERS)
def test_looking_at_the_form_changes_nothing(model, admin_client):
    before = table_hashes()

    assert admin_client.get(page(model, "add")).status_code == 200
    assert table_hashes() == before


@pytest.mark.parametrize("model", ISSUERS)
def test_who_may_only_look_hands_out_nothing(model, client_for):
    form = form_for(model)
    client = client_for(f"loyalty.view_{model._meta.model_name}", managing=[make_merchant()])

    assert client.get(page(model, "add")).status_code == 403
    assert client.post(page(model, "add"), form).status_code == 403
    assert not model.objects.exists()


@pytest.mark.parametrize("model", [StoreApiKey, StaffMember])
def test_keys_and_pins_are_handed_out_for_managed_merchants_only(model, client_for):
    managed, supported, foreign = make_store(), make_store(), make_store()
    client = client_for(
        f"loyalty.add_{model._meta.model_name}", managing=[managed.merchant], supporting=[supported.merchant]
    )

    def ask_for(store) -> bool:
        form = key_form(store) if model is StoreApiKey else staff_form(store.merchant)
        return 'id="secret"' in client.post(page(model, "add"), form).content.decode()

    assert [ask_for(store) for store in (supported, foreign, managed)] == [False, False, True]
    assert model.objects.count() == 1


@pytest.mark.parametrize("model", ISSUERS)
def test_a_form_of_another_site_hands_out_nothing(model, admin_user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)

    assert client.post(page(model, "add"), form_for(model)).status_code == 403
    assert not model.objects.exists()


# Keys


@pytest.mark.parametrize("make", [make_store_key, make_user_key])
def test_a_key_is_revoked_once(make, admin_client):
    key = make()
    assert buttons(admin_client, key) == ["Revoke"]

    admin_client.post(page(type(key), "revoke", key.pk))
    key.refresh_from_db()
    revoked_at = key.revoked_at
    again = admin_client.post(page(type(key), "revoke", key.pk))

    assert revoked_at
    assert "This key is revoked already." in str(again.context["form"].errors)
    key.refresh_from_db()
    assert key.revoked_at == revoked_at
    assert buttons(admin_client, key) == []


@pytest.mark.parametrize("make", [make_store_key, make_user_key])
def test_nothing_of_a_key_is_edited(make, admin_client):
    key = make()
    before = table_hashes()

    assert admin_client.post(page(type(key), "change", key.pk), {"label": "Mine", "key_hash": "x"}).status_code == 403
    assert table_hashes() == before


def test_managers_revoke_keys_of_their_stores_and_support_does_not(client_for):
    key = make_store_key()
    may = ("loyalty.view_storeapikey", "loyalty.change_storeapikey")
    merchant = key.store.merchant

    assert client_for(*may, managing=[make_merchant()]).post(page(StoreApiKey, "revoke", key.pk)).status_code == 404
    assert client_for(*may, supporting=[merchant]).post(page(StoreApiKey, "revoke", key.pk)).status_code == 403
    assert client_for(may[0], managing=[merchant]).post(page(StoreApiKey, "revoke", key.pk)).status_code == 403
    assert not StoreApiKey.objects.exclude(revoked_at=None).exists()
    assert client_for(*may, managing=[merchant]).post(page(StoreApiKey, "revoke", key.pk)).status_code == 302


def test_everybody_revokes_their_own_keys(client_for):
    key = make_user_key()
    may = ("loyalty.view_userapikey", "loyalty.change_userapikey")
    client = client_for(*may)

    assert client.post(page(UserApiKey, "revoke", key.pk)).status_code == 404
    key.user.is_staff = True
    key.user.save()
    key.user.user_permissions.set(Permission.objects.filter(codename="view_userapikey"))
    client.force_login(key.user)
    assert client.post(page(UserApiKey, "revoke", key.pk)).status_code == 403
    key.user.user_permissions.set(Permission.objects.filter(codename__in=[name.partition(".")[2] for name in may]))
    assert client.post(page(UserApiKey, "revoke", key.pk)).status_code == 302


# Staff


def test_a_new_pin_replaces_the_old_one_and_ends_a_lock(admin_client):
    store = make_store()
    member = add(store.merchant)
    lock(store, member)

    answer = admin_client.post(page(StaffMember, "new-pin", member.pk), {"pin": ""})

    pin = secret_of(answer)
    assert not list(answer.context["messages"])
    assert state(member) == (0, None)
    assert refused(store, member, PIN).code == "invalid_pin"
    assert lets_in(store, member, pin)


def test_a_weak_pin_is_refused_beside_its_field(admin_client):
    member = add(make_merchant())

    again = admin_client.post(page(StaffMember, "new-pin", member.pk), {"pin": "1234"})

    assert "too easy to guess" in str(again.context["form"].errors["pin"])
    assert 'id="secret"' not in again.content.decode()


def test_a_locked_staff_member_is_unlocked(admin_client):
    store = make_store()
    member = add(store.merchant)
    assert buttons(admin_client, member) == ["New PIN"]
    lock(store, member, at=timezone.now())

    assert buttons(admin_client, member) == ["New PIN", "Unlock"]
    facts = admin_client.get(page(StaffMember, "unlock", member.pk)).context["facts"]
    shown = admin_client.post(page(StaffMember, "unlock", member.pk), follow=True).content.decode()

    assert facts[0] == "Wrong PINs in a row: 5."
    assert re.fullmatch(r"No PIN is accepted until \d{4}-\d\d-\d\d \d\d:\d\d \(UTC\)\.", facts[1])
    assert "Unlocked." in shown
    assert lets_in(store, member)
    assert buttons(admin_client, member) == ["New PIN"]


@pytest.mark.parametrize("action", ["new-pin", "unlock"])
def test_managers_help_their_own_staff_and_support_does_not(action, client_for):
    store = make_store()
    member = add(store.merchant)
    refused(store, member)
    may = ("loyalty.view_staffmember", "loyalty.change_staffmember")
    path = page(StaffMember, action, member.pk)

    assert client_for(*may, managing=[make_merchant()]).post(path, {"pin": ""}).status_code == 404
    assert client_for(*may, supporting=[store.merchant]).post(path, {"pin": ""}).status_code == 403
    assert client_for(may[0], managing=[store.merchant]).post(path, {"pin": ""}).status_code == 403
    assert state(member) == (1, None)
    assert client_for(*may, managing=[store.merchant]).post(path, {"pin": ""}).status_code in (200, 302)
    assert state(member) == (0, None)


def test_a_staff_member_is_changed_by_the_verb(admin_client):
    store = make_store()
    member = add(store.merchant)
    session = sign_in(store, member, at=timezone.now()).staff_session
    form = {"display_name": "Bea M.", "role": "manager", "stores": [store.pk]}

    admin_client.post(page(StaffMember, "change", member.pk), {**form, "is_active": "on"})
    member.refresh_from_db()
    assert (member.display_name, member.role, list(member.stores.all())) == ("Bea M.", "manager", [store])
    assert StaffSession.objects.get().expires_at == session.expires_at

    admin_client.post(page(StaffMember, "change", member.pk), form)
    member.refresh_from_db()
    assert (member.is_active, list(member.stores.all())) == (False, [store])
    assert StaffSession.objects.get().expires_at <= timezone.now()


def test_a_change_leaves_the_pin_and_its_count_alone(admin_client):
    store = make_store()
    member = add(store.merchant)
    refused(store, member)

    form = {"display_name": "Bea M.", "role": "cashier", "is_active": "on", "failed_attempts": "0", "pin": "4711"}
    admin_client.post(page(StaffMember, "change", member.pk), form)

    assert state(member) == (1, None)
    assert lets_in(store, member)


def test_a_name_that_is_no_text_is_told_in_the_form(admin_client):
    member = make_staff_member()

    again = admin_client.post(page(StaffMember, "change", member.pk), {"display_name": "B\x07ea", "role": "cashier"})

    assert "This holds characters that are no text." in str(again.context["adminform"].form.errors)
