"""Merchants: finding them as people name them, and opening new ones."""

from decimal import Decimal

from django.db import IntegrityError, transaction

from loyalty.errors import MerchantExists, MerchantNotFound
from loyalty.models import Merchant, Program, Store


def find_merchant(name: str) -> Merchant:
    """The merchant with this slug or id.

    Raises:
        MerchantNotFound: there is none.
    """
    by_slug = Merchant.objects.filter(slug=name).first()
    if by_slug:
        return by_slug
    # ASCII digits of a length that fits the column; anything else cannot be an id.
    by_id = (
        Merchant.objects.filter(pk=int(name)).first() if name.isascii() and name.isdigit() and len(name) < 19 else None
    )
    if by_id:
        return by_id
    raise MerchantNotFound(f"There is no merchant {name!r}.")


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
