"""Visits become stamps, and a full card of stamps becomes its reward."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog
from django.db import transaction

from loyalty.errors import DailyStampsReached, InvalidInput, NotEnoughStamps, StampCooldown
from loyalty.models import Card, Program, StaffMember, Store, Transaction, TransactionType
from loyalty.services import ledger
from loyalty.services.earning import accepted_moment, day_of, require_kind, require_usable
from loyalty.services.ledger import Move
from loyalty.services.once import Client, Request, once

log = structlog.get_logger()


class _Pace(NamedTuple):
    """How fast a card may go on at a moment. `cools_until` is None when it may have a stamp then."""

    left_today: int
    cools_until: datetime | None
    latest_stamp_at: datetime
    next_day: datetime


def add_stamps(
    *,
    store: Store,
    card_id: int,
    at: datetime,
    count: int = 1,
    transaction_at: datetime | None = None,
    staff_member: StaffMember | None = None,
    actor: str = "",
    client: Client | None = None,
    request: Request | None = None,
) -> Transaction:
    """Give a card stamps. The row's details say how many more it may have today and when the next one.

    `transaction_at` is the moment of the visit when a till was offline; by default it is `at`. Cooldown and daily
    limit are those of that moment, and voided stamps do not count. A visit from before the card's last expiry says so
    in its details.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not collect here.
        NotInThisProgram: the program collects no stamps.
        InvalidInput: the count is below 1, or more than a day allows.
        MomentNotAccepted: the visit is more than 72 hours old or more than 5 minutes in the future.
        DailyStampsReached, StampCooldown: not now; details say when, and how many are left today.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    with once(request), transaction.atomic():
        moment = accepted_moment(transaction_at or at, at=at)
        card = ledger.lock(card_id, merchant=store.merchant, request=request)
        require_usable(card, store=store)
        require_kind(card.program, Program.Kind.STAMPS)
        _require_count(card.program, count)
        pace = _pace(card, moment)
        _require_time_for(count, card.program, pace, at=at)
        move = Move(
            type=TransactionType.STAMP_EARNED,
            stamps=count,
            store=store,
            staff_member=staff_member,
            actor=actor,
            transaction_at=moment,
            details=_pace_after(count, card.program, pace, moment) | _expired_since(card, moment, at=at),
            client=client,
            request=request,
        )
        row = ledger.post(card, move, at=at)
    log.info("loyalty.stamps_earned", card_id=card_id, store_id=store.pk, transaction_id=row.pk, stamps=count)
    return row


def redeem_stamps(
    *,
    store: Store,
    card_id: int,
    at: datetime,
    staff_member: StaffMember | None = None,
    actor: str = "",
    client: Client | None = None,
    request: Request | None = None,
) -> Transaction:
    """Exchange a full card of stamps for the program's reward. Stamps above the target stay.

    Raises:
        CardNotFound: the store's merchant has no such card.
        CardNotActive, CardOfAnotherStore: the card may not redeem here.
        NotInThisProgram: the program collects no stamps.
        NotEnoughStamps: the target is not reached; details name both numbers.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    with once(request), transaction.atomic():
        card = ledger.lock(card_id, merchant=store.merchant, request=request)
        require_usable(card, store=store)
        require_kind(card.program, Program.Kind.STAMPS)
        _require_target(card)
        move = Move(
            type=TransactionType.STAMP_REDEEMED,
            stamps=-card.program.stamps_target,
            store=store,
            staff_member=staff_member,
            actor=actor,
            transaction_at=at,
            details={"reward": card.program.stamps_reward},
            client=client,
            request=request,
        )
        row = ledger.post(card, move, at=at)
    log.info("loyalty.stamps_redeemed", card_id=card_id, transaction_id=row.pk, stamps=-row.stamps_delta)
    return row


def _require_count(program: Program, count: int) -> None:
    if not 1 <= count <= program.max_daily_stamps:
        raise InvalidInput(f"Give 1 to {program.max_daily_stamps} stamps at once.", field="count")


def _require_target(card: Card) -> None:
    count, target = card.balance.stamp_count, card.program.stamps_target
    if count < target:
        raise NotEnoughStamps(
            f"The card has {count:,} of the {target:,} stamps that it takes.", stamp_count=count, stamps_target=target
        )


def _pace(card: Card, moment: datetime) -> _Pace:
    day, next_day = day_of(card.program, moment)
    cooldown = timedelta(minutes=card.program.cooldown_minutes)
    # Stamps of offline tills come late, so there may be some after the moment, too.
    near = Transaction.objects.filter(
        card=card,
        type=TransactionType.STAMP_EARNED,
        transaction_at__gte=min(day, moment - cooldown),
        transaction_at__lt=max(next_day, moment + cooldown),
    )
    stamps = list(near.not_given_back().values_list("transaction_at", "stamps_delta"))
    today = sum(count for given_at, count in stamps if day <= given_at < next_day)
    too_near = [given_at for given_at, _ in stamps if abs(given_at - moment) < cooldown]
    return _Pace(
        left_today=max(0, card.program.max_daily_stamps - today),
        cools_until=max(too_near) + cooldown if too_near else None,
        latest_stamp_at=max((given_at for given_at, _ in stamps), default=moment),
        next_day=next_day,
    )


def _require_time_for(count: int, program: Program, pace: _Pace, *, at: datetime) -> None:
    if count > pace.left_today:
        wait = _wait(pace.next_day, pace, at=at)
        if pace.left_today:
            raise DailyStampsReached(f"This card can have only {pace.left_today} more of its stamps today.", **wait)
        raise DailyStampsReached("This card has had all its stamps for today. Tomorrow it can have more.", **wait)
    if pace.cools_until:
        local = pace.cools_until.astimezone(program.merchant.zone)
        same_day = local.date() == program.policy.local_date(at)
        when = f"{local:%H:%M}" if same_day else f"{local:%H:%M on %d %B}"
        raise StampCooldown(
            f"This card got a stamp a moment ago. It can have the next one from {when}.",
            **_wait(pace.cools_until, pace, at=at),
        )


def _wait(until: datetime, pace: _Pace, *, at: datetime) -> dict[str, Any]:
    return {
        "retry_after_seconds": max(1, math.ceil((until - at).total_seconds())),
        "next_stamp_at": until.astimezone(UTC).isoformat(),
        "remaining_stamps_today": pace.left_today,
    }


def _pace_after(count: int, program: Program, pace: _Pace, moment: datetime) -> dict[str, Any]:
    next_at = max(moment, pace.latest_stamp_at) + timedelta(minutes=program.cooldown_minutes)
    left = pace.left_today - count
    if not left:
        next_at = max(next_at, pace.next_day)
    return {"next_stamp_at": next_at.astimezone(UTC).isoformat(), "remaining_stamps_today": left}


def _expired_since(card: Card, moment: datetime, *, at: datetime) -> dict[str, Any]:
    """What an offline visit says about an expiry that came after it."""
    if moment >= at or not card.balance.lifetime_points_expired:
        return {}
    expiries = Transaction.objects.filter(card=card, type=TransactionType.POINTS_EXPIRED, created_at__gt=moment)
    latest = expiries.order_by("-seq").values_list("pk", flat=True).first()
    return {"activity_predates_expiration": latest} if latest else {}
