"""Staff members: who may work at the tills, with which PIN, and the shifts that a PIN opens."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from loyalty.errors import (
    InvalidInput,
    InvalidPin,
    NothingToChange,
    PinLocked,
    StaffMemberNotFound,
    StaffPinsDisabled,
    StaffSessionNotFound,
)
from loyalty.models import Merchant, Program, StaffMember, StaffSession, Store
from loyalty.services import pins
from loyalty.services.keys import hash_of, new_secret, require_label
from loyalty.services.pins import Attempt

log = structlog.get_logger()


@dataclass(frozen=True)
class IssuedPin:
    """A new PIN, for the only time, and whose it is."""

    pin: str = field(repr=False)
    staff_member: StaffMember


@dataclass(frozen=True)
class OpenedSession:
    """The token of a shift, for the only time, and what is kept of it."""

    token: str = field(repr=False)
    staff_session: StaffSession


def add_staff_member(
    *,
    merchant: Merchant,
    display_name: str,
    role: str,
    stores: Collection[Store],
    actor: str,
    at: datetime,
    pin: str | None = None,
) -> IssuedPin:
    """Let a person work at these stores, or at all stores of the merchant if none is named, and give them a PIN.

    Without `pin`, one of six digits is drawn.

    Raises:
        InvalidInput: the name, the role or the PIN cannot be used, or a store is not the merchant's.
    """
    pin = pins.new_pin(pin)
    member = StaffMember(
        merchant=merchant, display_name=require_label(display_name, field="display_name"), role=_known_role(role)
    )
    _require_own(stores, merchant)
    with transaction.atomic():
        member.save()
        member.stores.set(stores)
        # The hash has the id in it, so that two people with one PIN do not show.
        member.pin_hash = pins.hashed(member.pk, pin)
        member.save(update_fields=["pin_hash"])
    log.info("loyalty.staff_member_added", merchant_id=merchant.pk, staff_member_id=member.pk, role=role)
    return IssuedPin(pin, member)


@transaction.atomic
def update_staff_member(
    *,
    merchant: Merchant,
    staff_member_id: int,
    actor: str,
    at: datetime,
    display_name: str | None = None,
    role: str | None = None,
    stores: Collection[Store] | None = None,
    is_active: bool | None = None,
) -> StaffMember:
    """Change what is given and leave the rest. Who is switched off is signed out at every till.

    Raises:
        StaffMemberNotFound: the merchant has no such staff member.
        NothingToChange: nothing is given, or it is like this already.
        InvalidInput: the name or the role cannot be used, or a store is not the merchant's.
    """
    member = _locked(merchant, staff_member_id)
    given: dict[str, Any] = {
        "display_name": None if display_name is None else require_label(display_name, field="display_name"),
        "role": None if role is None else _known_role(role),
        "is_active": is_active,
    }
    changed = {name: value for name, value in given.items() if value not in (None, getattr(member, name))}
    if not _moved(member, stores, merchant) and not changed:
        raise NothingToChange("Nothing is different from what is there.")
    for name, value in changed.items():
        setattr(member, name, value)
    member.save(update_fields=list(changed))
    if not member.is_active:
        _end_sessions(member, at=at)
    log.info("loyalty.staff_member_changed", staff_member_id=member.pk, role=member.role, is_active=member.is_active)
    return member


def reset_pin(
    *, merchant: Merchant, staff_member_id: int, actor: str, at: datetime, pin: str | None = None
) -> IssuedPin:
    """Give a staff member another PIN, unlocked; whoever is signed in with the old one is signed out.

    Without `pin`, one of six digits is drawn.

    Raises:
        StaffMemberNotFound: the merchant has no such staff member. InvalidInput: the PIN cannot be used.
    """
    pin = pins.new_pin(pin)
    hashed = pins.hashed(staff_member_id, pin)  # slow, so before anybody waits for the row
    with transaction.atomic():
        member = _locked(merchant, staff_member_id)
        member.pin_hash, member.failed_attempts, member.locked_until = hashed, 0, None
        member.save(update_fields=["pin_hash", "failed_attempts", "locked_until"])
        _end_sessions(member, at=at)
    log.info("loyalty.pin_reset", staff_member_id=staff_member_id)
    return IssuedPin(pin, member)


@transaction.atomic
def unlock_staff_member(*, merchant: Merchant, staff_member_id: int, actor: str, at: datetime) -> StaffMember:
    """End a lock and begin to count wrong PINs anew. The PIN stays as it is.

    Raises:
        StaffMemberNotFound: the merchant has no such staff member.
        NothingToChange: there is no lock, and no wrong PIN since the last right one.
    """
    member = _locked(merchant, staff_member_id)
    if not member.failed_attempts and member.locked_until is None:
        raise NothingToChange("This staff member is not locked.")
    member.failed_attempts, member.locked_until = 0, None
    member.save(update_fields=["failed_attempts", "locked_until"])
    log.info("loyalty.staff_member_unlocked", staff_member_id=staff_member_id)
    return member


def open_session(*, store: Store, staff_member_id: int, pin: str, at: datetime) -> OpenedSession:
    """Begin a shift of a staff member at a store.

    The attempt is counted and committed before the PIN is compared: a process that dies, or a hundred that guess
    together, get no comparison more than the program allows. So this cannot be part of a larger transaction.

    Raises:
        StaffPinsDisabled: the program knows no PINs.
        StaffMemberNotFound: nobody of this number works at this store.
        PinLocked: too many were wrong; none is compared until `locked_until`.
        InvalidPin: it is wrong. The last one that is allowed locks.
    """
    program: Program | None = getattr(store.merchant, "program", None)
    if program is None or program.staff_pin_policy == Program.PinPolicy.DISABLED:
        raise StaffPinsDisabled("This program works without PINs.")
    attempt = pins.count_attempt(store, staff_member_id, at=at)
    if attempt is None:
        raise StaffMemberNotFound("This staff member is not known here.")
    if attempt.is_refused:
        raise _lock_refusal(attempt, at=at)
    opened = _begin_shift(store, attempt, at=at) if pins.matches(pin, attempt) else None
    if opened is None:
        raise _refused_pin(attempt, store)
    log.info("loyalty.staff_session_opened", staff_member_id=staff_member_id, store_id=store.pk)
    return opened


def close_session(*, store: Store, token: str, at: datetime) -> StaffSession:
    """End a shift.

    Raises:
        StaffSessionNotFound: the store has no session with this token, or it is over already.
    """
    found = StaffSession.objects.filter(store=store, token_hash=hash_of(token), expires_at__gt=at).first()
    if found is None:
        raise StaffSessionNotFound("This session is over.")
    found.expires_at = at
    found.save(update_fields=["expires_at"])
    log.info("loyalty.staff_session_closed", staff_member_id=found.staff_member_id, store_id=store.pk)
    return found


@transaction.atomic
def _begin_shift(store: Store, attempt: Attempt, *, at: datetime) -> OpenedSession | None:
    """None: while the PIN was compared, it was replaced or its owner was switched off."""
    unchanged = StaffMember.objects.filter(pk=attempt.staff_member_id, pin_hash=attempt.pin_hash, is_active=True)
    if not unchanged.update(failed_attempts=0, locked_until=None):
        return None
    token = new_secret("staff")
    session = StaffSession.objects.create(
        staff_member_id=attempt.staff_member_id,
        store=store,
        token_hash=hash_of(token),
        created_at=at,
        expires_at=at + timedelta(hours=settings.LOYALTY_STAFF_SESSION_HOURS),
    )
    return OpenedSession(token, session)


def _lock_refusal(attempt: Attempt, *, at: datetime) -> PinLocked:
    locked_until = attempt.locked_until or at
    seconds = max(1, math.ceil((locked_until - at).total_seconds()))
    minutes = math.ceil(seconds / 60)
    wait = "a minute" if minutes == 1 else f"{minutes} minutes"
    return PinLocked(
        f"Too many PINs were wrong. Try again in {wait}, or ask a manager to unlock you.",
        locked_until=locked_until.isoformat(),
        retry_after_seconds=seconds,
    )


def _refused_pin(attempt: Attempt, store: Store) -> InvalidPin:
    left = max(0, attempt.allowed - attempt.number)
    log.warning("loyalty.pin_refused", staff_member_id=attempt.staff_member_id, store_id=store.pk, attempts_left=left)
    if left:
        return InvalidPin(f"This PIN is wrong. Attempts left: {left}.", attempts_left=left)
    return InvalidPin("This PIN is wrong, and too many were. Ask a manager to unlock you.", attempts_left=0)


def _locked(merchant: Merchant, staff_member_id: int) -> StaffMember:
    found = StaffMember.objects.select_for_update(no_key=True).filter(merchant=merchant, pk=staff_member_id).first()
    if found is None:
        raise StaffMemberNotFound("This staff member is not known here.")
    return found


def _known_role(role: str) -> str:
    if role not in StaffMember.Role.values:
        raise InvalidInput(f"A role is one of {', '.join(StaffMember.Role.values)}.", field="role")
    return role


def _require_own(stores: Collection[Store], merchant: Merchant) -> None:
    if any(store.merchant_id != merchant.pk for store in stores):
        raise InvalidInput("Choose only stores of the same merchant.", field="stores")


def _moved(member: StaffMember, stores: Collection[Store] | None, merchant: Merchant) -> bool:
    """Let them work at these stores, if any are given. False: they work there already."""
    if stores is None or {store.pk for store in stores} == set(member.stores.values_list("pk", flat=True)):
        return False
    _require_own(stores, merchant)
    member.stores.set(stores)
    return True


def _end_sessions(member: StaffMember, *, at: datetime) -> None:
    member.sessions.filter(expires_at__gt=at).update(expires_at=at)
