"""Messages for tests: complete ones, of which a test names only what matters to it."""

from datetime import UTC, datetime
from typing import Any

from notifications import services
from notifications.models import Message
from notifications.services import NewMessage

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

COMMON = {
    "merchant_name": "Sunny Bakery",
    "card_name": "Sunny Rewards",
    "first_name": "Anna",
    "card_number": "123456789012",
    "support_email": "help@sunny.example",
}
FIGURES: dict[str, dict[str, Any]] = {
    "loyalty_enrollment": {"points_balance": 50, "welcome_bonus_points": 50},
    "loyalty_points_expiring": {
        "points": 12500,
        "expires_on": "2026-03-15",
        "last_activity_on": "2025-03-15",
        "expires_after_days": 365,
    },
    "loyalty_points_expired": {
        "points": 12500,
        "expires_on": "2026-03-15",
        "expired_on": "2026-03-16",
        "last_activity_on": "2025-03-15",
        "expires_after_days": 365,
    },
    "loyalty_points_restored": {"points": 500, "points_balance": 1500, "keeps_until_on": "2027-03-01"},
}
KINDS = list(FIGURES)


def new_message(
    number: int = 1, *, kind: str = "loyalty_points_expiring", context: dict[str, Any] | None = None, **fields: Any
) -> NewMessage:
    values = {
        "scope": "1",
        "reference": str(number),
        "recipient": f"c{number}@example.com",
        "locale": "en",
        "dedupe_key": f"{kind}:{number}",
        **fields,
    }
    return NewMessage(kind=kind, context={**COMMON, **FIGURES.get(kind, {}), **(context or {})}, **values)


def queued(number: int = 1, *, at: datetime = AT, **fields: Any) -> Message:
    message = new_message(number, **fields)
    services.queue(message, at=at)
    return Message.objects.get(dedupe_key=message.dedupe_key)


def queued_many(count: int, *, at: datetime = AT) -> None:
    services.queue_many([new_message(number) for number in range(1, count + 1)], at=at)


def addresses(count: int) -> list[str]:
    return [f"c{number}@example.com" for number in range(1, count + 1)]
