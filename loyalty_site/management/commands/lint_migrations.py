from typing import Any

from django.core.management.base import BaseCommand

from loyalty.management.base import FINDING
from loyalty_site.migration_lint import lint_migrations


class Command(BaseCommand):
    help = (
        "Name what in the migrations of this release would hurt the one that still runs. "
        "Exit codes: 0 nothing, 1 findings (named)."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        findings = lint_migrations()
        for finding in findings:
            self.stdout.write(str(finding))
        if findings:
            raise SystemExit(FINDING)
        self.stdout.write("No migration hurts the release that still runs.")
