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
    return next((answers for _, answers in by_store(at, client, most=1)), 0.0)


def by_store(at: datetime, client: "Redis", *, most: int) -> list[tuple[int, float]]:
    """Ids of the stores that got most of them in a minute, the running one or the one before, and how many each got."""
    minute = int(at.timestamp()) // WINDOW_SECONDS
    asked = client.pipeline()
    for key in (_key(minute - 1), _key(minute)):
        asked.zrevrange(key, 0, most - 1, withscores=True)
    answers: dict[int, float] = {}
    for found in asked.execute():
        for store_id, number in found:
            answers[int(store_id)] = max(number, answers.get(int(store_id), 0.0))
    return sorted(answers.items(), key=lambda one: -one[1])[:most]
