"""Merchants, memberships and staff in the admin: the rules are those of the verbs."""

import pytest
from django.urls import reverse

from loyalty.models import Membership, Merchant, MerchantChange, Program, StaffMember
from tests.factories import make_card, make_merchant
from tests.loyalty.admin.rows import make_user

pytestmark = pytest.mark.django_db


def page(model: str, name: str, *args: int) -> str:
    return reverse(f"admin:loyalty_{model}_{name}", args=args)


def form_of(merchant: Merchant, **fields: str) -> dict[str, str]:
    kept = ("name", "timezone", "currency", "country", "locale", "support_email")
    return {**{name: getattr(merchant, name) for name in kept}, **fields}


def save(client, merchant: Merchant, **fields: str):
    answer = client.post(page("merchant", "change", merchant.pk), form_of(merchant, **fields))
    merchant.refresh_from_db()
    return answer


def test_a_merchant_is_switched_off_and_on_with_a_reason(admin_client):
    merchant = make_card().program.merchant

    for verb, reason, is_active in (("deactivate", "Closed", False), ("restore", "Open again", True)):
        admin_client.post(page("merchant", verb, merchant.pk), {"reason": ""})
        assert MerchantChange.objects.filter(reason="").count() == 0
        assert admin_client.post(page("merchant", verb, merchant.pk), {"reason": reason}).status_code == 302
        merchant.refresh_from_db()
        assert merchant.is_active is is_active

    changes = MerchantChange.objects.order_by("pk").values_list("is_active", "reason", "actor")
    assert list(changes) == [(False, "Closed", "admin"), (True, "Open again", "admin")]


def test_a_form_switches_no_merchant_and_gives_no_other_slug(admin_client):
    merchant = make_merchant()
    slug = merchant.slug

    assert save(admin_client, merchant, name="Renamed", slug="other", is_active="").status_code == 302

    assert (merchant.name, merchant.slug, merchant.is_active) == ("Renamed", slug, True)


def test_another_time_zone_is_seen_by_a_run_that_is_working(admin_client):
    merchant = make_merchant()
    version = merchant.program.version

    save(admin_client, merchant, timezone="Europe/Paris")

    assert merchant.timezone == "Europe/Paris"
    assert Program.objects.get(merchant=merchant).version == version + 1


def test_a_form_that_is_saved_as_it_was_changes_nothing(admin_client):
    merchant = make_merchant()
    member = StaffMember.objects.create(merchant=merchant, display_name="Kim")
    before = Merchant.objects.values().get()
    staff_form = {"display_name": "Kim", "role": "cashier", "is_active": "on"}

    assert save(admin_client, merchant).status_code == 302
    assert admin_client.post(page("staffmember", "change", member.pk), staff_form).status_code == 302

    assert Merchant.objects.values().get() == before


@pytest.mark.parametrize(
    ("field", "value"), [("name", "bell \x07"), ("locale", "no language"), ("timezone", "localtime")]
)
def test_what_no_merchant_can_have_is_told_in_the_form(field, value, admin_client):
    answer = save(admin_client, make_merchant(), **{field: value})

    assert field in answer.context["adminform"].form.errors


@pytest.mark.parametrize("role", ["manager", "support"])
def test_nobody_changes_or_removes_their_own_membership(role, admin_client, admin_user):
    own = Membership.objects.create(user=admin_user, merchant=make_merchant(), role=role)
    form = {"role": "manager" if role == "support" else "support"}

    assert admin_client.post(page("membership", "change", own.pk), form).status_code == 403
    assert admin_client.post(page("membership", "delete", own.pk), {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": [own.pk], "post": "yes"}
    admin_client.post(page("membership", "changelist"), selected)

    own.refresh_from_db()
    assert own.role == role


def test_only_the_role_of_a_membership_changes(admin_client):
    membership = Membership.objects.create(user=make_user(), merchant=make_merchant(), role="support")
    form = {"role": "manager", "user": make_user().pk, "merchant": make_merchant().pk}

    assert admin_client.post(page("membership", "change", membership.pk), form).status_code == 302

    changed = Membership.objects.get()
    assert (changed.role, changed.user, changed.merchant) == ("manager", membership.user, membership.merchant)
