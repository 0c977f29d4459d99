"""What `manage.py wallet_status` makes of the last run."""

from io import StringIO

import pytest
from django.core.management import call_command

from tests.factories import NOON, days
from tests.wallet.rows import make_sync_run

pytestmark = pytest.mark.django_db


def test_a_last_run_that_failed_is_told_with_its_error_and_is_a_finding(wallet_settings):
    run = make_sync_run(status="failed", error="It ended with ValueError.")
    output = StringIO()

    with pytest.raises(SystemExit, match="1"):
        call_command("wallet_status", stdout=output)

    assert f"last run {run.pk} failed: It ended with ValueError.\n" in output.getvalue()


def test_a_run_that_failed_before_one_that_succeeded_is_no_finding(wallet_settings):
    make_sync_run(status="failed", error="It ended with ValueError.", started_at=NOON - days(1))
    make_sync_run()
    output = StringIO()

    call_command("wallet_status", stdout=output)

    assert "ValueError" not in output.getvalue()
