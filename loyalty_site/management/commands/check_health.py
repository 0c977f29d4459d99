import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from loyalty_site.findings import findings
from loyalty_site.starting import require_no_errors


class Command(BaseCommand):
    help = (
        "Say what is wrong with this installation, one line for each finding. "
        "Exit codes: 0 nothing is wrong, 1 there is a finding, 3 the settings cannot be used."
    )

    requires_system_checks = []  # with their errors it ends as with settings that cannot be read

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object for machines")
        parser.add_argument("--backups", metavar="FOLDER", type=Path, help="where the nightly backups are")

    def handle(self, *args: Any, **options: Any) -> None:
        require_no_errors()
        found = list(findings(timezone.now(), options["backups"]))
        if options["json"]:
            self.stdout.write(json.dumps({"healthy": not found, "findings": [asdict(finding) for finding in found]}))
        else:
            for finding in found:
                self.stdout.write(f"{finding.code}: {finding.text}")
            if not found:
                self.stdout.write("Healthy.")
        if found:
            sys.exit(1)
