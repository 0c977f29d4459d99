import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from tests.fakes.google import FakeGoogle
from tests.fakes.pki import ISSUER_ID
from tests.wallet.credentials import shared_account
from wallet.google.accounts import ServiceAccount
from wallet.google.client import GoogleWallet
from wallet.google.pacing import Pace
from wallet.outcomes import Outcome

T = TypeVar("T")
FAST = 1000  # calls a second, where a test is not about the pace
OBJECT = f"{ISSUER_ID}.00000000-0000-4000-8000-000000000001"


@pytest.fixture
def fake() -> Iterator[FakeGoogle]:
    with FakeGoogle(shared_account()) as server:
        yield server


@pytest.fixture
def account() -> ServiceAccount:
    return ServiceAccount(shared_account())


Ask = Callable[[Callable[[GoogleWallet], Awaitable[Outcome]]], Outcome]


@pytest.fixture
def pace() -> Pace:
    return Pace(FAST)


@pytest.fixture
def ask(fake: FakeGoogle, account: ServiceAccount, pace: Pace) -> Ask:
    """What comes of something asked of an open client."""

    async def asked(question: Callable[[GoogleWallet], Awaitable[Outcome]]) -> Outcome:
        client = GoogleWallet(url=fake.url, token_url=fake.token_url, account=account, pace=pace, timeout_seconds=0.5)
        async with client as google:
            return await question(google)

    return lambda question: asyncio.run(asked(question))
