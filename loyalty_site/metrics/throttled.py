"""Which store gets most answers 429. Counted in the broker, so that all web processes count together."""

from contextlib import suppress
from datetime import datetime
from functools import cache

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

WINDOW_SECONDS = 60
QUICK = 0.02  # somebody is waiting at a till


@cache
def _client() -> "Redis":
    return Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=QUICK, socket_connect_timeout=QUICK)


def _key(minute: int) -> str:
    return f"loyalty:throttled:{minute}"


def note(store_id: int, at: datetime) -> None:
    """Count one answer 429 to a store. Without the broker nothing is counted, and nobody waits."""
    key = _key(int(at.timestamp()) // WINDOW_SECONDS)
    with suppress(RedisError):
        asked = _client().pipeline()
        asked.zincrby(key, 1, str(store_id))
        asked.expire(key, 3 * WINDOW_SECONDS)
        asked.execute()


def highest(at: datetime, client: "Redis") -> float:
    """The most answers 429 that one store got in the running minute or the one before."""
    minute = int(at.timestamp()) // WINDOW_SECONDS
    asked = client.pipeline()
    for key in (_key(minute - 1), _key(minute)):
        asked.zrevrange(key, 0, 0, withscores=True)
    return max((score for found in asked.execute() for _, score in found), default=0.0)
