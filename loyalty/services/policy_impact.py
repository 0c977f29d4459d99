"""What a change of policy means: which warnings it makes forgotten, and whose points could go how soon."""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from loyalty.models import CardBalance, Program

EVER = datetime.max.replace(tzinfo=UTC)


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


def impact_of(old: Program, new: Program, *, today: date, needs_confirmation: bool) -> PolicyImpact:
    """What it would mean to put the new terms, with which points expire, in the place of the old ones today."""
    past, points, warnings, oldest, oldest_warned, first_promise = _measure(old, new, today)
    first = _first_loss(new, today, oldest, oldest_warned, first_promise)
    return PolicyImpact(
        past, points, 0 if new.is_paused(today) else warnings, first, needs_confirmation=needs_confirmation
    )


def forgotten_before(old: Program, new: Program, today: date) -> datetime | None:
    """Warnings from before this moment no longer count when the change is made; None forgets none."""
    begins = not old.expires and new.expires
    if begins or (old.is_paused(today) and not new.is_paused(today)):
        return EVER
    if old.expiration_paused_until != new.expiration_paused_until:
        # Those from before the pause were to be repeated after it, and nothing else would remember that.
        return old.policy.notices_count_from
    return None


def outlived_promises(old: Program, new: Program) -> dict[date, datetime]:
    """Promised days that a longer limit outlives, for cards that are idle only since the moment that is given."""
    if (new.points_expiration_days or 0) <= (old.points_expiration_days or 0):
        return {}
    policy = new.policy
    promised = warned_cards(new).values_list("expiration_warned_for", flat=True).distinct()
    return {day: policy.start_of(day - timedelta(days=policy.expires_after_days - 1)) for day in promised if day}


def warned_cards(program: Program) -> QuerySet[CardBalance]:
    return CardBalance.objects.filter(program=program, points_balance__gt=0, last_expiration_warning_at__isnull=False)


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
    forgotten = [moment for moment in (forgotten_before(old, new, today), policy.notices_count_from) if moment]
    outlived = outlived_promises(old, new)
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
