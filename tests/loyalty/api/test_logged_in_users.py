"""The admin API in a browser: with the session of somebody who has logged in, and Django's token against forgery."""

import pytest
from django.contrib.auth.models import User
from django.middleware.csrf import get_token
from django.test import Client, RequestFactory

from loyalty.models import Membership, Store
from tests.factories import make_merchant
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db
BODY = {"name": "Second Street", "code": "second"}


@pytest.fixture
def merchant():
    return make_merchant()


@pytest.fixture
def user(merchant):
    user = User.objects.create_user("ana")
    Membership.objects.create(user=user, merchant=merchant, role="manager")
    return user


@pytest.fixture
def browser(user):
    """Logged in, with a cookie for the token."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    request = RequestFactory().get("/")
    token = get_token(request)
    browser.cookies["csrftoken"] = request.META["CSRF_COOKIE"]
    return browser, token


def add_store(browser, merchant, **headers):
    path = f"{Office.base}merchants/{merchant.pk}/stores"
    return browser.post(path, BODY, content_type="application/json", headers=headers)


def test_who_has_logged_in_may_do_what_a_key_of_theirs_may(browser, merchant):
    client, token = browser

    assert client.get(f"{Office.base}merchants").json()["results"][0]["id"] == merchant.pk
    assert client.get(f"{Office.base}merchants/{make_merchant().pk}").status_code == 404
    assert add_store(client, merchant, **{"X-CSRFToken": token}).status_code == 201
    assert Store.objects.get(merchant=merchant).code == "second"


@pytest.mark.parametrize("token", [None, "", "x" * 32, "x" * 64])
def test_a_change_without_the_token_is_refused(browser, merchant, token):
    client, _ = browser

    answer = add_store(client, merchant, **({} if token is None else {"X-CSRFToken": token}))

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not Store.objects.filter(merchant=merchant).exists()


def test_a_key_needs_no_token(merchant):
    office = Office(merchant, "manager")
    office.client = Client(enforce_csrf_checks=True)

    assert office.post(f"merchants/{merchant.pk}/stores", BODY).status_code == 201


def test_a_login_opens_no_till(browser):
    client, token = browser

    answer = client.post(f"{Till.base}cards/lookup", {"q": "x"}, headers={"X-CSRFToken": token})

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_who_may_not_log_in_any_more_is_nobody(browser, user, merchant):
    client, token = browser
    User.objects.filter(pk=user.pk).update(is_active=False)

    answer = add_store(client, merchant, **{"X-CSRFToken": token})

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
