import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from loyalty_site.launching import DISPENSABLE, launch_findings


class Command(BaseCommand):
    help = (
        "Say what still stands between this installation and its first customer, one line for each finding. "
        "Exit status 1 when there is any."
    )
    requires_system_checks = []  # what they find is among the findings

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object for machines")
        parser.add_argument(
            "--without", action="append", default=[], choices=DISPENSABLE, help="what is left out on purpose"
        )
        parser.add_argument("--backups", metavar="FOLDER", type=Path, help="where the nightly backups are")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(launch_findings(at=timezone.now(), without=options["without"], backups=options["backups"]))
        if options["json"]:
            self.stdout.write(json.dumps({"ready": not found, "findings": [asdict(finding) for finding in found]}))
        else:
            for finding in found:
                self.stdout.write(f"{finding.code}: {finding.text}")
            if not found:
                self.stdout.write("Ready.")
        if found:
            sys.exit(1)
