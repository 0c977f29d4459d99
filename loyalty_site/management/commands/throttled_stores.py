from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from redis import Redis, RedisError

from loyalty.management.base import FINDING
from loyalty.models import Store
from loyalty_site.metrics import throttled

SHOWN = 20


class Command(BaseCommand):
    help = (
        "Name the stores that got answers 429 in this minute or the last, most first: a till in a loop, or a limit "
        "that is too low. Changes nothing. Exit codes: 0 done, 1 the broker, which counts them, does not answer."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with Redis.from_url(settings.CELERY_BROKER_URL, socket_timeout=1, socket_connect_timeout=1) as client:
                found = throttled.by_store(timezone.now(), client, most=SHOWN)
        except RedisError as error:
            raise CommandError(f"The broker does not answer: {error}", returncode=FINDING) from None
        stores = Store.objects.select_related("merchant").in_bulk([store_id for store_id, _ in found])
        for store_id, answers in found:
            store = stores.get(store_id)
            name = f"{store.merchant.slug}/{store.code}" if store else "deleted"
            self.stdout.write(f"store {store_id}, {name}: {int(answers)} answers 429 in a minute")
        if not found:
            self.stdout.write("No store got an answer 429 in this minute or the last.")
