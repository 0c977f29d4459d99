"""Lines of an import become customers with cards and balances, a chunk at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from django.db import IntegrityError, OperationalError, reset_queries, transaction
from django.db.models import F

from loyalty.models import Card, CardImport, CardImportRow, Customer, Program, TransactionType
from loyalty.models.card import new_card_number
from loyalty.services import ledger
from loyalty.services.copying import insert_many
from loyalty.services.ledger import Move, Opening

ROWS_PER_COMMIT = 1000
ATTEMPTS = 3
DEADLOCK = "40P01"
TAKEN_MEANWHILE = {
    "customer_external_id_once_per_merchant": "external_id",
    "customer_email_once_per_merchant": "email",
    "customer_phone_once_per_merchant": "phone",
}


@dataclass(frozen=True)
class Issue:
    """What every chunk of an import needs. `at` is the moment of the import."""

    card_import: CardImport
    program: Program
    at: datetime


def issue_cards(issue: Issue, progress: Callable[[int], None]) -> None:
    """Turn the waiting lines into cards. A line is deleted in the transaction in which it becomes one.

    Each chunk is committed by itself, so whoever is interrupted loses nothing and may begin again. A line whose
    customer enrolled meanwhile gets a problem and stays. `progress` is told how many lines are done.
    """
    last, done = 0, 0
    while chunk := _chunk(issue, last):
        last, done = chunk[-1].line, done + len(chunk)
        progress(done)
        # With DEBUG on, Django would keep every statement of every chunk.
        reset_queries()


def _chunk(issue: Issue, last: int) -> Sequence[CardImportRow]:
    """Issue the next lines and return them."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic():
                return _issue_waiting(issue, last)
        except OperationalError as error:
            # Somebody enrolled a customer of this chunk, and each waited for the other.
            if getattr(error.__cause__, "sqlstate", None) != DEADLOCK or attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _issue_waiting(issue: Issue, last: int) -> Sequence[CardImportRow]:
    lines = CardImportRow.objects.waiting(issue.card_import).filter(line__gt=last).order_by("line")
    chunk = list(lines.select_for_update()[:ROWS_PER_COMMIT])
    if not chunk:
        return chunk
    issued = _issued(issue, chunk)
    CardImportRow.objects.filter(pk__in=[line.pk for line in issued]).delete()
    CardImport.objects.filter(pk=issue.card_import.pk).update(imported=F("imported") + len(issued))
    return chunk


def _issued(issue: Issue, lines: Sequence[CardImportRow]) -> Sequence[CardImportRow]:
    """Open cards for all lines, or for all but those that cannot have one; these say why now."""
    try:
        with transaction.atomic():
            _open(issue, lines)
        return lines
    except IntegrityError as error:
        if len(lines) == 1:
            _refuse(lines[0], error)
            return []
    half = len(lines) // 2
    return [*_issued(issue, lines[:half]), *_issued(issue, lines[half:])]


def _refuse(line: CardImportRow, error: IntegrityError) -> None:
    column = TAKEN_MEANWHILE.get(_constraint(error))
    if column is None:
        raise error
    line.problems = [{"column": column, "reason": "belongs to a customer who enrolled meanwhile"}]
    line.save(update_fields=["problems"])


def _constraint(error: IntegrityError) -> str:
    diagnosis: Any = getattr(error.__cause__, "diag", None)
    return getattr(diagnosis, "constraint_name", None) or ""


def _open(issue: Issue, lines: Sequence[CardImportRow]) -> None:
    customers = [_customer(issue, line) for line in lines]
    insert_many(customers)
    cards = [
        Card(program=issue.program, customer=customer, card_number=number, created_at=issue.at)
        for customer, number in zip(customers, _free_numbers(len(lines)), strict=True)
    ]
    insert_many(cards)
    openings = [Opening(card, _moves(issue, line)) for card, line in zip(cards, lines, strict=True)]
    ledger.open_balances(openings, at=issue.at)


def _customer(issue: Issue, line: CardImportRow) -> Customer:
    return Customer(
        merchant_id=issue.card_import.merchant_id,
        external_id=line.external_id,
        first_name=line.first_name,
        last_name=line.last_name,
        email=line.email,
        phone=line.phone,
        birth_date=date.fromisoformat(line.birth_date) if line.birth_date else None,
        locale=line.locale,
        created_at=issue.at,
    )


def _free_numbers(count: int) -> list[str]:
    """Card numbers that nobody has: among a million, two new random ones are equal a few times."""
    free: set[str] = set()
    while len(free) < count:
        wanted = {new_card_number() for _ in range(count - len(free))}
        free |= wanted - set(Card.objects.filter(card_number__in=wanted).values_list("card_number", flat=True))
    return list(free)


def _moves(issue: Issue, line: CardImportRow) -> list[Move]:
    moment = _activity(issue, line)
    actor = issue.card_import.actor
    origin = {"import": issue.card_import.pk, "line": line.line}
    moves = [Move(type=TransactionType.CARD_CREATED, transaction_at=moment, actor=actor, details=origin)]
    points, stamps = int(line.points), int(line.stamps or 0)
    if points or stamps:
        moves.append(
            Move(
                type=TransactionType.BALANCE_IMPORTED,
                transaction_at=moment,
                points=points,
                stamps=stamps,
                actor=actor,
                details=origin,
            )
        )
    return moves


def _activity(issue: Issue, line: CardImportRow) -> datetime:
    """Noon of the local day, which is that day in every reading; today's may not have come yet."""
    if not line.last_activity_on:
        return issue.at
    noon = datetime.combine(date.fromisoformat(line.last_activity_on), time(12), issue.program.merchant.zone)
    return min(noon.astimezone(UTC), issue.at)
