"""PINs: which are good enough, what is kept of one, and how wrong ones are counted.

What is kept is slow to compare, and worthless without the pepper, which is not in the database.
"""

import hmac
import itertools
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction

from loyalty.errors import InvalidInput
from loyalty.models import Store
from loyalty.services.keys import WORKS_AT

USUAL_LENGTH, SHORTEST, LONGEST = 6, 4, 12
HASHER = "argon2"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A guess that was counted, or one that comes too early because of a lock."""

    staff_member_id: int
    pin_hash: str = field(repr=False)
    number: int
    allowed: int
    is_refused: bool
    locked_until: datetime | None


def new_pin(pin: str | None) -> str:
    """The PIN that was asked for, or one that is drawn.

    Raises:
        InvalidInput: it has letters, is too short or too long, or is among the first that anybody would try.
    """
    if pin is None:
        return _drawn_pin()
    if not (pin.isascii() and pin.isdigit() and SHORTEST <= len(pin) <= LONGEST):
        raise InvalidInput(f"A PIN has {SHORTEST} to {LONGEST} digits and nothing else.", field="pin")
    if _is_weak(pin):
        raise InvalidInput("This PIN is too easy to guess. Choose digits that do not count up or down.", field="pin")
    return pin


def _drawn_pin() -> str:
    while True:
        pin = f"{secrets.randbelow(10**USUAL_LENGTH):0{USUAL_LENGTH}}"
        if not _is_weak(pin):
            return pin


def _is_weak(pin: str) -> bool:
    """Whether it is one digit again and again, or counts up or down as on a keypad: 7777, 1234, 7890, 4321."""
    steps = {(int(after) - int(before)) % 10 for before, after in itertools.pairwise(pin)}
    return steps in ({0}, {1}, {9})


def hashed(staff_member_id: int, pin: str) -> str:
    return make_password(_peppered(staff_member_id, pin), hasher=HASHER)


def matches(pin: str, attempt: Attempt) -> bool:
    """Compare, which takes a tenth of a second of work on purpose. Only what was counted is compared."""
    peppered = _peppered(attempt.staff_member_id, pin)
    return not attempt.is_refused and check_password(peppered, attempt.pin_hash, preferred=HASHER)


def _peppered(staff_member_id: int, pin: str) -> str:
    if not settings.PIN_PEPPER:
        raise ImproperlyConfigured("PIN_PEPPER is not set.")
    message = f"{staff_member_id}:{pin}".encode("utf-8", "surrogatepass")
    return hmac.digest(settings.PIN_PEPPER.encode(), message, "sha256").hex()


COUNT_ATTEMPT = f"""
    WITH asked AS MATERIALIZED (
        SELECT loyalty_staffmember.id, loyalty_staffmember.pin_hash, loyalty_staffmember.locked_until,
            loyalty_program.pin_attempts, loyalty_program.pin_lock_minutes,
            CASE WHEN loyalty_staffmember.locked_until IS NULL
                THEN loyalty_staffmember.failed_attempts + 1 ELSE 1 END AS number,
            coalesce(loyalty_staffmember.locked_until > %(at)s, FALSE) AS is_refused
        FROM loyalty_staffmember
        JOIN loyalty_program ON loyalty_program.merchant_id = loyalty_staffmember.merchant_id
        WHERE loyalty_staffmember.id = %(staff_member)s AND loyalty_staffmember.merchant_id = %(merchant)s
            AND loyalty_staffmember.is_active AND {WORKS_AT.format(store="%(store)s")}
        FOR NO KEY UPDATE OF loyalty_staffmember
    ), counted AS (
        UPDATE loyalty_staffmember SET
            failed_attempts = asked.number,
            locked_until = CASE WHEN asked.number >= asked.pin_attempts
                THEN %(at)s + asked.pin_lock_minutes * interval '1 minute' END
        FROM asked WHERE loyalty_staffmember.id = asked.id AND NOT asked.is_refused
        RETURNING loyalty_staffmember.locked_until
    )
    SELECT asked.pin_hash, asked.number, asked.pin_attempts, asked.is_refused,
        coalesce(counted.locked_until, asked.locked_until)
    FROM asked LEFT JOIN counted ON TRUE
"""  # noqa: S608  our own words


def count_attempt(store: Store, staff_member_id: int, *, at: datetime) -> Attempt | None:
    """Count a guess and commit that, or find that there is a lock; None: nobody of this number works here."""
    asked: dict[str, Any] = {
        "staff_member": staff_member_id,
        "merchant": store.merchant_id,
        "store": store.pk,
        "at": at,
    }
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(COUNT_ATTEMPT, asked)
        row = cursor.fetchone()
    if row is None:
        return None
    pin_hash, number, allowed, is_refused, locked_until = row
    return Attempt(
        staff_member_id=staff_member_id,
        pin_hash=pin_hash,
        number=number,
        allowed=allowed,
        is_refused=is_refused,
        locked_until=locked_until,
    )
