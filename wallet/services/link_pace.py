"""How often links that customers open may call Google: rarely, because the rest of what it allows is for syncs."""

import asyncio

from django.db import connection

from wallet.errors import GoogleNotReachable
from wallet.google.pacing import Pace
from wallet.models import Platform
from wallet.services.lanes import in_database

GAP_SECONDS = 0.6  # never three within a second, even if one is late
PATIENCE_SECONDS = 5
TAKE_A_TURN = """
UPDATE wallet_breaker
SET next_link_call_at = GREATEST(next_link_call_at, clock_timestamp()) + %(gap)s * interval '1 second'
WHERE platform = %(platform)s AND identifier = %(identifier)s
  AND (next_link_call_at <= clock_timestamp() + %(patience)s * interval '1 second') IS NOT FALSE
RETURNING EXTRACT(EPOCH FROM next_link_call_at - clock_timestamp()) - %(gap)s
"""


class LinkPace(Pace):
    """Turns for the links of all processes, by the database's clock. The issuer has its breaker."""

    def __init__(self, issuer_id: str) -> None:
        super().__init__(1 / GAP_SECONDS)
        self.issuer_id = issuer_id

    async def turn(self) -> None:
        """Wait for a turn.

        Raises:
            GoogleNotReachable: so many are waiting that a customer would lose patience.
        """
        wait = await in_database(self._reserve)()
        if wait is None:
            raise GoogleNotReachable("Very many people are adding a card at this moment.", retry_after_seconds=10)
        await asyncio.sleep(max(0.0, wait))

    def _reserve(self) -> float | None:
        """The seconds until the turn; None: it would be too late."""
        values: dict[str, float | str] = {
            "gap": GAP_SECONDS,
            "patience": PATIENCE_SECONDS,
            "platform": Platform.GOOGLE.value,
            "identifier": self.issuer_id,
        }
        with connection.cursor() as cursor:
            cursor.execute(TAKE_A_TURN, values)
            row = cursor.fetchone()
        return None if row is None else float(row[0])
