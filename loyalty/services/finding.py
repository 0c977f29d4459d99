"""Which card is meant by what was scanned, typed or spelled at the till."""

import re

from django.db.models import QuerySet

from loyalty.errors import CardNotFound, InvalidInput
from loyalty.models import Card, Customer, Merchant
from loyalty.models.contact import normalised_email, normalised_phone

CARD_NUMBER = re.compile(r"[0-9]{12}", re.ASCII)
LONGEST_CHAIN = 20  # of merged cards


def look_up(*, merchant: Merchant, q: str) -> Card:
    """The card of a QR token, card number, e-mail address or phone number, told apart by their form.

    A merged card leads to the one that it was merged into. A person's newest card is found, the one in use first.
    The card comes with `balance`, `customer`, `program` and the program's merchant loaded.

    Raises:
        CardNotFound: the merchant has no such card.
    """
    text = q.strip()
    card = _by_number(merchant, text) or _by_token(merchant, text) or _by_contact(merchant, text)
    for _ in range(LONGEST_CHAIN):
        if card is None or card.merged_into_id is None:
            break
        card = _cards(merchant).filter(pk=card.merged_into_id).first()
    if card is None or card.status == Card.Status.ERASED:
        raise CardNotFound("This card is not known here.")
    return card


def card_of(*, merchant: Merchant, card_id: int) -> Card:
    """The merchant's card with this id, with the same things loaded.

    Raises:
        CardNotFound: there is none.
    """
    if found := _cards(merchant).filter(pk=card_id).first():
        return found
    raise CardNotFound("This card is not known here.")


def _cards(merchant: Merchant) -> QuerySet[Card]:
    return Card.objects.of(merchant).select_related("balance", "customer", "program__merchant")


def _by_number(merchant: Merchant, text: str) -> Card | None:
    digits = text.replace(" ", "")
    return _cards(merchant).filter(card_number=digits).first() if CARD_NUMBER.fullmatch(digits) else None


def _by_token(merchant: Merchant, text: str) -> Card | None:
    return _cards(merchant).filter(qr_token=text).first()


def _by_contact(merchant: Merchant, text: str) -> Card | None:
    try:
        contact = (
            {"email": normalised_email(text)}
            if "@" in text
            else {"phone": normalised_phone(text, country=merchant.country)}
        )
    except InvalidInput:
        return None
    known = list(Customer.objects.known_as(merchant=merchant, **contact))
    newest = list(_cards(merchant).filter(customer__in=known).order_by("-pk"))
    return next((card for card in newest if card.status in Card.IN_USE), newest[0] if newest else None)
