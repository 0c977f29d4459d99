"""The passes of a card on the card's page, which loyalty knows nothing of."""

import pytest
from django.urls import reverse

from tests.factories import NOON, make_card
from tests.fakes.pki import ISSUER_ID
from tests.loyalty.admin.test_lists import statements
from tests.wallet.rows import make_breaker, make_credential, make_failing_pass, make_pass

pytestmark = pytest.mark.django_db


def page(card) -> str:
    return reverse("admin:loyalty_card_change", args=[card.pk])


def told(client, card) -> dict[str, str]:
    """How each of the card's passes is, by the address of its page."""
    [section] = client.get(page(card)).context["sections"]
    return {fact.url: fact.text for fact in section.facts}


def test_each_pass_is_shown_with_how_it_is_and_leads_to_its_page(admin_client):
    card = make_card()
    apple, google = make_pass(card), make_failing_pass(card, platform="google", dead_at=NOON)
    make_pass()

    assert told(admin_client, card) == {
        f"/admin/wallet/pass/{apple.pk}/change/": "up to date",
        f"/admin/wallet/pass/{google.pk}/change/": "given up; last problem http_503",
    }
    text = admin_client.get(page(card)).content.decode()
    assert f'<a href="/admin/wallet/pass/{apple.pk}/change/">Apple Wallet</a>: up to date' in text


def test_a_pass_that_waits_for_calls_says_so(admin_client):
    make_credential(identifier=ISSUER_ID)
    make_breaker()
    card = make_card()
    make_pass(card)
    make_pass(card, platform="google", synced_look=0)

    assert list(told(admin_client, card).values()) == [
        "up to date",
        "behind; calls rest, permission_denied: The account is no user of the issuer.",
    ]


def test_a_card_without_passes_says_so(admin_client):
    assert "No pass was made for this card yet." in admin_client.get(page(make_card())).content.decode()


def test_who_may_not_see_passes_is_told_of_none(client_for):
    card = make_card()
    make_pass(card)
    merchant = card.program.merchant

    assert client_for("loyalty.view_card", managing=[merchant]).get(page(card)).context["sections"] == []
    assert told(client_for("loyalty.view_card", "wallet.view_pass", supporting=[merchant]), card)


def test_two_passes_cost_the_page_no_more_statements_than_none(admin_client):
    card = make_card()
    statements(admin_client, page(card))  # caches of content types
    with_none = statements(admin_client, page(card))

    make_pass(card)
    make_pass(card, platform="google")

    assert len(statements(admin_client, page(card))) == len(with_none)
