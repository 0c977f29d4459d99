"""Merchants, their stores, and which users may do what for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from loyalty.errors import (
    AlreadyMember,
    CurrencyFixed,
    InvalidInput,
    MembershipNotFound,
    OwnMembership,
    StoreExists,
    StoreNotFound,
    UserNotFound,
)
from loyalty.models import Membership, Merchant, Program, Store, Transaction
from loyalty.services.keys import require_text
from loyalty.services.merchants import require_free_slug
from loyalty.services.saving import save_checked

SHOWN_ON_CARDS = ("name", "timezone", "locale", "support_email")
log = structlog.get_logger()


def create_merchant(
    *,
    name: str,
    slug: str,
    timezone: str,
    currency: str,
    actor: str,
    at: datetime,
    country: str = "",
    locale: str = "en",
    support_email: str = "",
) -> Merchant:
    """Take in a merchant. It has no program, so it gives out no cards yet.

    Raises:
        MerchantExists: the slug is taken.
        InvalidInput: a value cannot be used; `field` names it.
    """
    values = _usable(
        name=name,
        slug=slug,
        timezone=timezone,
        currency=currency,
        country=country,
        locale=locale,
        support_email=support_email,
    )
    with _free(lambda: require_free_slug(values["slug"])):
        merchant = save_checked(Merchant(), **values)
    log.info("loyalty.merchant_created", merchant_id=merchant.pk)
    return merchant


@transaction.atomic
def update_merchant(
    *,
    merchant: Merchant,
    actor: str,
    at: datetime,
    name: str | None = None,
    timezone: str | None = None,
    currency: str | None = None,
    country: str | None = None,
    locale: str | None = None,
    support_email: str | None = None,
) -> Merchant:
    """Change what is given and leave the rest. Days that customers were promised stay, whatever the time zone.

    Raises:
        CurrencyFixed: there are transactions in the present currency.
        NothingToChange: nothing is given, or it is like this already.
        InvalidInput: a value cannot be used; `field` names it.
    """
    values = _usable(
        name=name, timezone=timezone, currency=currency, country=country, locale=locale, support_email=support_email
    )
    # A first card that is given out at this moment waits for a new currency, or is seen here: its commit asks for
    # the merchant's row.
    found = Merchant.objects.select_for_update(no_key=currency is None).get(pk=merchant.pk)
    if values.get("currency", found.currency) != found.currency and is_currency_fixed(found):
        raise CurrencyFixed("Customers have collected in this currency already, so it cannot change.", field="currency")
    before = {name: getattr(found, name) for name in SHOWN_ON_CARDS}
    changed = save_checked(found, **values)
    if before != {name: getattr(changed, name) for name in SHOWN_ON_CARDS}:
        # Phones show it with each card. And a run that is working counts days in the old zone: it leaves this
        # merchant's cards to the next one.
        Program.objects.filter(merchant=changed).update(version=F("version") + 1)
    log.info("loyalty.merchant_changed", merchant_id=changed.pk, fields=sorted(values))
    return changed


def is_currency_fixed(merchant: Merchant) -> bool:
    """Whether amounts and points were written down in the merchant's currency."""
    return Transaction.objects.filter(merchant=merchant).exists()


def create_store(
    *, merchant: Merchant, name: str, code: str, actor: str, at: datetime, throttle_factor: int = 1
) -> Store:
    """Open a store. Its tills may ask `throttle_factor` times as often as the settings say; 0: without a limit.

    Raises:
        StoreExists: the merchant has another store with this code.
        InvalidInput: a value cannot be used; `field` names it.
    """
    values = _usable(name=name, code=code, throttle_factor=throttle_factor)
    with _free(lambda: _require_free_code(merchant, values["code"])):
        store = save_checked(Store(merchant=merchant), **values)
    log.info("loyalty.store_created", merchant_id=merchant.pk, store_id=store.pk)
    return store


