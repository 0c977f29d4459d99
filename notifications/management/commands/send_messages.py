import json
import sys
from argparse import ArgumentParser
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Count, Min
from django.utils import timezone

from notifications import services
from notifications.models import Message


class Command(BaseCommand):
    help = (
        "Send the messages that are due now. Exits with 1 when a message was given up, or when the mail server is "
        "unavailable and messages were put off for a minute."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        total: Counter[str] = Counter()
        more_may_be_due = True
        while more_may_be_due:
            figures = asdict(services.send_messages(at=timezone.now()))
            more_may_be_due = figures.pop("out_of_time")
            total.update(figures)
        if options["json"]:
            self.stdout.write(json.dumps(total))
        else:
            self.stdout.write(
                f"Sent {total['sent']} messages, {total['retried']} to retry, {total['dead']} dead, "
                f"{total['deferred']} deferred"
            )
            self._tell_what_waits()
        if total["dead"] or total["deferred"]:
            sys.exit(1)

    def _tell_what_waits(self) -> None:
        waiting = Message.objects.waiting().filter(next_attempt_at__gt=timezone.now())
        figures = waiting.aggregate(count=Count("pk"), next=Min("next_attempt_at"))
        if figures["count"]:
            due = f"{figures['next']:%Y-%m-%d %H:%M:%S} UTC"
            self.stdout.write(f"{figures['count']} wait for later; the next is due at {due}")
