"""Links of ours lead to a pass for as long as they are good, and say in words when they are not."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from loyalty.models import Card
from loyalty.services import replacing
from tests.factories import NOON, days, give, make_card
from tests.fakes.phone import MEDIA_TYPE, HeldPass
from tests.fakes.pki import PASS_TYPE
from tests.wallet.credentials import make_apple_credential, shared_identity
from wallet.models import Credential, Pass
from wallet.services.links import WalletLinks, wallet_links

pytestmark = pytest.mark.django_db
SITE = "https://loyalty.example.com"


@pytest.fixture(autouse=True)
def site(wallet_settings):
    wallet_settings.PUBLIC_URL = SITE


@pytest.fixture
def card():
    return make_card(points=10, first_name="Ana", last_name="Weber", email="ana@example.com")


@pytest.fixture
def link(card, apple_credential):
    """The link's path."""
    return path_of(wallet_links(card=card, at=timezone.now()).apple)


def path_of(link):
    assert link.startswith(f"{SITE}/wallet/")
    return link.removeprefix(SITE)


def show(card, status):
    Card.objects.filter(pk=card.pk).update(status=status)


def test_a_card_has_a_link_for_each_platform_that_is_on(card, apple_credential, google_credential):
    links = wallet_links(card=card, at=NOON)

    assert path_of(links.apple).startswith("/wallet/apple/get/")
    assert path_of(links.google).startswith("/wallet/google/get/")
    assert len(path_of(links.google)) < 150
    Credential.objects.filter(kind="google").update(status="retired")
    assert wallet_links(card=card, at=NOON) == WalletLinks(apple=links.apple, google=None)


def test_without_credentials_there_are_no_links(card):
    assert wallet_links(card=card, at=NOON) == WalletLinks(apple=None, google=None)


@pytest.mark.parametrize(
    ("status", "has_links"), [("active", True), ("suspended", True), ("closed", False), ("erased", False)]
)
def test_only_cards_in_use_have_links(card, apple_credential, status, has_links):
    show(card, status)

    links = wallet_links(card=Card.objects.get(pk=card.pk), at=NOON)

    assert (links.apple is not None) == has_links


def test_a_link_tells_nothing_of_the_customer(card, apple_credential):
    link = path_of(wallet_links(card=card, at=NOON).apple)

    for personal in ("ana", "weber", "@", card.card_number, card.qr_token.lower()):
        assert personal not in link.lower()


def test_a_link_leads_to_the_pass_as_its_card_is_now(client, link, card):
    give(card, 5, at=NOON)

    answer = client.get(link)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, MEDIA_TYPE)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="card.pkpass"'
    assert answer.headers["Cache-Control"] == "no-store"
    held = HeldPass(answer.content)
    assert (held.points, held.pass_type) == (15, PASS_TYPE)
    assert held.said["webServiceURL"] == f"{SITE}/wallet/apple"


def test_a_link_gives_the_same_pass_each_time(client, link):
    first, second = HeldPass(client.get(link).content), HeldPass(client.get(link).content)

    assert (first.serial, first.said["authenticationToken"]) == (second.serial, second.said["authenticationToken"])
    assert Pass.objects.count() == 1


def test_who_only_looks_is_told_what_there_is(client, link):
    looked, got = client.head(link), client.get(link)

    assert (looked.status_code, looked.content) == (200, b"")
    assert looked.headers["Content-Type"] == MEDIA_TYPE
    assert looked.headers["Content-Length"] == str(len(got.content))


def test_a_link_outlives_the_certificate_and_the_settings(client, link, card, intermediate, wallet_settings):
    serial = HeldPass(client.get(link).content).serial
    Credential.objects.filter(kind="apple").update(status="previous")
    make_apple_credential(shared_identity(2), issuer=intermediate)
    wallet_settings.WALLET_TOKEN_KEYS = ["2:newer", *wallet_settings.WALLET_TOKEN_KEYS]

    assert HeldPass(client.get(link).content).serial == serial


def test_a_suspended_card_can_be_added_and_says_so(client, link, card):
    show(card, "suspended")

    assert HeldPass(client.get(link).content).said["voided"] is True


@pytest.mark.parametrize("platform", ["apple", "google"])
@pytest.mark.parametrize(
    "token", ["x", "a.b", "W10.x", "é", "%00", "a" * 500, "WzEsIiIsMV0.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
)
def test_a_link_that_is_none_of_ours_is_no_link(client, platform, token, apple_credential, google_credential):
    answer = client.get(f"/wallet/{platform}/get/{token}")

    assert answer.status_code == 404
    assert b"This link is not complete." in answer.content
    assert not Pass.objects.exists()


def test_a_link_with_another_end_is_no_link(client, link):
    for changed in (link[:-1], link + "A", link.replace("/get/W", "/get/X")):
        assert client.get(changed).status_code == 404


def test_a_link_ends(client, card, apple_credential, settings):
    settings.WALLET_LINK_DAYS = 3
    now = timezone.now()
    good = wallet_links(card=card, at=now - days(3) + timedelta(minutes=1)).apple
    over = wallet_links(card=card, at=now - days(3) - timedelta(minutes=1)).apple

    assert client.get(path_of(good)).status_code == 200
    answer = client.get(path_of(over))
    assert answer.status_code == 404
    assert b"This link is too old." in answer.content


def test_a_link_ends_when_its_card_is_replaced(client, link, card):
    replacing.replace_card(merchant=card.program.merchant, card_id=card.pk, reason="lost", actor="ana", at=NOON)

    answer = client.get(link)

    assert answer.status_code == 404
    assert b"This card was replaced." in answer.content
    new = wallet_links(card=Card.objects.get(pk=card.pk), at=timezone.now()).apple
    assert client.get(path_of(new)).status_code == 200


@pytest.mark.parametrize("status", ["closed", "erased"])
def test_a_card_out_of_use_is_gone(client, link, card, status):
    show(card, status)

    answer = client.get(link)

    assert answer.status_code == 410
    assert b"This card is no longer in use" in answer.content
    assert not Pass.objects.exists()


@pytest.mark.parametrize("broken", ["switched off", "expired", "no token key"])
def test_what_cannot_be_signed_now_is_put_off_in_words(client, link, intermediate, pki, settings, broken):
    if broken == "no token key":
        settings.WALLET_TOKEN_KEYS = []
    else:
        Credential.objects.filter(kind="apple").update(status="retired")
    if broken == "expired":
        over = pki.pass_identity(valid=(-2 * days(365), -days(1)))
        make_apple_credential(over, issuer=intermediate)

    answer = client.get(link)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "300")
    assert b"Please open the link again a little later." in answer.content


def test_the_page_is_a_page_for_phones(client):
    answer = client.get("/wallet/apple/get/none")

    page = answer.content.decode()
    assert '<html lang="en">' in page
    assert "width=device-width" in page
    assert "<h1>This link does not work</h1>" in page
    assert "style=" not in page
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["/wallet/apple/get/x", "/wallet/google/get/x", "/wallet/logos/default.png"])
def test_a_link_is_only_opened(method, path):
    client = Client(enforce_csrf_checks=True)

    answer = getattr(client, method)(path)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
