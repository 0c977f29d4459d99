"""Syncs that are killed lose nothing, and two at once call a platform no faster than one."""

import random
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.factories import make_merchant
from tests.faults.expiry_process import wait_until_nobody_else_is_connected
from tests.wallet.rows import make_pass
from tests.wallet.sync_process import SyncProcess
from tests.wallet.syncing import cards_in_phones, change, points_at_google, sync, tokens_of
from wallet.models import Pass, Platform
from wallet.services import claiming

pytestmark = pytest.mark.django_db(transaction=True)
CARDS = 60


@pytest.fixture
def merchant(db):
    return make_merchant(points_expiration_days=None)


def on_both_platforms(merchant, count):
    passes = cards_in_phones(merchant, count)
    for wallet_pass in passes:
        make_pass(wallet_pass.card, platform=Platform.GOOGLE)
    return passes


def kill_some(seed, kills, passes):
    """Kill runs at random points, with cards changing all the while. Returns when each card changed last."""
    chance = random.Random(seed)
    changed_at = {}
    for _ in range(kills):
        for wallet_pass in chance.sample(passes, 20):
            changed_at[wallet_pass.card_id] = timezone.now()
            change(wallet_pass, chance.randint(1, 9))
        run = SyncProcess()
        time.sleep(chance.uniform(0.8, 3.5))
        run.kill()
        wait_until_nobody_else_is_connected()
    return changed_at


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_after_kills_at_random_points_every_phone_is_told_of_the_newest_balance(apns, google, merchant, kills):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    passes = on_both_platforms(merchant, CARDS)

    changed_at = kill_some(seed, kills, passes)
    after_the_leases = timezone.now() + claiming.LEASE + timedelta(seconds=1)
    report = sync(at=after_the_leases)

    assert report.failed_card_ids == []
    assert not Pass.objects.stale().exists()
    told_at = {push.token: push.at for push in apns.pushes}
    for wallet_pass in passes:
        wallet_pass.card.balance.refresh_from_db()
        if wallet_pass.card_id in changed_at:
            assert told_at[tokens_of(wallet_pass)[0]] > changed_at[wallet_pass.card_id]
            assert points_at_google(google, wallet_pass.card) == wallet_pass.card.balance.points_balance


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(400)])])
def test_two_workers_make_twenty_calls_a_second_at_most(google, merchant, settings, count):
    passes = cards_in_phones(merchant, count, platform=Platform.GOOGLE)
    Pass.objects.update(synced_version=0)
    settings.WALLET_SYNC_SECONDS = 3 if count < 1000 else 20

    while Pass.objects.stale().exists():
        reports = [run.report() for run in [SyncProcess(), SyncProcess()]]
        assert sum(report["pushed"] for report in reports) > 0
        assert [report["failed_card_ids"] for report in reports] == [[], []]

    assert len(google.objects) == count
    assert google.most_in_a_second() <= 20
    assert points_at_google(google, passes[-1].card) == 100
