"""How often a till or a user may ask. Counted in Valkey: when that is away, everybody may.

PINs are not protected by this but by a count in the database.
"""

import time

import structlog
from django.conf import settings
from django.core.cache import cache
from redis.exceptions import RedisError

from loyalty.api.problems import Throttled

log = structlog.get_logger()
WINDOW_SECONDS = 60


def take(scope: str, owner: str, *, factor: int = 1) -> None:
    """Count one request of an owner in the running minute.

    Raises:
        Throttled: there were as many as the setting of the scope allows, times the factor. 0 of either allows all.
    """
    limit = settings.LOYALTY_THROTTLES[scope] * factor
    if limit and _counted(f"throttle:{scope}:{owner}") > limit:
        raise Throttled(wait=WINDOW_SECONDS - int(time.time()) % WINDOW_SECONDS)


def _counted(name: str) -> int:
    key = f"{name}:{int(time.time()) // WINDOW_SECONDS}"
    try:
        return 1 if cache.add(key, 1, 2 * WINDOW_SECONDS) else cache.incr(key)
    except (RedisError, ValueError) as error:
        # A till must go on selling without it. ValueError: it was emptied between the two calls.
        log.warning("loyalty.throttle_skipped", problem=type(error).__name__)
        return 0
