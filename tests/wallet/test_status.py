"""How the wallet does, in one look."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.factories import NOON, days, give, make_card
from tests.wallet.credentials import make_google_credential, shared_account
from tests.wallet.rows import make_breaker, make_failing_pass, make_pass, make_sync_run
from wallet.services.status import wallet_status

pytestmark = pytest.mark.django_db


def test_a_wallet_without_credentials_is_off():
    status = wallet_status(at=NOON)

    assert (status.apple.is_configured, status.google.is_configured, status.last_run) == (False, False, None)
    assert status.apple.credentials == status.google.credentials == []


def test_a_platform_with_an_active_credential_is_on(apple_credential):
    status = wallet_status(at=NOON)

    assert (status.apple.is_configured, status.google.is_configured) == (True, False)
    days_left = {one.credential.kind: one.days_left for one in status.apple.credentials}
    assert days_left == {kind: (until - NOON).days for kind, until in _validity(status)}


def _validity(status):
    return [(one.credential.kind, one.credential.valid_until) for one in status.apple.credentials]


def test_a_key_of_google_has_an_age_and_no_end(google_credential):
    [key] = wallet_status(at=NOON + days(90)).google.credentials

    assert (key.days_left, key.days_old) == (None, 90)


def test_a_key_that_is_only_staged_is_not_counted(wallet_settings):
    make_google_credential(shared_account(), status="staged")

    assert wallet_status(at=NOON).google.credentials == []


def test_passes_are_counted_by_platform_and_by_what_is_wrong_with_them():
    make_pass()
    behind = make_pass(make_card())
    give(behind.card, 5, at=NOON)
    make_failing_pass()
    make_failing_pass(dead_at=NOON)
    make_failing_pass(platform="google")
    make_pass(platform="google", saved=False, synced_version=0)

    status = wallet_status(at=NOON)

    apple, google = status.apple, status.google
    assert (apple.passes_behind, apple.passes_failing, apple.passes_given_up) == (2, 1, 1)
    assert (google.passes_behind, google.passes_failing, google.passes_given_up) == (1, 1, 0)


def test_open_breakers_are_named_with_their_platform():
    make_breaker()
    make_breaker(platform="apple", identifier="pass.example.other", opened_at=None)

    status = wallet_status(at=NOON)

    assert [breaker.code for breaker in status.google.breakers] == ["permission_denied"]
    assert status.apple.breakers == []


def test_the_last_run_is_one_that_did_something():
    last = make_sync_run(started_at=NOON)
    make_sync_run(status="skipped", started_at=NOON + days(1), finished_at=NOON + days(1))

    assert wallet_status(at=NOON).last_run == last


def test_more_of_everything_costs_no_more_statements(google_credential):
    def statements() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            wallet_status(at=NOON)
        return len(captured)

    make_failing_pass()
    with_one = statements()
    for _ in range(2):
        make_failing_pass()
        make_failing_pass(platform="google")
        make_sync_run()
    make_google_credential(shared_account(2), identifier="2")
    make_breaker()

    assert statements() == with_one <= 9
