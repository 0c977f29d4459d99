"""Expiry as a person would first write it: card by card, with the ORM. Slow, simple and trusted.

What the product does in sets must come out exactly as here, and the benchmark measures how much faster it is. The
rules are written down again on purpose: nothing of `ExpirationPolicy` or `idle_cards` is used.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pgtrigger
from django.db import connection, transaction
from django.db.models import F, QuerySet

from loyalty.models import Card, CardBalance, ExpirationRun, Program, Transaction, TransactionType
from notifications.models import Message

CARDS_PER_COMMIT = 500
A_DAY_OF_ANY_ZONE = timedelta(days=2)


def expire_points_per_card(
    as_of: datetime,
    run: ExpirationRun,
    cards: "QuerySet[CardBalance] | None" = None,
    *,
    without_notice: bool = False,
) -> None:
    """Warn and expire what is due as of a moment, of these balances or of all."""
    balances = CardBalance.objects.all() if cards is None else cards
    for program in Program.objects.select_related("merchant").order_by("pk"):
        if rests(program, as_of):
            continue
        for card_ids in chunks(near_their_limit(balances, program, as_of)):
            done: Counter[str] = Counter()
            with transaction.atomic(), balances_checked_at_the_end(card_ids):
                for card_id in card_ids:
                    done.update(treat(card_id, as_of, run, without_notice))
                ExpirationRun.objects.filter(pk=run.pk).update(**{name: F(name) + n for name, n in done.items()})


@contextmanager
def balances_checked_at_the_end(card_ids: list[int]) -> Iterator[None]:
    """The ORM writes a balance and its ledger row in two statements, so the database's check comes after both."""
    [(model, trigger)] = pgtrigger.registered("loyalty.CardBalance:change_equals_last_row")
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('pgtrigger.ignore', %s, true)", [f"{{{trigger.get_pgid(model)}}}"])
        yield
        cursor.execute(
            "SELECT count(*) FROM loyalty_cardbalance balance JOIN loyalty_transaction last "
            "ON last.card_id = balance.card_id AND last.seq = balance.last_seq WHERE balance.card_id = ANY(%s) "
            "AND (points_balance, stamp_count) = (points_balance_after, stamps_balance_after)",
            [card_ids],
        )
        assert cursor.fetchone()[0] == len(card_ids)
        cursor.execute("SELECT set_config('pgtrigger.ignore', '', true)")


def rests(program: Program, as_of: datetime) -> bool:
    today = as_of.astimezone(ZoneInfo(program.merchant.timezone)).date()
    paused = program.expiration_paused_until is not None and today <= program.expiration_paused_until
    return paused or not (program.is_active and program.merchant.is_active and program.points_expiration_days)


def near_their_limit(balances: "QuerySet[CardBalance]", program: Program, as_of: datetime) -> "QuerySet[CardBalance]":
    """Generously more than what can be due, so that the benchmark's loop does not visit every card."""
    idle_days = timedelta(days=(program.points_expiration_days or 0) - program.expiration_warning_days)
    since = as_of - idle_days + A_DAY_OF_ANY_ZONE
    return balances.filter(program=program, points_balance__gt=0, last_activity_at__lt=since)


def chunks(balances: "QuerySet[CardBalance]") -> Iterator[list[int]]:
    ids = list(balances.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), CARDS_PER_COMMIT):
        yield ids[start : start + CARDS_PER_COMMIT]


def treat(card_id: int, as_of: datetime, run: ExpirationRun, without_notice: bool) -> dict[str, int]:
    """Do with one card what is due, and return the run's counts that it changes."""
    locked = CardBalance.objects.select_for_update(of=("self",), skip_locked=True, no_key=True)
    balance = locked.select_related("card__customer", "card__program__merchant").filter(pk=card_id).first()
    if balance is None or balance.points_balance == 0:
        return {}
    if balance.card.expiration_exempt or balance.card.status != Card.Status.ACTIVE:
        return {}
    program = balance.card.program
    notice = program.require_expiration_notice and not without_notice
    zone = ZoneInfo(program.merchant.timezone)
    today = as_of.astimezone(zone).date()
    expires_on = balance.last_activity_at.astimezone(zone).date() + timedelta(days=program.points_expiration_days or 0)
    promised = balance.expiration_warned_for
    deadline = max(expires_on, promised or expires_on)
    warned = is_warned(balance, program, zone)
    too_late_to_warn = not notice and today > expires_on
    in_warning_period = today >= expires_on - timedelta(days=program.expiration_warning_days)
    if in_warning_period and not too_late_to_warn and (not warned or (promised or expires_on) < expires_on):
        full_notice = today + timedelta(days=program.expiration_warning_days)
        warn(balance, run, max(deadline, full_notice) if program.require_expiration_notice else deadline)
        return {"warnings": 1}
    if today > deadline and (warned or not notice):
        points = balance.points_balance
        expire(balance, run, expires_on, today)
        return {"cards_expired": 1, "points_expired": points}
    return {}


