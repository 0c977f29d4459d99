"""Finding customers and cards by what people read out: exactly, and by index."""

from django.db.models import Q, QuerySet
from django.db.models.functions import Lower

from loyalty.errors import InvalidInput
from loyalty.models import Card, Customer, Merchant
from loyalty.models.contact import normalised_phone

FOUND_AT_MOST = 100


def customer_ids(text: str, *, merchants: QuerySet[Merchant]) -> list[int]:
    """Customers of these merchants with exactly this e-mail address, phone number or external id.

    The indexes begin with the merchant, so each branch looks once per merchant and never reads all customers.
    """
    customers = Customer.objects.filter(merchant__in=merchants).order_by()
    by_email = customers.alias(lowered=Lower("email")).filter(lowered=text.lower()).exclude(email="")
    by_external_id = customers.filter(external_id=text).exclude(external_id="")
    found = [by_email, by_external_id]
    phone = _phone(text)
    if phone:
        found.append(customers.filter(phone=phone).exclude(phone=""))
    first, *others = [branch.values_list("pk", flat=True) for branch in found]
    return list(first.union(*others)[:FOUND_AT_MOST])


def cards_called(text: str, *, merchants: QuerySet[Merchant]) -> Q:
    """Cards with exactly this number or QR token, or of a customer who is known by it."""
    number = "".join(text.split())
    return Q(card_number=number) | Q(qr_token=text) | Q(customer__in=customer_ids(text, merchants=merchants))


def card_ids(text: str, *, merchants: QuerySet[Merchant]) -> list[int]:
    found = Card.objects.filter(cards_called(text, merchants=merchants)).values_list("pk", flat=True)
    return list(found[:FOUND_AT_MOST])


def _phone(text: str) -> str:
    try:
        return normalised_phone(text, country="")
    except InvalidInput:
        return ""
