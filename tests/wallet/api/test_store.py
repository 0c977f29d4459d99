"""A till gets links that add a card to a phone."""

import pytest

from tests.factories import make_card, make_merchant
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db
SITE = "https://loyalty.example.com"


@pytest.fixture
def till(wallet_settings):
    wallet_settings.PUBLIC_URL = SITE
    return Till()


def test_a_till_gets_the_links_of_its_merchants_card(till, client, apple_credential, google_credential):
    card = make_card(till.merchant, points=10)

    answer = till.get(f"cards/{card.pk}/wallet-links")

    assert answer.status_code == 200
    assert answer.json().keys() == {"apple", "google"}
    assert answer.json()["google"].startswith(f"{SITE}/wallet/google/get/")
    assert client.get(answer.json()["apple"].removeprefix(SITE)).status_code == 200


def test_a_platform_without_a_credential_is_absent(till, apple_credential):
    links = till.get(f"cards/{make_card(till.merchant).pk}/wallet-links").json()

    assert (links["apple"] is None, links["google"]) == (False, None)


def test_where_no_platform_is_on_there_are_no_links(till):
    answer = till.get(f"cards/{make_card(till.merchant).pk}/wallet-links")

    assert (answer.status_code, answer.json()) == (200, {"apple": None, "google": None})


def test_the_card_of_another_merchant_is_unknown(till, apple_credential):
    stranger = make_card(make_merchant())

    for card_id in (stranger.pk, 987_654_321):
        answer = till.get(f"cards/{card_id}/wallet-links")
        assert (answer.status_code, answer.json()["code"]) == (404, "card_not_found")
