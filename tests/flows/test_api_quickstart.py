"""The walk through the APIs in docs/quickstart.md, line by line, on the real web server with the real curl."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from loyalty.models import Customer, Transaction
from loyalty.services.ledger_check import check_ledger
from tests.fakes.celery_process import ROOT, environment
from tests.fakes.web_process import web

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl"),
]


def script() -> str:
    """The shell blocks of the section."""
    section = (ROOT / "docs" / "quickstart.md").read_text().partition("## 5. The APIs")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 8
    return "set -eu\n" + "".join(blocks)


def test_the_walk_in_the_quickstart_works(tmp_path):
    User.objects.create_superuser("admin")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with web(tmp_path) as site:
        walk = script().replace("http://127.0.0.1:8000", site.address)
        done = subprocess.run(
            ["bash", "-c", walk],
            check=False,
            cwd=ROOT,
            env=environment(PATH=path),
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    said = done.stdout.splitlines()
    assert said[:5] == ["2", "22", "-1", "0", "-1"]
    assert said[5:9] == ["20"] * 4
    assert said[-1] == "nobody of this name any more"
    assert list(Transaction.objects.order_by("seq").values_list("type", "points_delta")) == [
        ("CARD_CREATED", 0),
        ("WELCOME_BONUS", 20),
        ("POINTS_EARNED", 2),
        ("POINTS_REDEEMED", -15),
        ("REDEMPTION_VOIDED", 15),
        ("POINTS_VOIDED", -1),
        ("POINTS_VOIDED", 0),
        ("POINTS_VOIDED", -1),
        ("ADMIN_ADJUSTMENT", -20),
        ("CARD_DEACTIVATED", 0),
    ]
    assert Customer.objects.get().email == ""
    assert check_ledger().mismatches == []
