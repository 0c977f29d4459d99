"""What holds a run back: a mistake should cost a question, and not a customer base."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection

from loyalty.services import idle_cards
from loyalty.services.expiring import Terms
from loyalty.services.idle_cards import Term


@dataclass(frozen=True)
class Refusal:
    """Why points were not expired. `cards` is the number to confirm, 0 when confirming does not help."""

    merchant: str
    cards: int
    sentence: str


def blast_refusals(terms: Terms, *, confirmed_cards: int) -> dict[int, Refusal]:
    """Programs that would take points from too many cards without a timely notice, unless that is confirmed."""
    percent, smallest = settings.LOYALTY_EXPIRY_GUARD_PERCENT, settings.LOYALTY_EXPIRY_GUARD_CARDS
    if not percent or not smallest:
        return {}
    counts = idle_cards.count_unnoticed(list(terms.values()))
    many = {pk: cards for pk, cards in counts.items() if cards > max(smallest, confirmed_cards)}
    if not many:
        return {}
    totals = idle_cards.count_with_points(list(many))
    held = sorted(pk for pk, cards in many.items() if cards * 100 > totals[pk] * percent)
    return {pk: _blast_refusal(terms[pk], many[pk], totals[pk]) for pk in held}


def _blast_refusal(term: Term, cards: int, total: int) -> Refusal:
    merchant = term.program.merchant
    applies_plain_rule_once = term.policy.requires_notice != term.program.require_expiration_notice
    sentence = (
        f"{merchant.slug}: {cards} of {total} cards with points would expire without a notice in time. "
        "Nothing of this merchant was expired. If that is meant, run: "
        f"manage.py expire_points --merchant {merchant.slug} --confirm {cards}"
        f"{' --without-notice --reason TEXT' if applies_plain_rule_once else ''}"
    )
    return Refusal(merchant.slug, cards, sentence)


def database_clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        clock: datetime = cursor.fetchone()[0]
    return clock


def clock_refusal(at: datetime, database: datetime) -> Refusal | None:
    """A refusal when this machine's clock and the database's are too far apart to end anybody's day."""
    if abs(at - database) <= timedelta(seconds=settings.LOYALTY_CLOCK_TOLERANCE_SECONDS):
        return None
    sentence = (
        f"This machine's clock says {at:%Y-%m-%d %H:%M:%S} UTC, the database's {database:%Y-%m-%d %H:%M:%S} UTC. "
        "Nothing was warned about or expired; set the clocks first."
    )
    return Refusal("", 0, sentence)
