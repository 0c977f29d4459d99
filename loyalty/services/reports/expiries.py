"""What is about to expire, and who was warned in vain."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from loyalty.models import Merchant, Program
from loyalty.services.reports.counting import fetch, require_between
from loyalty.services.reports.periods import LONGEST_DAYS, local_day
from notifications.models import Message

MOST_WARNINGS = 200


def last_day(*, expires_on: str, notices_count_from: str) -> str:
    """SQL for the last day of a card's points, from `CARDS_WITH_POINTS`. It is null when they do not expire.

    As `ExpirationPolicy.keeps_at_least_until`, on the first day on which a notice can be sent. The arguments are SQL
    for what depends on the zone: the last day by the rule alone, and when notices from before a pause are forgotten.
    """
    return f"""
        CASE WHEN terms.points_expiration_days > 0 AND terms.is_active AND spared.id IS NULL THEN greatest(
            {expires_on},
            balance.expiration_warned_for,
            CASE WHEN terms.require_expiration_notice
                AND (balance.last_expiration_warning_at IS NULL
                    OR balance.last_expiration_warning_at < {notices_count_from})
            THEN greatest(%(today)s::date, terms.expiration_paused_until + 1) + terms.expiration_warning_days::int END,
            terms.expiration_paused_until
        ) END"""


CARDS_WITH_POINTS = """
        FROM loyalty_cardbalance balance
        JOIN loyalty_program terms ON terms.id = balance.program_id
        LEFT JOIN loyalty_card spared
            ON spared.id = balance.card_id AND (spared.status <> 'active' OR spared.expiration_exempt)
        WHERE balance.points_balance > 0"""


@dataclass(frozen=True, kw_only=True)
class DayOfExpiry:
    """Cards whose points can be used to the end of this local day, and those points."""

    day: date
    cards: int
    points: int


@dataclass(frozen=True, kw_only=True)
class ExpiringByDate:
    """Each day from today on. The overdue ones have had their last day; the next run takes them."""

    overdue_cards: int
    overdue_points: int
    days: list[DayOfExpiry]


# The last day by the rule alone matters only near the days that are asked for: outside it is one too early or too late.
EXPIRING = """
SELECT last_day, count(*), sum(points_balance)
FROM (
    SELECT balance.points_balance, {last_day} AS last_day {cards_with_points} AND balance.program_id = %(program)s
) cards
WHERE last_day < %(today)s::date + %(days)s::int
GROUP BY last_day
""".format(
    last_day=last_day(
        expires_on="%(today)s::date - 1 + width_bucket(balance.last_activity_at, %(starts)s::timestamptz[])",
        notices_count_from="%(notices_count_from)s::timestamptz",
    ),
    cards_with_points=CARDS_WITH_POINTS,
)


def expiring_by_date(*, merchant: Merchant, at: datetime, days: int = 90) -> ExpiringByDate:
    """What expires when if nobody comes again: today and so many local days in all. An estimate to the day.

    A card that has yet to be warned counts with a notice that is sent on the first day on which one can be.

    Raises:
        InvalidInput: the number of days is not from 1 to 366.
    """
    require_between(1, days, LONGEST_DAYS, field="days")
    today = local_day(merchant, at)
    expiring = {day: (int(cards), int(points)) for day, cards, points in _expiring(merchant, today, days)}
    overdue = [figures for day, figures in expiring.items() if day < today]
    listed = [today + timedelta(days=number) for number in range(days)]
    return ExpiringByDate(
        overdue_cards=sum(cards for cards, _ in overdue),
        overdue_points=sum(points for _, points in overdue),
        days=[
            DayOfExpiry(day=day, cards=cards, points=points)
            for day in listed
            for cards, points in [expiring.get(day, (0, 0))]
        ],
    )


def _expiring(merchant: Merchant, today: date, days: int) -> list[tuple[date, int, int]]:
    program = Program.objects.select_related("merchant").expiring().filter(merchant=merchant).first()
    if program is None:
        return []
    policy = program.policy
    idle_since = today - timedelta(days=policy.expires_after_days)
    return fetch(
        EXPIRING,
        {
            "program": program.pk,
            "today": today,
            "days": days,
            "starts": [policy.start_of(idle_since + timedelta(days=number)) for number in range(days + 1)],
            "notices_count_from": policy.notices_count_from,
        },
    )


@dataclass(frozen=True, kw_only=True)
class UndeliveredWarning:
    """A customer whose points expire and who could not be told. `promised_on` is None once the message is erased."""

    message_id: int
    card_id: int
    warned_at: datetime
    promised_on: date | None
    reason: str


def undelivered_warnings(*, merchant: Merchant, limit: int = 50) -> list[UndeliveredWarning]:
    """Warnings about expiry that reached nobody, the newest first, at most 200. They count as warnings all the same.

    Raises:
        InvalidInput: the limit is not from 1 to 200.
    """
    require_between(1, limit, MOST_WARNINGS, field="limit")
    messages = Message.objects.undelivered().filter(kind=Message.Kind.POINTS_EXPIRING, scope=str(merchant.pk))
    return [_undelivered(message) for message in messages.order_by("-pk")[:limit]]


def _undelivered(message: Message) -> UndeliveredWarning:
    promised = message.context.get("expires_on")
    return UndeliveredWarning(
        message_id=message.pk,
        card_id=int(message.reference),
        warned_at=message.created_at,
        promised_on=date.fromisoformat(promised) if promised else None,
        reason=_reason(message),
    )


def _reason(message: Message) -> str:
    """Why, without what a mail server said: that often repeats the address."""
    if message.status == Message.Status.UNDELIVERABLE:
        return "The customer has no e-mail address."
    if message.attempts == 1:
        return "The mail server refused the message for good."
    return f"The message was given up after {message.attempts} attempts."
