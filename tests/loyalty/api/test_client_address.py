"""The address that is kept of a till is the till's own, and what a client writes into a header is nobody's word."""

import pytest

from loyalty.models import Transaction
from tests.factories import make_card
from tests.loyalty.api.tills import Till

pytestmark = pytest.mark.django_db
PROXY = "127.0.0.1"
LONG_ZONE = "fe80::1%" + "x" * 100


def kept_address(forwarded: str | None) -> str:
    till = Till(log_client_address=True)
    till.sign_in()
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    card = make_card(till.merchant)
    answer = till.post(f"cards/{card.pk}/earn", {"amount": "12.99", "receipt_number": "R1"}, **headers)
    assert answer.status_code == 201, answer.content
    return Transaction.objects.get(card=card, receipt_number="R1").client_address


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 2001:db8::7 ", "2001:db8::7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("unknown,198.51.100.1,203.0.113.7", "203.0.113.7"),
        (LONG_ZONE, "fe80::1"),
        (None, PROXY),
        ("", PROXY),
        ("203.0.113.7,", PROXY),
        ("203.0.113.7, unknown", PROXY),
        ("203.0.113.7:52100", PROXY),
        ("x" * 5000, PROXY),
        ("'; DROP TABLE", PROXY),
    ],
)
def test_behind_a_proxy_the_last_address_counts_if_it_is_one(settings, forwarded, address):
    settings.BEHIND_PROXY = True

    assert kept_address(forwarded) == address


def test_without_a_proxy_a_header_is_not_believed(settings):
    settings.BEHIND_PROXY = False

    assert kept_address("203.0.113.7") == PROXY
