"""Moves of one card: its ledger row and its new balance, written together."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from django.db import connection, models

from loyalty.errors import InsufficientPoints, InvalidInput
from loyalty.models import (
    Card,
    CardBalance,
    Cycle,
    Reward,
    StaffMember,
    Store,
    Transaction,
    TransactionType,
)
from loyalty.services.once import Client, Request

MAX_BALANCE = 2_000_000_000
LONGEST_AGENT = 200


@dataclass(frozen=True, kw_only=True)
class Move:
    """What happened to a card. `transaction_at` is the moment in the shop."""

    type: TransactionType
    transaction_at: datetime
    points: int = 0
    stamps: int = 0
    amount_minor: int | None = None
    points_per_unit: Decimal | None = None
    store: Store | None = None
    staff_member: StaffMember | None = None
    actor: str = ""
    receipt_number: str = ""
    reward: Reward | None = None
    reverses: Transaction | None = None
    reverses_in_full: bool = False
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    request: Request | None = None
    client: Client | None = None
    cycle: Cycle | None = None  # where the card stands afterwards; None: an activity says, or it stays as it was
    cycle_has_expired: bool | None = None  # None: not looked up yet

    @property
    def counts_as_activity(self) -> bool:
        if self.type == TransactionType.ADMIN_ADJUSTMENT:
            # Points given back live a full term again; otherwise tonight's run would take them.
            return self.points > 0 or self.stamps > 0
        return self.type in Transaction.COUNTS_AS_ACTIVITY


class Opening(NamedTuple):
    """A card that is saved and has no balance yet, with the moves that it begins with."""

    card: Card
    moves: Sequence[Move]


def open_balances(openings: Sequence[Opening], *, at: datetime) -> None:
    """Give new cards their balance and first ledger rows. All or nothing, in the caller's transaction."""
    balances, rows = [], []
    for card, moves in openings:
        balance = CardBalance(card=card, program=card.program, last_activity_at=moves[0].transaction_at, changed_at=at)
        balances.append(balance)
        rows += [_apply(balance, move, at=at) for move in moves]
    CardBalance.objects.bulk_create(balances)
    Transaction.objects.bulk_create(rows)


def post(card: Card, move: Move, *, at: datetime) -> Transaction:
    """Write one move of a locked card: its ledger row and its new balance, in one statement.

    A receipt number of an earn is claimed for its store, and the answer to a request kept, in the same statement.

    Raises:
        InsufficientPoints: the balance is smaller than what the move takes.
        InvalidInput: the card would hold more than it can.
        IntegrityError: a constraint says no, such as a receipt that has earned already.
    """
    row = _apply(card.balance, move, at=at)
    statement, values = _write_statement(card.balance, row, move.request)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row.pk = cursor.fetchone()[0]
    row._state.adding = False
    return row


def foresee(card: Card, move: Move, *, at: datetime) -> Transaction:
    """What `post` would write, with the card's balance as it would be; neither is saved.

    Raises:
        InsufficientPoints, InvalidInput: as `post`.
    """
    return _apply(card.balance, move, at=at)


def _apply(balance: CardBalance, move: Move, *, at: datetime) -> Transaction:
    """Change the balance in memory and return the row that says so."""
    _check_range(balance, move)
    client = move.client if balance.card.program.log_client_address else None
    if move.cycle:
        balance.last_activity_at, balance.last_expiration_warning_at, balance.expiration_warned_for = move.cycle
    elif move.counts_as_activity:
        balance.start_new_cycle(_cycle_start(balance, move, at=at))
    balance.points_balance += move.points
    balance.stamp_count += move.stamps
    balance.last_seq += 1
    balance.version += 1
    balance.changed_at = at
    _count_lifetime(balance, move)
    return Transaction(
        card=balance.card,
        merchant=balance.card.program.merchant,
        seq=balance.last_seq,
        type=move.type,
        points_delta=move.points,
        stamps_delta=move.stamps,
        points_balance_after=balance.points_balance,
        stamps_balance_after=balance.stamp_count,
        amount_minor=move.amount_minor,
        points_per_unit=move.points_per_unit,
        store=move.store,
        staff_member=move.staff_member,
        actor=move.actor,
        receipt_number=move.receipt_number,
        reward=move.reward,
        reverses=move.reverses,
        reverses_in_full=move.reverses_in_full,
        reason=move.reason,
        details=move.details,
        idempotency_key=move.request.ledger_key if move.request else "",
        client_address=client.address if client else "",
        client_agent=client.agent[:LONGEST_AGENT] if client else "",
        transaction_at=move.transaction_at,
        created_at=at,
    )


