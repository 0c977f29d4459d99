"""When points expire: changed only after its impact was shown and confirmed."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet

from loyalty.errors import ConfirmationRequired, InvalidPolicy, NothingToChange
from loyalty.models import CardBalance, PolicyChange, Program
from loyalty.models.program import LATEST_PAUSE, LONGEST_EXPIRATION_DAYS, LONGEST_WARNING_DAYS

log = structlog.get_logger()
EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class PolicyTerms:
    """The settings of a program that decide when points expire, under the names that they have there."""

    points_expiration_days: int | None
    expiration_warning_days: int
    require_expiration_notice: bool
    expiration_paused_until: date | None

    @classmethod
    def of(cls, program: Program) -> "PolicyTerms":
        return cls(
            points_expiration_days=program.points_expiration_days,
            expiration_warning_days=program.expiration_warning_days,
            require_expiration_notice=program.require_expiration_notice,
            expiration_paused_until=program.expiration_paused_until,
        )

    def as_json(self) -> dict[str, Any]:
        return {key: str(value) if isinstance(value, date) else value for key, value in asdict(self).items()}


POLICY_FIELDS = frozenset(field.name for field in fields(PolicyTerms))


@dataclass(frozen=True)
class PolicyImpact:
    """What a policy would mean for the cards as they are today.

    `first_loss_on` is the first day on which a customer could find points gone; None when nothing can go.
    """

    cards_past_limit: int
    points_past_limit: int
    warnings: int
    first_loss_on: date | None
    needs_confirmation: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"first_loss_on": self.first_loss_on.isoformat() if self.first_loss_on else None}

    @property
    def sentence(self) -> str:
        if self.first_loss_on is None:
            return "With this policy no card can lose points."
        return (
            f"{self.cards_past_limit:,} cards with {self.points_past_limit:,} points are past the limit today. "
            f"The next run would send {self.warnings:,} warnings. "
            f"The first points could be gone on {self.first_loss_on:%d %B %Y}."
        )


def validate_terms(terms: PolicyTerms) -> None:
    """Refuse a policy that contradicts itself.

    Raises:
        InvalidPolicy: the sentence names the numbers and the remedy.
    """
    days, warning = terms.points_expiration_days or 0, terms.expiration_warning_days
    if not 0 <= days <= LONGEST_EXPIRATION_DAYS or not 0 <= warning <= LONGEST_WARNING_DAYS:
        raise InvalidPolicy(
            f"Points expire after 1 to {LONGEST_EXPIRATION_DAYS} days, with a warning 0 to {LONGEST_WARNING_DAYS} "
            "days before; 0 days of expiry mean never."
        )
    if terms.expiration_paused_until and terms.expiration_paused_until > LATEST_PAUSE:
        raise InvalidPolicy(
            f"A pause ends on {LATEST_PAUSE:%d %B %Y} at the latest. If points shall never expire, choose 0 days."
        )
    if days and terms.require_expiration_notice and days <= warning:
        raise InvalidPolicy(
            f"Points cannot expire after {days} days when customers are warned {warning} days before. "
            f"Choose more than {warning} days, a shorter warning, or switch the required notice off."
        )


def preview_policy(*, program: Program, terms: PolicyTerms, at: datetime) -> PolicyImpact:
    """Tell what a policy would mean, and whether it needs a confirmation. Reads only.

    Raises:
        InvalidPolicy: the policy contradicts itself.
    """
    validate_terms(terms)
    proposed = _with_terms(program, terms)
    today = proposed.policy.local_date(at)
    takes_sooner = _takes_sooner(PolicyTerms.of(program), terms, today)
    if not proposed.expires:
        return PolicyImpact(0, 0, 0, None, needs_confirmation=False)
    past, points, warnings, oldest, oldest_warned, first_promise = _measure(program, proposed, today)
    first = _first_loss(proposed, today, oldest, oldest_warned, first_promise)
    if proposed.is_paused(today):
        warnings = 0
    return PolicyImpact(past, points, warnings, first, needs_confirmation=takes_sooner)


@transaction.atomic
def change_policy(
    *,
    program_id: int,
    terms: PolicyTerms,
    actor: str,
    at: datetime,
    confirmed_cards: int | None = None,
    reason: str = "",
) -> Program:
    """Change when a program's points expire, and keep who confirmed what.

    A change that takes points sooner needs `confirmed_cards`: the number of cards past the limit that was shown;
    more than that asks again. Promises that were made are kept. Switching on, lengthening and ending a pause
    forget earlier warnings, so that customers are warned again in time.

    Raises:
        InvalidPolicy: the policy contradicts itself.
        NothingToChange: the program has this policy already.
        ConfirmationRequired: the impact was not confirmed; details carry it.
    """
    program = Program.objects.select_for_update(of=("self",)).select_related("merchant").get(pk=program_id)
    old = PolicyTerms.of(program)
    if old == terms:
        raise NothingToChange("The program has this policy already.")
    impact = preview_policy(program=program, terms=terms, at=at)
    if impact.needs_confirmation and (confirmed_cards is None or impact.cards_past_limit > confirmed_cards):
        raise ConfirmationRequired(f"Please confirm: {impact.sentence}", impact=impact.as_json())
    _forget_warnings(program, _with_terms(program, terms), program.policy.local_date(at))
    program = _with_terms(program, terms)
    program.version += 1
    program.save(update_fields=[*asdict(terms), "version"])
    PolicyChange.objects.create(
        program=program,
        old_policy=old.as_json(),
        new_policy=terms.as_json(),
        impact=impact.as_json(),
        actor=actor,
        reason=reason,
        changed_at=at,
    )
    log.info("loyalty.policy_changed", merchant_id=program.merchant_id, program_id=program.pk)
    return program


@transaction.atomic
def update_program(*, program: Program, changed: Collection[str]) -> Program:
    """Save the changed fields of a program that do not concern expiry; what a card shows of it is looked at again."""
    program.version = Program.objects.select_for_update().values_list("version", flat=True).get(pk=program.pk) + 1
    program.save(update_fields=[*set(changed) - POLICY_FIELDS, "version"])
    return program


def _with_terms(program: Program, terms: PolicyTerms) -> Program:
    proposed = Program(**{field.attname: getattr(program, field.attname) for field in Program._meta.concrete_fields})
    proposed._state.adding = False
    proposed.merchant = program.merchant
    for name, value in asdict(terms).items():
        setattr(proposed, name, value)
    return proposed


def _takes_sooner(old: PolicyTerms, new: PolicyTerms, today: date) -> bool:
    """Whether some card could lose its points earlier, or with a shorter notice, than before the change."""
    if not new.points_expiration_days:
        return False
    return (
        not old.points_expiration_days
        or new.points_expiration_days < old.points_expiration_days
        or new.expiration_warning_days < old.expiration_warning_days
        or (old.require_expiration_notice and not new.require_expiration_notice)
        or (_is_paused(old, today) and (new.expiration_paused_until or today) < (old.expiration_paused_until or today))
    )


def _is_paused(terms: PolicyTerms, today: date) -> bool:
    return terms.expiration_paused_until is not None and today <= terms.expiration_paused_until


def _forgotten_before(old: Program, new: Program, today: date) -> datetime | None:
    """Warnings from before this moment no longer count when the change is made; None forgets none."""
    begins = not old.expires and new.expires
    if begins or (old.is_paused(today) and not new.is_paused(today)):
        return EVER
    if old.expiration_paused_until != new.expiration_paused_until:
        # Those from before the pause were to be repeated after it, and nothing else would remember that.
        return old.policy.notices_count_from
    return None


def _outlived_promises(old: Program, new: Program) -> dict[date, datetime]:
    """Promised days that a longer limit outlives, for cards that are idle only since the moment that is given."""
    if (new.points_expiration_days or 0) <= (old.points_expiration_days or 0):
        return {}
    policy = new.policy
    promised = _warned(new).values_list("expiration_warned_for", flat=True).distinct()
    return {day: policy.start_of(day - timedelta(days=policy.expires_after_days - 1)) for day in promised if day}


def _warned(program: Program) -> QuerySet[CardBalance]:
    return CardBalance.objects.filter(program=program, points_balance__gt=0, last_expiration_warning_at__isnull=False)


def _forget_warnings(old: Program, new: Program, today: date) -> None:
    """Let customers be warned again whose promised day is no longer the day on which their points go."""
    if forgotten_before := _forgotten_before(old, new, today):
        _warned(new).filter(last_expiration_warning_at__lt=forgotten_before).update(last_expiration_warning_at=None)
    for promised, idle_since in _outlived_promises(old, new).items():
        outlived = _warned(new).filter(expiration_warned_for=promised, last_activity_at__gte=idle_since)
        outlived.update(last_expiration_warning_at=None)


MEASURE = """
SELECT
    count(*) FILTER (WHERE last_activity_at < %(expire_before)s AND promise_over),
    coalesce(sum(points_balance) FILTER (WHERE last_activity_at < %(expire_before)s AND promise_over), 0),
    count(*) FILTER (
        WHERE last_activity_at < %(warn_before)s AND NOT warned
          AND (%(notice)s OR last_activity_at >= %(expire_before)s)
    ),
    min(last_activity_at) FILTER (WHERE NOT warned),
    min(last_activity_at) FILTER (WHERE warned),
    min(expiration_warned_for) FILTER (WHERE warned)