def is_warned(balance: CardBalance, program: Program, zone: ZoneInfo) -> bool:
    """Warnings sent before or during a pause no longer count."""
    warned_at, paused_until = balance.last_expiration_warning_at, program.expiration_paused_until
    if warned_at is None:
        return False
    return paused_until is None or warned_at.astimezone(zone).date() > paused_until


def warn(balance: CardBalance, run: ExpirationRun, promise: date) -> None:
    balance.last_expiration_warning_at = run.as_of
    balance.expiration_warned_for = promise
    balance.version += 1
    balance.changed_at = run.as_of
    balance.save(update_fields=["last_expiration_warning_at", "expiration_warned_for", "version", "changed_at"])
    cycle = f"{balance.last_activity_at.isoformat()}:{promise}"
    write_message(balance, run, "loyalty_points_expiring", cycle, balance.points_balance, expires_on=str(promise))


def expire(balance: CardBalance, run: ExpirationRun, expires_on: date, today: date) -> None:
    program, points = balance.card.program, balance.points_balance
    balance.points_balance = 0
    balance.lifetime_points_expired += points
    balance.last_seq += 1
    balance.version += 1
    balance.changed_at = run.as_of
    balance.save(update_fields=["points_balance", "lifetime_points_expired", "last_seq", "version", "changed_at"])
    warned_at, warned_for = balance.last_expiration_warning_at, balance.expiration_warned_for
    Transaction.objects.create(
        card=balance.card,
        merchant_id=program.merchant_id,
        seq=balance.last_seq,
        type=TransactionType.POINTS_EXPIRED,
        points_delta=-points,
        points_balance_after=0,
        stamps_balance_after=balance.stamp_count,
        actor=run.initiated_by or run.trigger,
        reason=run.reason,
        expiration_run=run,
        cycle_started_at=balance.last_activity_at,
        details={
            "expires_after_days": program.points_expiration_days,
            "last_activity_at": balance.last_activity_at.isoformat(),
            "expires_on": str(expires_on),
            "warned_at": warned_at.isoformat() if warned_at else None,
            "warned_for": str(warned_for) if warned_for else None,
            "run": run.pk,
        },
        transaction_at=run.as_of,
        created_at=run.as_of,
    )
    last_day = max(expires_on, warned_for or expires_on)
    cycle = balance.last_activity_at.isoformat()
    write_message(
        balance, run, "loyalty_points_expired", cycle, points, expires_on=str(last_day), expired_on=str(today)
    )


def write_message(balance: CardBalance, run: ExpirationRun, kind: str, cycle: str, points: int, **figures: Any) -> None:
    customer, program = balance.card.customer, balance.card.program
    merchant = program.merchant
    last_activity_on = balance.last_activity_at.astimezone(ZoneInfo(merchant.timezone)).date()
    message = Message(
        kind=kind,
        scope=str(merchant.pk),
        reference=str(balance.card_id),
        recipient=customer.email,
        locale=customer.locale or merchant.locale,
        context={
            "merchant_name": merchant.name,
            "support_email": merchant.support_email,
            "card_name": program.name,
            "card_number": balance.card.card_number,
            "first_name": customer.first_name,
            "points": points,
            "last_activity_on": str(last_activity_on),
            "expires_after_days": program.points_expiration_days,
            **figures,
        },
        dedupe_key=f"{kind}:{balance.card_id}:{cycle}",
        status=Message.Status.DUE if customer.email else Message.Status.UNDELIVERABLE,
        attempts=0,
        resends=0,
        next_attempt_at=run.as_of,
        created_at=run.as_of,
    )
    Message.objects.bulk_create([message], ignore_conflicts=True)
