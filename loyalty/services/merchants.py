"""Merchants: finding them as people name them, and opening new ones."""

import re
from decimal import Decimal

from django.db import transaction

from loyalty.errors import CardNotFound, InvalidInput, MerchantExists, MerchantNotFound
from loyalty.models import Card, Merchant, Program, Store


def find_merchant(name: str) -> Merchant:
    """The merchant with this slug or id.

    Raises:
        MerchantNotFound: there is none.
    """
    found = Merchant.objects.filter(slug=name).first() if name.isascii() else None
    if not found and _is_id(name):
        found = Merchant.objects.filter(pk=int(name)).first()
    if found:
        return found
    raise MerchantNotFound(f"There is no merchant {name!a}.")


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


def require_free_slug(slug: str) -> None:
    """Refuse a slug that cannot name a new merchant.

    Raises:
        MerchantExists: it is taken.
        InvalidInput: it has other characters than letters, digits, hyphens and underscores, or too many.
    """
    if not re.fullmatch(r"[-a-zA-Z0-9_]{1,60}", slug, re.ASCII):
        raise InvalidInput("A slug is 1 to 60 letters, digits, hyphens or underscores.", field="slug")
    if Merchant.objects.filter(slug=slug).exists():
        raise MerchantExists(f"A merchant {slug!r} exists already. Choose another slug.")


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
        MerchantExists: the slug is taken. InvalidInput: it has characters that a slug cannot have.
    """
    require_free_slug(slug)
    merchant = Merchant.objects.create(slug=slug, name=name, currency=currency, timezone=timezone)
    Program.objects.create(
        merchant=merchant,
        name=f"{name} Card",
        points_per_unit=points_per_unit,
        points_expiration_days=points_expiration_days,
        expiration_warning_days=expiration_warning_days,
    )
    return Store.objects.create(merchant=merchant, name=store_name, code="main")
