"""What waits in the broker."""

from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from redis import Redis

from loyalty_site.metrics import throttled
from loyalty_site.metrics.declaring import Reading, State
from loyalty_site.queues import QUEUES

LENGTH = State("loyalty_queue_length", "Tasks that wait in a queue of the broker.", {"queue": QUEUES})
THROTTLED = State(
    "loyalty_throttled_answers_highest",
    "The most answers 429 that any one store got in a minute, this one or the last.",
)
STATES = (LENGTH, THROTTLED)
SECONDS = 1


def broker(at: datetime) -> Iterator[Reading]:
    """Lengths of lists and ends of sorted sets, which the broker knows without counting."""
    with Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
        asked = client.pipeline()
        for queue in QUEUES:
            asked.llen(queue)
        for queue, length in zip(QUEUES, asked.execute(), strict=True):
            yield LENGTH.read(length, queue=queue)
        yield THROTTLED.read(throttled.highest(at, client))