def _check_range(balance: CardBalance, move: Move) -> None:
    if balance.points_balance + move.points < 0:
        raise InsufficientPoints(
            f"The card has {balance.points_balance:,} points, which is fewer than {-move.points:,}.",
            points_balance=balance.points_balance,
        )
    if balance.stamp_count + move.stamps < 0:
        raise InsufficientPoints(
            f"The card has {balance.stamp_count:,} stamps, which is fewer than {-move.stamps:,}.",
            stamp_count=balance.stamp_count,
        )
    if balance.points_balance + move.points > MAX_BALANCE or balance.stamp_count + move.stamps > MAX_BALANCE:
        raise InvalidInput(f"A card holds at most {MAX_BALANCE:,} points and stamps.")


def joined_cycle(balance: CardBalance, other: CardBalance, *, at: datetime) -> Cycle:
    """Where a card stands when it takes over another one: the later activity, the later promise, and not warned.

    Nobody was told that the points of both go on one day, so the customer is warned again, with a full notice.
    """
    started_at = max(balance.last_activity_at, other.last_activity_at)
    if other.points_balance and started_at == balance.last_activity_at and _has_expired(balance):
        # That cycle has ended, and ends once: a second expiry would fail on this card every night.
        started_at = at
    promises = [day for day in (balance.expiration_warned_for, other.expiration_warned_for) if day]
    return Cycle(started_at, None, max(promises, default=None))


def _cycle_start(balance: CardBalance, move: Move, *, at: datetime) -> datetime:
    """When the cycle that this activity begins started."""
    is_of_an_old_cycle = move.transaction_at <= balance.last_activity_at
    may_have_expired = is_of_an_old_cycle and balance.points_balance == 0 and balance.lifetime_points_expired
    if may_have_expired and (_has_expired(balance) if move.cycle_has_expired is None else move.cycle_has_expired):
        # The cycle of an old offline sale has ended: its points would go tonight, without notice.
        return at
    return move.transaction_at


def _has_expired(balance: CardBalance) -> bool:
    """Whether the cycle that the card is in has ended with an expiry."""
    expiries = Transaction.objects.filter(card_id=balance.card_id, type=TransactionType.POINTS_EXPIRED)
    return expiries.filter(cycle_started_at=balance.last_activity_at).exists()


def _count_lifetime(balance: CardBalance, move: Move) -> None:
    match move.type:
        case TransactionType.POINTS_EARNED | TransactionType.WELCOME_BONUS:
            balance.lifetime_points_earned += move.points
        case TransactionType.POINTS_REDEEMED:
            balance.lifetime_points_redeemed -= move.points


def _write_statement(balance: CardBalance, row: Transaction, request: Request | None) -> tuple[str, list[Any]]:
    balance_names, row_names = _columns(CardBalance), _columns(Transaction)
    changed = [name for name in balance_names if name not in ("card_id", "program_id")]
    assignments = ", ".join(f"{name} = %s" for name in changed)
    statement = (
        f"WITH moved AS (UPDATE loyalty_cardbalance SET {assignments} WHERE card_id = %s), "  # noqa: S608
        f"posted AS (INSERT INTO loyalty_transaction ({', '.join(row_names)}) "
        f"VALUES ({', '.join(['%s'] * len(row_names))}) RETURNING id)"
    )
    values = [*_values(balance, changed), balance.card_id, *_values(row, row_names)]
    if row.type == TransactionType.POINTS_EARNED and row.receipt_number:
        statement += (
            ", claimed AS (INSERT INTO loyalty_receiptclaim (store_id, receipt_number, transaction_id) "
            "SELECT %s, %s, id FROM posted)"
        )
        values += [row.store_id, row.receipt_number]
    if request:
        statement += (
            ", answered AS (INSERT INTO loyalty_idempotencykey "
            "(merchant_id, user_id, card_id, key, fingerprint, status, answer, created_at) "
            "SELECT %s, %s, %s, %s, %s, %s, jsonb_build_object('transaction', id), %s FROM posted)"
        )
        values += [row.merchant_id, request.user_id, row.card_id, request.key, request.fingerprint, request.status]
        values.append(row.created_at)
    return statement + " SELECT id FROM posted", values  # noqa: S608  column names of our own models


@cache
def _columns(model: type[models.Model]) -> dict[str, Any]:
    """Columns and fields of a table, its own id left out."""
    return {str(f.column): f for f in model._meta.concrete_fields if not isinstance(f, models.AutoField)}


def _values(instance: models.Model, names: Collection[str]) -> list[Any]:
    fields = _columns(type(instance))
    return [fields[name].get_db_prep_save(getattr(instance, fields[name].attname), connection) for name in names]
