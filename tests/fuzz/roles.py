"""Schemathesis on a running server, in the name of somebody: requests made from what the server says it takes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loyalty.models import Card, Transaction
from tests.factories import make_card
from tests.fakes.celery_process import ROOT
from tests.fakes.web_process import WebProcess
from tests.loyalty.api.described import World

CONFIGURATION = Path(__file__).with_name("schemathesis.toml").read_text()
SEED = 20_260_331
REAL = 0.7  # how often an id is that of something that exists
CARDS = 30
ROLES = ("till", "manager_at_till", "support", "manager", "admin")


@dataclass(frozen=True)
class Findings:
    """What a run of Schemathesis found."""

    report: Mapping[str, Any]
    output: str

    @property
    def cases(self) -> int:
        return int(self.report["test_cases"]["generated"])

    @property
    def seed(self) -> int:
        return int(self.report["seed"])

    @property
    def seconds(self) -> float:
        return float(self.report["running_time"])

    @property
    def is_clean(self) -> bool:
        """It ran to its end, reached every operation, and nothing was wrong."""
        operations = self.report["operations"]
        reached = operations["tested"] == operations["selected"] > 0
        return bool(self.report["exit_code"] == 0 and self.report["complete"] and reached)


def fuzz(server: WebProcess, role: str, world: World, folder: Path, *, phases: str, examples: int) -> Findings:
    """Everything that this role of a world can ask, in all the ways that Schemathesis thinks of."""
    configuration, report = folder / f"{role}.toml", folder / f"{role}.json"
    document = _document(server, folder)
    configuration.write_text(CONFIGURATION + _bindings(world))
    part = "store" if "till" in role else "admin"
    arguments = [
        *("--config-file", str(configuration), "run", str(document), "--url", server.address),
        *("--include-path-regex", f"^/api/v1/{part}/", "--phases", phases, "--max-examples", str(examples)),
        *("--seed", str(SEED), "--report-json-path", str(report), "--no-color", "--no-shrink"),
        *(part for name, value in getattr(world, role).headers.items() for part in ("--header", f"{name}: {value}")),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks"},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    output = done.stdout + done.stderr
    assert report.exists(), output
    return Findings(json.loads(report.read_text()), output)


def _document(server: WebProcess, folder: Path) -> Path:
    """What the server says it takes, as JSON: Schemathesis reads YAML for seconds."""
    document = folder / "openapi.json"
    document.write_text(json.dumps(yaml.load(server.ask("GET", "/docs/openapi.yaml").content, yaml.CSafeLoader)))
    return document


def _bindings(world: World) -> str:
    """Let the ids of things that exist appear, or nearly all cases would end with 404."""
    dictionaries, parameters = [], []
    for name, numbers in _numbers(world).items():
        dictionaries.append(f"[dictionaries.{name}]\nvalues = {numbers}\n")
        for place in (f"path.{name}", f"query.{name}", f"body.{name}", f"body.{name}s[*]"):
            parameters.append(f'"{place}" = {{ dictionary = "{name}", probability = {REAL} }}\n')
    return "\n" + "".join(dictionaries) + "\n[parameters]\n" + "".join(parameters)


def _numbers(world: World) -> dict[str, list[int]]:
    """Of what is used up there are many: cards are closed and customers erased on the way."""
    for _ in range(CARDS):
        make_card(world.merchant, points=500)
    cards = list(Card.objects.filter(program__merchant=world.merchant))
    return {name: [number] for name, number in world.ids.items()} | {
        "card_id": [card.pk for card in cards],
        "target_card_id": [card.pk for card in cards],
        "customer_id": [card.customer_id for card in cards],
        "transaction_id": list(Transaction.objects.filter(card__in=cards).values_list("pk", flat=True)),
    }
