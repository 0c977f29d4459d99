from typing import Any

from django.core.management.base import BaseCommand

from loyalty_site.schedules import JOBS, install_schedules


class Command(BaseCommand):
    help = "Make the schedule entries that are missing. What staff changed or switched off stays as it is."

    def handle(self, *args: Any, **options: Any) -> None:
        created = install_schedules()
        for name in created:
            self.stdout.write(f"Created {name}")
        if not created:
            self.stdout.write(f"All {len(JOBS)} schedule entries are there.")
