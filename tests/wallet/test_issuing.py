"""A card has one pass for each platform, and phones get it as the card is, even before they were told."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import Program
from tests.factories import NOON, balance_of, make_card
from tests.fakes.phone import HeldPass
from tests.fakes.pki import ISSUER_ID, PASS_TYPE
from tests.wallet import dispatching
from tests.wallet.syncing import change, hash_of
from wallet.errors import WalletNotConfigured
from wallet.models import Pass, Platform
from wallet.services import claiming, issuing
from wallet.services.issuing import hand_out, issue, read_pass

pytestmark = pytest.mark.django_db
APPLE, GOOGLE = Platform.APPLE, Platform.GOOGLE
MINUTE = timedelta(minutes=1)


@pytest.fixture
def card(wallet_settings):
    return make_card(points=10)


@pytest.fixture
def handed_out(card, apple_credential):
    """A pass that somebody downloaded at NOON."""
    hand_out(card=card, at=NOON)
    return Pass.objects.get()


def fetched(wallet_pass, *, at=NOON):
    return HeldPass(issuing.fetch(wallet_pass=read_pass(wallet_pass.pk), at=at).content).points


def test_a_card_has_one_pass_for_each_platform(card, apple_credential, google_credential):
    apple, google = (issue(card=card, platform=platform, at=NOON) for platform in (APPLE, GOOGLE))

    assert [issue(card=card, platform=platform, at=NOON) for platform in (APPLE, GOOGLE)] == [apple, google]
    assert (apple.issued_under, google.issued_under) == (PASS_TYPE, ISSUER_ID)
    assert UUID(apple.identifier).version == 4
    issuer, _, name = google.identifier.partition(".")
    assert (issuer, UUID(name).version) == (ISSUER_ID, 4)
    assert {apple.status, google.status} == {"pending"}


def test_a_pass_keeps_what_it_was_issued_under_and_its_key(card, apple_credential, wallet_settings):
    before = issue(card=card, platform=APPLE, at=NOON)
    wallet_settings.APPLE_PASS_TYPE_ID = "pass.example.newer"
    wallet_settings.WALLET_TOKEN_KEYS = ["7:newer", *wallet_settings.WALLET_TOKEN_KEYS]

    after = issue(card=card, platform=APPLE, at=NOON)

    assert (after.pk, after.issued_under, after.token_key_version) == (before.pk, PASS_TYPE, 1)


def test_a_new_pass_gets_the_newest_key(card, apple_credential, wallet_settings):
    wallet_settings.WALLET_TOKEN_KEYS = ["7:newer", *wallet_settings.WALLET_TOKEN_KEYS]

    assert issue(card=card, platform=APPLE, at=NOON).token_key_version == 7


@pytest.mark.parametrize("platform", [APPLE, GOOGLE])
def test_a_platform_that_is_off_issues_nothing(card, platform):
    with pytest.raises(WalletNotConfigured):
        issue(card=card, platform=platform, at=NOON)
    assert not Pass.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_customers_who_ask_at_once_get_one_pass(card, apple_credential):
    def ask(_):
        try:
            return issue(card=card, platform=APPLE, at=NOON).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(16)))) == 1


def test_who_downloads_first_is_told_by_that(handed_out):
    assert handed_out.status == "active"
    assert handed_out.synced_version == balance_of(handed_out.card).version
    assert handed_out.synced_look == 1
    assert handed_out.content_hash == hash_of(handed_out)
    assert (handed_out.synced_at, handed_out.modified_at, handed_out.update_seq) == (NOON, NOON, 0)
    assert not Pass.objects.due(NOON).exists()


def test_who_downloads_later_leaves_the_others_to_be_told(handed_out, card):
    change(handed_out, 5)

    package = hand_out(card=card, at=NOON + MINUTE)

    assert HeldPass(package.content).points == 15
    assert Pass.objects.due(NOON + MINUTE).get() == handed_out


def test_a_fetch_of_what_was_told_writes_nothing(handed_out):
    wallet_pass = read_pass(handed_out.pk)

    with CaptureQueriesContext(connection) as queries:
        issuing.fetch(wallet_pass=wallet_pass, at=NOON)

    assert len(queries) <= 3
    assert {query["sql"].split()[0] for query in queries} == {"SELECT"}


def test_a_way_back_is_told_to_who_fetched_before_it(handed_out, card):
    change(handed_out, 5)
    assert fetched(handed_out) == 15
    change(handed_out, -5)

    dispatching.dispatch(at=NOON + MINUTE)

    assert Pass.objects.get().update_seq > 0
    assert fetched(handed_out) == 10


def test_a_way_back_that_nobody_saw_is_told_to_nobody(handed_out, card):
    change(handed_out, 5)
    change(handed_out, -5)

    dispatching.dispatch(at=NOON + MINUTE)

    wallet_pass = Pass.objects.get()
    assert (wallet_pass.update_seq, wallet_pass.synced_version) == (0, balance_of(card).version)


def test_a_look_back_is_told_to_who_fetched_before_it(handed_out):
    for colour in ("#000001", "#1d3557"):
        fetched(handed_out)
        Program.objects.update(background_colour=colour, version=F("version") + 1)

    dispatching.dispatch(at=NOON + MINUTE)

    assert Pass.objects.get().update_seq > 0


def test_who_fetches_between_claim_and_end_of_a_run_is_told_of_what_comes_after(handed_out, card):
    change(handed_out, 5)
    taken = dispatching.claim(at=NOON + MINUTE)
    change(handed_out, 1)
    assert fetched(handed_out) == 16
    claiming.settle(taken, at=NOON + MINUTE)
    before = Pass.objects.get().update_seq
    change(handed_out, -1)

    dispatching.dispatch(at=NOON + 2 * MINUTE)

    assert Pass.objects.get().update_seq > before


def test_who_fetches_what_a_run_is_telling_is_not_told_twice(handed_out, card):
    change(handed_out, 5)
    taken = dispatching.claim(at=NOON + MINUTE)
    assert fetched(handed_out) == 15
    claiming.settle(taken, at=NOON + MINUTE)
    told = Pass.objects.get().update_seq
    change(handed_out, 5)
    change(handed_out, -5)

    dispatching.dispatch(at=NOON + 2 * MINUTE)

    assert Pass.objects.get().update_seq == told


def test_what_was_read_before_a_run_is_read_again(handed_out, card):
    change(handed_out, 5)
    old = read_pass(handed_out.pk)
    change(handed_out, 1)
    dispatching.dispatch(at=NOON + MINUTE)

    package = issuing.fetch(wallet_pass=old, at=NOON + 2 * MINUTE)

    assert HeldPass(package.content).points == 16
    assert package.modified_at == Pass.objects.get().modified_at == NOON + MINUTE


def test_a_pass_that_runs_never_leave_alone_is_told_again(handed_out, card, monkeypatch):
    change(handed_out, 5)
    wallet_pass = read_pass(handed_out.pk)
    monkeypatch.setattr(issuing, "_note_fetched", lambda wallet_pass, face, at: False)

    issuing.fetch(wallet_pass=wallet_pass, at=NOON)

    assert (Pass.objects.get().content_hash, Pass.objects.get().synced_version) == ("", 0)


def test_the_clock_of_a_first_download_does_not_go_back(card, apple_credential):
    issue(card=card, platform=APPLE, at=NOON)

    hand_out(card=card, at=NOON - MINUTE)

    assert Pass.objects.get().modified_at == NOON
    assert timezone.is_aware(Pass.objects.get().modified_at)
