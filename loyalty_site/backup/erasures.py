"""Who was erased, kept outside the database: a backup brings people back, and this list makes them go again."""

import csv
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from loyalty.errors import LoyaltyError
from loyalty.models import Customer
from loyalty.services.privacy import erase_customer
from loyalty_site.backup.files import written_whole
from loyalty_site.backup.refusals import FileRefused


class Erasure(NamedTuple):
    """Two numbers and a moment, which say nothing about a person who is gone."""

    merchant_id: int
    customer_id: int
    erased_at: datetime


def list_erasures(since: datetime | None = None) -> list[Erasure]:
    """All erasures that the database knows, or those from a moment on, oldest first."""
    erased = Customer.objects.filter(erased_at__isnull=False)
    if since:
        erased = erased.filter(erased_at__gte=since)
    found = erased.order_by("erased_at", "pk").values_list("merchant_id", "pk", "erased_at")
    return [Erasure(merchant, customer, at) for merchant, customer, at in found if at]


def read(file: Path) -> list[Erasure]:
    """The erasures of a file.

    Raises:
        FileRefused: it cannot be read, or a line is no erasure.
    """
    try:
        with file.open(newline="") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise FileRefused(f"{file} cannot be read, or is no list of erasures.") from None
    if not rows or tuple(rows[0]) != Erasure._fields:
        raise FileRefused(f"{file} is no list of erasures: its first line is not {','.join(Erasure._fields)}.")
    return [_parsed(row, file, number) for number, row in enumerate(rows[1:], 2)]


def _parsed(row: list[str], file: Path, number: int) -> Erasure:
    try:
        merchant, customer, moment = row
        found = Erasure(int(merchant), int(customer), datetime.fromisoformat(moment))
        if found.erased_at.tzinfo is None:
            raise ValueError
    except ValueError:
        raise FileRefused(f"Line {number} of {file} is no erasure.") from None
    return found


def keep(erasures: Iterable[Erasure], file: Path) -> int:
    """Add to a file the erasures that are not in it yet, and return how many those were. None ever leaves it.

    Raises:
        FileRefused: the file cannot be read or written, or is something else.
    """
    known = read(file) if file.exists() else []
    seen = set(known)
    new = [erasure for erasure in erasures if erasure not in seen]
    if new or not file.exists():
        with written_whole(file) as temporary, temporary.open("w", newline="") as lines:
            csv.writer(lines).writerows(as_rows([*known, *new]))
    return len(new)


def as_rows(erasures: Iterable[Erasure]) -> list[tuple[str, ...]]:
    """The lines of a list, with the heading."""
    rows = [(str(e.merchant_id), str(e.customer_id), e.erased_at.isoformat()) for e in erasures]
    return [Erasure._fields, *rows]


def erase_again(erasures: Iterable[Erasure], *, reason: str, actor: str, at: datetime) -> tuple[list[int], list[str]]:
    """Erase whoever of these is back: the ids of those, and a sentence for each that could not be erased.

    Somebody who enrolled after the erasure may have got the number of a person who is gone; they stay.
    """
    erased, problems = [], []
    for customer in _back(erasures):
        try:
            erase_customer(merchant=customer.merchant, customer_id=customer.pk, reason=reason, actor=actor, at=at)
            erased.append(customer.pk)
        except LoyaltyError as error:
            problems.append(f"Customer {customer.pk} could not be erased again: {error.sentence}")
    return erased, problems


def _back(erasures: Iterable[Erasure]) -> list[Customer]:
    last = {(erasure.merchant_id, erasure.customer_id): erasure.erased_at for erasure in sorted(erasures)}
    ids = {customer_id for _, customer_id in last}
    here = Customer.objects.filter(pk__in=ids, erased_at=None).select_related("merchant").order_by("pk")
    gone_at = ((customer, last.get((customer.merchant_id, customer.pk))) for customer in here)
    return [customer for customer, erased_at in gone_at if erased_at and customer.created_at <= erased_at]
