"""The import contract of pyproject.toml: the tree keeps it, and it notices those who do not."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("loyalty_site", "wallet", "loyalty", "notifications")
BELOW = "an app imports only what lies below it"
SHELVES = "in the larger apps doors call verbs, verbs use nouns"
NOTIFICATIONS = "in notifications too"
WALLET = "in wallet two platforms stand between verbs and nouns"
LOOKING = "wallet looks at the nouns of loyalty and asks nothing of its verbs"
PURE = "verbs and nouns know neither Celery nor REST"
LEDGER = "balances move in loyalty.services.ledger, called by services only"
# The admin's log is a table like others: an erasure reaches it too.
HTTP = re.compile(r"django\.(http|shortcuts|urls|views|contrib\.admin(?!\.models\b))\b")


def broken_contracts(root: Path) -> set[str]:
    """The names of the contracts that the packages in a folder break."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    kept = re.findall(r"^(.+) KEPT$", done.stdout, re.MULTILINE)
    broken = re.findall(r"^(.+) BROKEN$", done.stdout, re.MULTILINE)
    assert {*kept, *broken} == {BELOW, SHELVES, NOTIFICATIONS, WALLET, LOOKING, PURE, LEDGER}, done.stdout + done.stderr
    assert done.returncode == (1 if broken else 0)
    return set(broken)


@pytest.fixture
def copied(tmp_path):
    """The packages and their contract, to break it in."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=lambda _, names: [n for n in names if not wanted(n)])
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def wanted(name: str) -> bool:
    return name.endswith(".py") or ("." not in name and name != "__pycache__")


def test_the_tree_keeps_the_contract():
    assert broken_contracts(ROOT) == set()


@pytest.mark.parametrize(
    ("contract", "place", "statement"),
    [
        # An app and what lies above it.
        (BELOW, "notifications/services/queueing.py", "from loyalty.models import Card"),
        (BELOW, "loyalty/tasks.py", "import loyalty_site.models"),
        (BELOW, "loyalty/models/card.py", "import wallet.apps"),
        (BELOW, "wallet/apps.py", "import loyalty_site.jobs"),
        # Nouns and verbs and what lies above them.
        (SHELVES, "loyalty/errors.py", "from loyalty.models import Card"),
        (SHELVES, "loyalty/models/card.py", "from loyalty.services import earning"),
        (SHELVES, "loyalty/services/earning.py", "import loyalty.tasks"),
        (SHELVES, "loyalty/services/earning.py", "from loyalty.management.base import actor"),
        (NOTIFICATIONS, "notifications/errors.py", "import notifications.models"),
        (NOTIFICATIONS, "notifications/models.py", "import notifications.services"),
        (NOTIFICATIONS, "notifications/services/sending.py", "import notifications.admin"),
        # A door and another door.
        (SHELVES, "loyalty/tasks.py", "import loyalty.management.base"),
        (SHELVES, "loyalty/management/base.py", "import loyalty.admin"),
        # Files that stand on no shelf.
        (SHELVES, "loyalty/helpers.py", ""),
        (NOTIFICATIONS, "notifications/utils.py", ""),
        (WALLET, "wallet/common.py", ""),
        # Platforms, and what lies beside and above them.
        (WALLET, "wallet/apple/__init__.py", "import wallet.google"),
        (WALLET, "wallet/google/__init__.py", "import wallet.services"),
        # wallet and the verbs of loyalty.
        (LOOKING, "wallet/apps.py", "from loyalty.services import explaining"),
        (LOOKING, "wallet/services/earning.py", "from loyalty.services.ledger import lock"),
        # Celery and REST below the doors, also from within a function.
        (PURE, "loyalty/services/earning.py", "def f(): from celery import current_app"),
        (PURE, "loyalty/models/card.py", "import celery"),
        (PURE, "loyalty/errors.py", "from rest_framework import status"),
        (PURE, "notifications/services/sending.py", "from rest_framework.exceptions import APIException"),
        (PURE, "notifications/models.py", "from celery import shared_task"),
        (PURE, "notifications/errors.py", "import kombu.exceptions"),
        # The ledger and those who are no services.
        (LEDGER, "loyalty/tasks.py", "from loyalty.services.ledger import post"),
        (LEDGER, "loyalty/management/base.py", "from loyalty.services import ledger"),
        (LEDGER, "loyalty/admin/__init__.py", "import loyalty.services.ledger"),
        (LEDGER, "loyalty_site/jobs.py", "from loyalty.services import ledger"),
        (LEDGER, "wallet/apps.py", "from loyalty.services import ledger"),
    ],
)
def test_a_violation_is_noticed(copied, contract, place, statement):
    path = copied / place
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{statement}\n")

    assert contract in broken_contracts(copied)


def test_services_may_move_balances(copied):
    (copied / "loyalty/services/gifts.py").write_text("from loyalty.services import ledger\n")

    assert broken_contracts(copied) == set()


def test_verbs_and_nouns_do_not_know_http():
    """import-linter sees all of Django as one."""
    below = [path for shelf in ("services", "models") for path in ROOT.glob(f"*/{shelf}/**/*.py")]
    below += [path for file in ("services", "models", "errors") for path in ROOT.glob(f"*/{file}.py")]
    assert len(below) > 20

    assert not [f"{path} imports {name}" for path in below for name in imported(path) if HTTP.match(name)]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
