"""Merchants: finding them as people name them, opening new ones, switching them off and on again."""

import re
from datetime import datetime
from decimal import Decimal

import structlog
from django.db import transaction
from django.db.models import F

from loyalty.errors import CardNotFound, InvalidInput, MerchantExists, MerchantNotFound, NothingToChange
from loyalty.models import Card, CardBalance, Merchant, MerchantChange, Program, Store
from loyalty.services.adjustments import require_reason
from loyalty.services.once import Request, look, once, record

log = structlog.get_logger()


def find_merchant(name: str) -> Merchant:
    """The merchant with this slug or id.

    Raises:
        MerchantNotFound: there is none.
    """
    if found := Merchant.objects.called(name):
        return found
    raise MerchantNotFound(f"There is no merchant {name!a}.")


def find_card(name: str) -> Card:
    """The card with this number (12 digits) or id, with its program and merchant loaded.

    Raises:
        CardNotFound: there is none.
    """
    if found := Card.objects.select_related("program__merchant").called(name):
        return found
    raise CardNotFound(f"There is no card {name!r}.")


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


def deactivate_merchant(
    *, merchant: Merchant, reason: str, actor: str, at: datetime, request: Request | None = None
) -> Merchant:
    """Switch a merchant off: its program and cards cannot be used, nobody is warned and nothing expires.

    Nothing else is changed, so that `restore_merchant` brings back exactly what was on. Runs that are working leave
    the merchant's cards alone from now on.

    Raises:
        NothingToChange: it is off already.
        ReasonRequired, InvalidInput: there is no usable reason.
        AnsweredBefore, IdempotencyKeyReused: as `once`.
    """
    reason = require_reason(reason)
    with once(request), transaction.atomic():
        return _switch(merchant, False, reason=reason, actor=actor, at=at, request=request)


def restore_merchant(
    *, merchant: Merchant, reason: str, actor: str, at: datetime, request: Request | None = None
) -> Merchant:
    """Switch a merchant on again. Its customers are warned again, in full time, before anything expires.

    Days that were promised stay promised.

    Raises:
        NothingToChange: it is on.
        ReasonRequired, InvalidInput: there is no usable reason.
        AnsweredBefore, IdempotencyKeyReused: as `once`.
    """
    reason = require_reason(reason)
    with once(request), transaction.atomic():
        restored = _switch(merchant, True, reason=reason, actor=actor, at=at, request=request)
        # Their promised days have passed while nobody could use the points.
        warned = CardBalance.objects.filter(program__merchant=merchant, last_expiration_warning_at__isnull=False)
        warned.filter(points_balance__gt=0).update(last_expiration_warning_at=None)
        return restored


def _switch(
    merchant: Merchant, is_active: bool, *, reason: str, actor: str, at: datetime, request: Request | None
) -> Merchant:
    merchant = Merchant.objects.select_for_update(no_key=True).get(pk=merchant.pk)
    look(request)
    if merchant.is_active == is_active:
        raise NothingToChange(f"This merchant is already switched {'on' if is_active else 'off'}.")
    merchant.is_active = is_active
    merchant.save(update_fields=["is_active"])
    # A run takes cards of the programs that it has read only as long as they are as it read them.
    Program.objects.filter(merchant=merchant).update(version=F("version") + 1)
    change = MerchantChange.objects.create(
        merchant=merchant, is_active=is_active, reason=reason, actor=actor, changed_at=at
    )
    record(request, answer={"merchant": merchant.pk, "change": change.pk}, at=at)
    log.info("loyalty.merchant_switched", merchant_id=merchant.pk, is_active=is_active)
    return merchant
