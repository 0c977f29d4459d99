"""A staff member and what is done with one, with the same PIN everywhere."""

from loyalty.errors import InvalidPin, PinLocked
from loyalty.models import Merchant, StaffMember, Store
from loyalty.services import staff
from tests.factories import NOON

PIN, WRONG = "730418", "999998"


def add(merchant: Merchant, *, pin: str | None = PIN, **fields) -> StaffMember:
    fields = {"display_name": "Bea", "role": "cashier", "stores": [], **fields}
    return staff.add_staff_member(merchant=merchant, pin=pin, actor="ana", at=NOON, **fields).staff_member


def sign_in(store: Store, member: StaffMember, pin: str = PIN, *, at=NOON) -> staff.OpenedSession:
    return staff.open_session(store=store, staff_member_id=member.pk, pin=pin, at=at)


def lets_in(store: Store, member: StaffMember, pin: str = PIN, *, at=NOON) -> bool:
    return sign_in(store, member, pin, at=at).staff_session.staff_member_id == member.pk


def refused(store: Store, member: StaffMember, pin: str = WRONG, *, at=NOON) -> InvalidPin | PinLocked:
    try:
        sign_in(store, member, pin, at=at)
    except (InvalidPin, PinLocked) as refusal:
        return refusal
    raise AssertionError("The PIN was taken.")


def lock(store: Store, member: StaffMember, *, at=NOON) -> None:
    for _ in range(5):
        assert isinstance(refused(store, member, at=at), InvalidPin)


def state(member: StaffMember) -> tuple[int, object]:
    member.refresh_from_db()
    return member.failed_attempts, member.locked_until


def change(member: StaffMember, **changes) -> StaffMember:
    return staff.update_staff_member(
        merchant=member.merchant, staff_member_id=member.pk, actor="ana", at=NOON, **changes
    )


def reset(member: StaffMember, **choices) -> staff.IssuedPin:
    return staff.reset_pin(merchant=member.merchant, staff_member_id=member.pk, actor="ana", at=NOON, **choices)


def unlock(member: StaffMember) -> StaffMember:
    return staff.unlock_staff_member(merchant=member.merchant, staff_member_id=member.pk, actor="ana", at=NOON)