@transaction.atomic
def update_store(
    *,
    merchant: Merchant,
    store_id: int,
    actor: str,
    at: datetime,
    name: str | None = None,
    code: str | None = None,
    is_active: bool | None = None,
    throttle_factor: int | None = None,
) -> Store:
    """Change what is given and leave the rest. The tills of a store that is not active are refused.

    Raises:
        StoreNotFound: the merchant has no such store.
        StoreExists: it has another one with this code.
        NothingToChange: nothing is given, or it is like this already.
        InvalidInput: a value cannot be used; `field` names it.
    """
    values = _usable(name=name, code=code, is_active=is_active, throttle_factor=throttle_factor)
    store = Store.objects.select_for_update(no_key=True).filter(merchant=merchant, pk=store_id).first()
    if store is None:
        raise StoreNotFound("This store is not known here.")
    with _free(lambda: _require_free_code(merchant, values.get("code"), other_than=store.pk)):
        save_checked(store, **values)
    log.info("loyalty.store_changed", merchant_id=merchant.pk, store_id=store.pk, fields=sorted(values))
    return store


def add_membership(*, merchant: Merchant, username: str, role: str, actor: str, at: datetime) -> Membership:
    """Let a user see, or change, what is the merchant's. The name must be exact.

    Platform admins need no membership, so they are as unknown here as users who are switched off: nobody learns
    from this who runs the platform.

    Raises:
        UserNotFound: nobody of this name can be a member.
        AlreadyMember: they are.
        InvalidInput: there is no such role.
    """
    username = require_text(username, field="username")
    user = User.objects.filter(username=username, is_active=True, is_superuser=False).first()
    if user is None:
        # One is a typing error; many are somebody who tries names.
        log.warning("loyalty.membership_refused", merchant_id=merchant.pk)
        raise UserNotFound("There is no user of this name who can be given a membership.", field="username")
    with _free(lambda: _require_no_member(merchant, user)):
        membership = save_checked(Membership(merchant=merchant, user=user), role=role)
    log.info("loyalty.membership_added", merchant_id=merchant.pk, membership_id=membership.pk, role=role)
    return membership


@transaction.atomic
def change_membership(*, merchant: Merchant, membership_id: int, role: str, actor: str, at: datetime) -> Membership:
    """Let a user do more or less for the merchant. `actor` is the name of the user who asks for it.

    Raises:
        MembershipNotFound: the merchant has no such membership.
        OwnMembership: it is the actor's.
        NothingToChange: they have this role.
        InvalidInput: there is no such role.
    """
    membership = save_checked(_membership_of_another(merchant, membership_id, actor), role=role)
    log.info("loyalty.membership_changed", merchant_id=merchant.pk, membership_id=membership_id, role=role)
    return membership


@transaction.atomic
def remove_membership(*, merchant: Merchant, membership_id: int, actor: str, at: datetime) -> None:
    """Let a user see nothing more of the merchant. `actor` is the name of the user who asks for it.

    Raises:
        MembershipNotFound: the merchant has no such membership.
        OwnMembership: it is the actor's.
    """
    membership = _membership_of_another(merchant, membership_id, actor)
    log.info(
        "loyalty.membership_removed", merchant_id=merchant.pk, membership_id=membership_id, user=membership.user_id
    )
    membership.delete()


def is_own(membership: Membership, username: str) -> bool:
    """Whether it is this user's. Nobody changes what they may do themselves, or locks themselves out."""
    return membership.user.get_username() == username


def _membership_of_another(merchant: Merchant, membership_id: int, actor: str) -> Membership:
    memberships = Membership.objects.select_for_update(of=("self",)).select_related("user", "merchant")
    found = memberships.filter(merchant=merchant, pk=membership_id).first()
    if found is None:
        raise MembershipNotFound("This membership is not known here.")
    if is_own(found, actor):
        raise OwnMembership("This is your own membership. Ask another manager or a platform admin.")
    return found


def _require_no_member(merchant: Merchant, user: User) -> None:
    if Membership.objects.filter(merchant=merchant, user=user).exists():
        raise AlreadyMember("This user has a membership of the merchant. Change that one.")


def _require_free_code(merchant: Merchant, code: str | None, *, other_than: int = 0) -> None:
    if code is not None and Store.objects.filter(merchant=merchant, code=code).exclude(pk=other_than).exists():
        raise StoreExists("Another store of the merchant has this code. Choose another one.", field="code")


@contextmanager
def _free(require_free: Callable[[], None]) -> Iterator[None]:
    """Ask before something is saved, and again when it was taken at that very moment."""
    require_free()
    try:
        yield
    except InvalidInput:
        require_free()
        raise


def _usable(**given: Any) -> dict[str, Any]:
    """What is given, and not None. The models check the form of each value, but not for control characters."""
    values = {name: value for name, value in given.items() if value is not None}
    return {
        name: require_text(value, field=name) if isinstance(value, str) else value for name, value in values.items()
    }
