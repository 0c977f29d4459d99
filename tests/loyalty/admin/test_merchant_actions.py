"""Merchants are switched off and on again with a button and a reason, and in no other way."""

import pytest
from django.urls import reverse

from loyalty.models import Merchant, MerchantChange
from tests.factories import make_merchant
from tests.loyalty.admin.test_card_actions import errors_of
from tests.loyalty.runs import table_hashes

pytestmark = pytest.mark.django_db
REASON = "Contract ended"
both = pytest.mark.parametrize("action", ["deactivate", "restore"])


def page_of(merchant: Merchant, action: str = "change") -> str:
    return reverse(f"admin:loyalty_merchant_{action}", args=[merchant.pk])


def make_merchant_for(action: str) -> Merchant:
    merchant = make_merchant()
    Merchant.objects.filter(pk=merchant.pk).update(is_active=action == "deactivate")
    return merchant


@both
def test_a_merchant_is_switched_with_a_reason(action, admin_client):
    merchant = make_merchant_for(action)

    page = admin_client.post(page_of(merchant, action), {"reason": REASON}, follow=True)

    change = MerchantChange.objects.get()
    assert (change.merchant, change.is_active, change.actor, change.reason) == (
        merchant,
        action == "restore",
        "admin",
        REASON,
    )
    assert Merchant.objects.get().is_active is (action == "restore")
    assert page.redirect_chain == [(page_of(merchant), 302)]
    assert "Switched " in page.content.decode()


@both
def test_the_page_offers_only_the_other_state(action, admin_client):
    merchant = make_merchant_for(action)

    [button] = admin_client.get(page_of(merchant)).context["buttons"]

    assert button["url"] == page_of(merchant, action)


@both
def test_nobody_switches_a_merchant_without_a_reason_or_twice(action, admin_client):
    merchant = make_merchant_for(action)
    before = table_hashes()
    assert "This field is required." in errors_of(admin_client.post(page_of(merchant, action), {"reason": " "}))
    assert table_hashes() == before
    admin_client.post(page_of(merchant, action), {"reason": REASON})

    assert "already switched" in errors_of(admin_client.post(page_of(merchant, action), {"reason": REASON}))
    assert MerchantChange.objects.count() == 1


@both
def test_only_managers_of_a_merchant_switch_it(action, client_for):
    merchant = make_merchant_for(action)
    may = ("loyalty.view_merchant", "loyalty.change_merchant")
    strangers = {
        404: client_for(*may, managing=[make_merchant()]),
        403: client_for("loyalty.view_merchant", managing=[merchant]),
    }
    strangers_and_support = [*strangers.items(), (403, client_for(*may, supporting=[merchant]))]

    for status, client in strangers_and_support:
        assert client.get(page_of(merchant, action)).status_code == status
        assert client.post(page_of(merchant, action), {"reason": REASON}).status_code == status
    assert not MerchantChange.objects.exists()
    manager = client_for(*may, managing=[merchant])
    assert manager.post(page_of(merchant, action), {"reason": REASON}).status_code == 302


@both
def test_the_form_of_a_merchant_does_not_switch_it(action, admin_client):
    merchant = make_merchant_for(action)
    form = {"name": "Renamed", "slug": merchant.slug, "timezone": "UTC", "currency": "EUR", "locale": "en"}
    typed = {"is_active": "on"} if action == "restore" else {}

    admin_client.post(page_of(merchant), {**form, **typed})

    merchant.refresh_from_db()
    assert (merchant.name, merchant.is_active) == ("Renamed", action == "deactivate")


def test_a_merchant_that_is_added_is_on(admin_client):
    form = {"name": "New", "slug": "new", "timezone": "UTC", "currency": "EUR", "locale": "en"}

    admin_client.post(reverse("admin:loyalty_merchant_add"), form)

    assert Merchant.objects.get(slug="new").is_active
