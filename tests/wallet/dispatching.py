"""A sync without a network: passes are claimed and settled by the product's own code, and the test does the pushing."""

from collections.abc import Sequence
from datetime import datetime

from tests.fakes.pki import PASS_TYPE
from wallet.models import Platform, Registration
from wallet.services import claiming
from wallet.services.claiming import Taken
from wallet.services.rendering import told_to_apple


def claim(*, at: datetime) -> list[Taken]:
    """The passes that phones are to be told about, in the hands of this run."""
    due = claiming.find_due(Platform.APPLE, PASS_TYPE, claiming.Selection(), at=at)
    changed, _ = claiming.claim(due, told_to_apple, at=at)
    return changed


def phones_of(taken: Sequence[Taken]) -> set[str]:
    """The push tokens of the phones that have these passes."""
    passes = [one.wallet_pass.pk for one in taken]
    return set(Registration.objects.filter(wallet_pass__in=passes).values_list("push_token", flat=True))


def dispatch(*, at: datetime) -> set[str]:
    """Claim, read whom to push to, and settle. Returns the push tokens."""
    taken = claim(at=at)
    phones = phones_of(taken)
    claiming.settle(taken, at=at)
    return phones
