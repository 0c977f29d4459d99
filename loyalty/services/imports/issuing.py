"""Lines of an import become customers with cards and balances, a chunk at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

from django.db import IntegrityError, OperationalError, connection, reset_queries, transaction
from django.db.models import F

from loyalty.models import Card, CardImport, CardImportRow, Program
from loyalty.models.card import new_card_number, new_qr_token
from loyalty.services import ledger
from loyalty.services.ledger import Imported

LINES_PER_COMMIT = 1000
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


class Line(NamedTuple):
    """A locked line without problems, as far as Python needs to see it."""

    pk: int
    line: int
    external_id: str
    points: str
    stamps: str
    last_activity_on: str


def issue_cards(issue: Issue, progress: Callable[[int], None]) -> None:
    """Turn the waiting lines into cards. A line is deleted in the transaction in which it becomes one.

    Each chunk is committed by itself, so whoever is interrupted loses nothing and may begin again. A line whose
    customer enrolled meanwhile gets a problem and stays. `progress` is told how many lines are done.
    """
    last, done = 0, 0
    while chunk := _issue_chunk(issue, last):
        last, done = chunk[-1].line, done + len(chunk)
        progress(done)
        # With DEBUG on, Django would keep every statement of every chunk.
        reset_queries()


def _issue_chunk(issue: Issue, last: int) -> Sequence[Line]:
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


def _issue_waiting(issue: Issue, last: int) -> Sequence[Line]:
    waiting = CardImportRow.objects.waiting(issue.card_import).filter(line__gt=last).order_by("line")
    values = waiting.select_for_update().values_list(*Line._fields)[:LINES_PER_COMMIT]
    chunk = [Line(*value) for value in values]
    if not chunk:
        return chunk
    issued = _issued(issue, chunk)
    CardImportRow.objects.filter(pk__in=[line.pk for line in issued]).delete()
    CardImport.objects.filter(pk=issue.card_import.pk).update(imported=F("imported") + len(issued))
    return chunk


def _issued(issue: Issue, lines: Sequence[Line]) -> Sequence[Line]:
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


def _refuse(line: Line, error: IntegrityError) -> None:
    diagnosis: Any = getattr(error.__cause__, "diag", None)
    column = TAKEN_MEANWHILE.get(getattr(diagnosis, "constraint_name", None) or "")
    if column is None:
        raise error
    problem = {"column": column, "reason": "belongs to a customer who enrolled meanwhile"}
    CardImportRow.objects.filter(pk=line.pk).update(problems=[problem])


# Sets of rows and not objects: a million of these take longer to make than PostgreSQL takes for all the rest.
CUSTOMERS = """
INSERT INTO loyalty_customer (
    merchant_id, external_id, first_name, last_name, email, phone, birth_date, locale, created_at
)
SELECT %(merchant)s, external_id, first_name, last_name, email, phone, nullif(birth_date, '')::date, locale, %(at)s
FROM loyalty_cardimportrow
WHERE id = ANY(%(lines)s)
RETURNING external_id, id
"""

CARDS = """
INSERT INTO loyalty_card (
    program_id, customer_id, card_number, qr_token, status, expiration_exempt, expiration_exempt_reason, created_at
)
SELECT %(program)s, customer_id, card_number, qr_token, 'active', false, '', %(at)s
FROM unnest(%(customers)s::bigint[], %(numbers)s::text[], %(tokens)s::text[])
    AS new (customer_id, card_number, qr_token)
RETURNING customer_id, id
"""


def _open(issue: Issue, lines: Sequence[Line]) -> None:
    imported = [
        Imported(card_id, int(line.points), int(line.stamps or 0), _activity(issue, line), line.line)
        for line, card_id in zip(lines, _new_cards(issue, lines), strict=True)
    ]
    job = issue.card_import
    ledger.open_imported(imported, program=issue.program, import_id=job.pk, actor=job.actor, at=issue.at)


def _new_cards(issue: Issue, lines: Sequence[Line]) -> list[int]:
    """Create a customer and a card for each line and return the ids of the cards."""
    parameters: dict[str, Any] = {
        "merchant": issue.card_import.merchant_id,
        "program": issue.program.pk,
        "lines": [line.pk for line in lines],
        "at": issue.at,
    }
    with connection.cursor() as cursor:
        cursor.execute(CUSTOMERS, parameters)
        customer_ids = dict(cursor.fetchall())
        parameters["customers"] = customers = [customer_ids[line.external_id] for line in lines]
        parameters["numbers"] = _free_numbers(len(lines))
        parameters["tokens"] = [new_qr_token() for _ in lines]
        cursor.execute(CARDS, parameters)
        card_ids = dict(cursor.fetchall())
    return [card_ids[customer] for customer in customers]


def _free_numbers(count: int) -> list[str]:
    """Card numbers that nobody has: among a million, two new random ones are equal a few times."""
    free: set[str] = set()
    while len(free) < count:
        wanted = {new_card_number() for _ in range(count - len(free))}
        free |= wanted - set(Card.objects.filter(card_number__in=wanted).values_list("card_number", flat=True))
    return list(free)


def _activity(issue: Issue, line: Line) -> datetime:
    """Noon of the local day, which is that day in every reading; today's may not have come yet."""
    if not line.last_activity_on:
        return issue.at
    noon = datetime.combine(date.fromisoformat(line.last_activity_on), time(12), issue.program.merchant.zone)
    return min(noon.astimezone(UTC), issue.at)
