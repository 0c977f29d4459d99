import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.fakes.google import FakeGoogle
from tests.fakes.pki import ISSUER_ID
from tests.wallet.credentials import shared_account
from wallet.google.accounts import ServiceAccount
from wallet.google.client import GoogleWallet
from wallet.google.pacing import Pace
from wallet.outcomes import Outcome

FAST = 1000  # calls a second, where a test is not about the pace
OBJECT = f"{ISSUER_ID}.00000000-0000-4000-8000-000000000001"


@pytest.fixture
def fake() -> Iterator[FakeGoogle]:
    with FakeGoogle(shared_account()) as server:
        yield server


@pytest.fixture
def account() -> ServiceAccount:
    return ServiceAccount(shared_account())


@pytest.fixture
def pace() -> Pace:
    return Pace(FAST)


class Asker:
    """Opens a client for each question."""

    def __init__(self, fake: FakeGoogle, account: ServiceAccount, pace: Pace) -> None:
        self.fake, self.account, self.pace = fake, account, pace

    def __call__(
        self, question: Callable[[GoogleWallet], Awaitable[Outcome]], *, timeout_seconds: float = 10
    ) -> Outcome:
        """What comes of something asked of Google."""

        async def asked() -> Outcome:
            client = GoogleWallet(
                url=self.fake.url,
                token_url=self.fake.token_url,
                account=self.account,
                pace=self.pace,
                timeout_seconds=timeout_seconds,
            )
            async with client as google:
                return await question(google)

        return asyncio.run(asked())


@pytest.fixture
def ask(fake: FakeGoogle, account: ServiceAccount, pace: Pace) -> Asker:
    return Asker(fake, account, pace)
