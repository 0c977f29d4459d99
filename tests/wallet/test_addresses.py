"""Addresses that passes, links and Google are given are those of doors, for good."""

from io import BytesIO

import pytest
from django.urls import resolve
from PIL import Image

from tests.factories import NOON, make_merchant
from wallet import drawing
from wallet.models import Artwork
from wallet.public import apple, google, links, logos
from wallet.services import addresses

SITE = "https://loyalty.example.com"


@pytest.fixture(autouse=True)
def site(settings):
    settings.PUBLIC_URL, settings.GOOGLE_CALLBACKS = SITE, True


def door(address):
    assert address.startswith(f"{SITE}/wallet/")
    return resolve(address.removeprefix(SITE)).func


def test_each_address_has_its_door():
    service = addresses.apple_web_service()
    assert "/v1" not in service
    assert door(f"{service}/v1/devices/d/registrations/p/s") is apple.registration
    assert door(f"{service}/v1/devices/d/registrations/p") is apple.changes
    assert door(f"{service}/v1/passes/p/s") is apple.wallet_pass
    assert door(f"{service}/v1/log") is apple.complaints
    assert door(addresses.link("apple", "token")) is links.apple
    assert door(addresses.link("google", "token")) is links.google
    assert door(addresses.google_callback()) is google.callback
    assert door(addresses.logo("")) is door(addresses.logo("ab" * 32)) is logos.logo


def test_the_addresses_of_passes_in_phones_never_change():
    assert addresses.apple_web_service() == f"{SITE}/wallet/apple"
    assert addresses.google_callback() == f"{SITE}/wallet/google/callback"
    assert addresses.link("google", "t") == f"{SITE}/wallet/google/get/t"


def test_google_is_not_asked_to_call_where_it_cannot(settings):
    settings.GOOGLE_CALLBACKS = False

    assert addresses.google_callback() == ""


def picture(answer):
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    with Image.open(BytesIO(answer.content)) as found:
        return found.format, found.size


def test_our_own_logo_is_served_for_a_day(client):
    answer = client.get(addresses.logo("").removeprefix(SITE))

    assert picture(answer) == ("PNG", (660, 660))
    assert answer.headers["Cache-Control"] == "public, max-age=86400"


@pytest.mark.django_db
def test_a_merchants_logo_is_served_on_a_square_for_long(client):
    digest = "ab" * 32
    Artwork.objects.create(
        program=make_merchant().program, logo=drawing.emblem(150), digest=digest, uploaded_at=NOON, uploaded_by="ana"
    )

    answer = client.get(addresses.logo(digest).removeprefix(SITE))

    assert picture(answer) == ("PNG", (660, 660))
    assert answer.headers["Cache-Control"] == "public, max-age=31536000"


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["cd" * 32, "AB" * 32, "other", "default.gif", "..%2Fdefault"])
def test_another_logo_is_not_there(client, name):
    assert client.get(f"/wallet/logos/{name}.png").status_code == 404