FROM (
    SELECT balance.*,
        last_expiration_warning_at IS NOT NULL
            AND last_expiration_warning_at >= coalesce(%(notices_from)s, '-infinity'::timestamptz)
            AND (idle_since IS NULL OR last_activity_at < idle_since) AS warned,
        expiration_warned_for IS NULL OR expiration_warned_for < %(today)s AS promise_over
    FROM loyalty_cardbalance balance
    JOIN loyalty_card card ON card.id = balance.card_id
    LEFT JOIN unnest(%(promised)s::date[], %(idle_since)s::timestamptz[]) AS outlived (promised, idle_since)
        ON promised = expiration_warned_for
    WHERE balance.program_id = %(program)s AND points_balance > 0
      AND card.status = 'active' AND NOT card.expiration_exempt
) cards
"""


def _measure(
    old: Program, new: Program, today: date
) -> tuple[int, int, int, datetime | None, datetime | None, date | None]:
    """Cards and points past the limit, warnings, the oldest activity of cards not warned and warned, first promise."""
    policy = new.policy
    forgotten = [moment for moment in (_forgotten_before(old, new, today), policy.notices_count_from) if moment]
    outlived = _outlived_promises(old, new)
    with connection.cursor() as cursor:
        cursor.execute(
            MEASURE,
            {
                "program": new.pk,
                "today": today,
                "warn_before": policy.warn_before(today),
                "expire_before": policy.expire_before(today),
                "notices_from": max(forgotten, default=None),
                "notice": policy.requires_notice,
                "promised": list(outlived),
                "idle_since": list(outlived.values()),
            },
        )
        row: tuple[int, int, int, datetime | None, datetime | None, date | None] = cursor.fetchone()
    return row


def _first_loss(
    program: Program, today: date, oldest: datetime | None, oldest_warned: datetime | None, promise: date | None
) -> date | None:
    """The earliest day on which points could be gone: the one after the last day of the first card."""
    policy = program.policy
    begin = today
    if program.is_paused(today) and program.expiration_paused_until:
        begin = program.expiration_paused_until + timedelta(days=1)
    the_day_before = begin - timedelta(days=1)
    last_days = []
    if oldest:
        notice_ends = begin + timedelta(days=policy.warning_days) if policy.requires_notice else the_day_before
        last_days.append(max(policy.expires_on(oldest), notice_ends))
    if oldest_warned:
        last_days.append(max(policy.expires_on(oldest_warned), promise or the_day_before, the_day_before))
    return min(last_days) + timedelta(days=1) if last_days else None
