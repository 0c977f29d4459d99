"""Merchants: finding them as people name them, and opening new ones."""

from decimal import Decimal

from django.db import IntegrityError, transaction

from loyalty.errors import CardNotFound, MerchantExists, MerchantNotFound
from loyalty.models import Card, Merchant, Program, Store


def find_merchant(name: str) -> Merchant:
    """The merchant with this slug or id.

    Raises:
        MerchantNotFound: there is none.
    """
    found = Merchant.objects.filter(slug=name).first()
    if not found and _is_id(name):
        found = Merchant.objects.filter(pk=int(name)).first()
    if found:
        return found
    raise MerchantNotFound(f"There is no merchant {name!r}.")


def find_card(name: str) -> Card:
    """The card with this number (12 digits) or id, with its program and merchant loaded.

    Raises:
        CardNotFound: there is none.
    """
    digits = "".join(name.split())
    cards = Card.objects.select_related("program__merchant")
    if _is_id(digits):
        found = cards.filter(card_number=digits).first() or cards.filter(pk=int(digits)).first()
        if found:
            return found
    raise CardNotFound(f"There is no card {name!r}.")


def _is_id(text: str) -> bool:
    """ASCII digits, few enough for the column."""
    return text.isascii() and text.isdigit() and len(text) < 19


@transaction.atomic
def open_merchant(
    *,
    slug: str,
    name: str,
    currency: str,
    timezone: str,
    store_name: str,
    points_per_unit: Decimal,
    points_expiration_days: int | None,
    expiration_warning_days: int,
) -> Store:
    """Create a merchant with one store and a program of points that expire. Returns the store.

    Raises:
        MerchantExists: the slug is taken.
    """
    try:
        with transaction.atomic():
            merchant = Merchant.objects.create(slug=slug, name=name, currency=currency, timezone=timezone)
    except IntegrityError:
        raise MerchantExists(f"A merchant {slug!r} exists already. Choose another slug.") from None
    Program.objects.create(
        merchant=merchant,
        name=f"{name} Card",
        points_per_unit=points_per_unit,
        points_expiration_days=points_expiration_days,
        expiration_warning_days=expiration_warning_days,
    )
    return Store.objects.create(merchant=merchant, name=store_name, code="main")
