import logging
import sys
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from loyalty.management.commands.replay_purchases import shown
from loyalty_site import demo_data


class Command(BaseCommand):
    help = "Fill an installation with the demo's data: a real shop's purchases up to yesterday. Does it once."
    requires_migrations_checks = True

    def handle(self, *args: Any, **options: Any) -> None:
        if demo_data.is_seeded():
            self.stdout.write("The demo's data is there already.")
            return
        logging.disable(logging.INFO)  # an event per purchase would bury the progress
        totals = demo_data.seed(today=timezone.now().date(), clock=timezone.now, progress=shown(sys.stderr))
        self.stdout.write(f"Replayed {totals.purchases:,} purchases on {totals.cards:,} cards.")
        self.stdout.write(f"Admin login: {demo_data.login()}")
