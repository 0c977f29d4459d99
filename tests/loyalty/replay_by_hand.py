"""What a replay must come to, worked out customer by customer with nothing but dates: no database, none of our code."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import NamedTuple

DAY = timedelta(days=1)


class Bought(NamedTuple):
    customer: str
    day: date
    amount: Decimal


def read(path: Path) -> list[Bought]:
    with path.open(newline="") as file:
        return [
            Bought(row["customer"], date.fromisoformat(row["date"]), Decimal(row["amount_usd"]))
            for row in csv.DictReader(file)
        ]


def totals(purchases: Iterable[Bought], *, rate: Decimal, expires: int, warns: int, until: date) -> dict[str, int]:
    days: dict[str, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    count = 0
    for bought in purchases:
        if bought.day <= until:
            count += 1
            days[bought.customer][bought.day] += int((bought.amount * rate).to_integral_value(ROUND_FLOOR))
    result = dict.fromkeys(
        ("points_earned", "expired_cards", "expired_points", "warnings", "points_outstanding", "cards_with_balance"), 0
    )
    for visits in days.values():
        balance = 0
        for day, next_day in zip(sorted(visits), [*sorted(visits)[1:], None], strict=True):
            balance += visits[day]
            result["points_earned"] += visits[day]
            # The night before the next visit comes first: expiry is at 02:00, visits are at 12:00.
            last_night = min(next_day or until, until)
            warned_on = day + max(timedelta(days=expires - warns), DAY)
            gone_on = max(day + timedelta(days=expires), warned_on + timedelta(days=warns)) + DAY
            if expires and balance and warned_on <= last_night:
                result["warnings"] += 1
            if expires and balance and gone_on <= last_night:
                result["expired_cards"] += 1
                result["expired_points"] += balance
                balance = 0
        result["points_outstanding"] += balance
        result["cards_with_balance"] += balance > 0
    return {"purchases": count, "cards": len(days), **result}
