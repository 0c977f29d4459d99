"""What a run does with one chunk of cards: decide about each, write for all of them, and count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from loyalty.models import ExpirationRun
from loyalty.services import idle_cards, ledger, messages
from loyalty.services.idle_cards import Candidate, PromisedWarning, Term

Terms = Mapping[int, Term]


@dataclass
class PastLimit:
    """Cards that were already past their limit when they were first warned."""

    cards: int = 0
    points: int = 0
    first_day: date | None = None
    last_day: date | None = None

    def add(self, other: "PastLimit") -> None:
        days = [day for day in (self.first_day, self.last_day, other.first_day, other.last_day) if day]
        self.cards += other.cards
        self.points += other.points
        self.first_day, self.last_day = min(days, default=None), max(days, default=None)


@dataclass
class Tally:
    """What was done with some cards. `locked` are those that somebody else was working on."""

    cards_expired: int = 0
    points_expired: int = 0
    warnings: int = 0
    skipped_exempt: int = 0
    past_limit: PastLimit = field(default_factory=PastLimit)
    locked: list[int] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.cards_expired += other.cards_expired
        self.points_expired += other.points_expired
        self.warnings += other.warnings
        self.skipped_exempt += other.skipped_exempt
        self.past_limit.add(other.past_limit)
        self.locked += other.locked

    def count_warnings(self, warnings: Sequence[PromisedWarning]) -> None:
        for candidate, term, promised in warnings:
            self.warnings += 1
            if term.today > term.policy.expires_on(candidate.cycle.last_activity_at):
                self.past_limit.add(PastLimit(1, candidate.points, promised, promised))


def warn(card_ids: Sequence[int], terms: Terms, run: ExpirationRun) -> Tally:
    """Lock these cards and warn those that are due: the promise on the card and the message, together."""
    candidates = idle_cards.lock(card_ids)
    tally = Tally(locked=_missing(card_ids, candidates))
    _warn(candidates, terms, run, tally)
    return tally


def expire(card_ids: Sequence[int], terms: Terms, run: ExpirationRun) -> Tally:
    """Lock these cards and expire those that are due: balance, ledger row and message, together.

    One whose promise fell behind a lengthened policy is warned anew instead.
    """
    candidates = idle_cards.lock(card_ids)
    tally = Tally(locked=_missing(card_ids, candidates))
    due = {card.card_id: card for card in candidates if idle_cards.may_expire(card, terms[card.program_id])}
    _warn([card for card in candidates if card.card_id not in due], terms, run, tally)
    if due:
        expired = ledger.post_expirations([_expiry(card, terms[card.program_id]) for card in due.values()], run=run)
        tally.cards_expired = len(expired)
        tally.points_expired = sum(card.points for card in expired)
        gone = [due[card.card_id] for card in expired]
        messages.queue_expired([(card, terms[card.program_id]) for card in gone], at=run.as_of)
    return tally


def preview(candidates: Sequence[Candidate], terms: Terms) -> Tally:
    """Count what `warn` and `expire` would do with these cards."""
    tally = Tally()
    for candidate in candidates:
        term = terms[candidate.program_id]
        if idle_cards.must_warn(candidate, term):
            tally.count_warnings([_warning(candidate, term)])
        elif idle_cards.may_expire(candidate, term):
            tally.cards_expired += 1
            tally.points_expired += candidate.points
        else:
            tally.skipped_exempt += candidate.is_exempt
    return tally


def _warn(candidates: Sequence[Candidate], terms: Terms, run: ExpirationRun, tally: Tally) -> None:
    due = [
        _warning(card, terms[card.program_id])
        for card in candidates
        if idle_cards.must_warn(card, terms[card.program_id])
    ]
    tally.skipped_exempt += sum(card.is_exempt for card in candidates)
    if due:
        noted = idle_cards.promise(due, run=run)
        tally.count_warnings(noted)
        messages.queue_expiring(noted, at=run.as_of)


def _warning(candidate: Candidate, term: Term) -> PromisedWarning:
    return PromisedWarning(candidate, term, term.promising.promise(candidate.cycle, term.today))


def _expiry(candidate: Candidate, term: Term) -> ledger.Expiry:
    return ledger.Expiry(
        candidate.card_id,
        term.policy.expires_on(candidate.cycle.last_activity_at),
        term.policy.expires_after_days,
        term.program.version,
    )


def _missing(card_ids: Sequence[int], candidates: Sequence[Candidate]) -> list[int]:
    if len(candidates) == len(card_ids):
        return []
    return sorted(set(card_ids) - {candidate.card_id for candidate in candidates})
