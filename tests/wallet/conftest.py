"""A wallet whose credentials work."""

import secrets
from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet

from tests.fakes.apns import FakeApns
from tests.fakes.google import FakeGoogle
from tests.fakes.pki import ACCOUNT, ISSUER_ID, PASS_TYPE, TEAM, Pki, shared_pki
from tests.wallet.credentials import (
    make_apple_credential,
    make_google_credential,
    make_intermediate,
    shared_account,
    shared_identity,
)
from wallet.models import Credential
from wallet.services import google_teller


@pytest.fixture
def pki() -> Pki:
    return shared_pki()


@pytest.fixture
def wallet_settings(settings):
    """Keys made for this test, and what the credentials of the tests are for."""
    settings.WALLET_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    settings.WALLET_TOKEN_KEYS = [f"1:{secrets.token_urlsafe(32)}"]
    settings.APPLE_PASS_TYPE_ID, settings.APPLE_TEAM_ID = PASS_TYPE, TEAM
    settings.GOOGLE_ISSUER_ID, settings.GOOGLE_SERVICE_ACCOUNT = ISSUER_ID, ACCOUNT
    return settings


@pytest.fixture
def intermediate(db, wallet_settings, pki) -> Credential:
    return make_intermediate(pki)


@pytest.fixture
def apple_credential(intermediate) -> Credential:
    """The active certificate of the pass type, and its intermediate."""
    return make_apple_credential(shared_identity(), issuer=intermediate)


@pytest.fixture
def google_credential(db, wallet_settings) -> Credential:
    """The active service account of the issuer."""
    return make_google_credential(shared_account())


@pytest.fixture
def apns(apple_credential, pki, settings) -> Iterator[FakeApns]:
    """Apple, as far as pushes are concerned."""
    with FakeApns(pki) as server:
        settings.APPLE_PUSH_URL, settings.APPLE_PUSH_CA_FILE = server.url, server.ca_file
        yield server


@pytest.fixture
def google(google_credential, settings) -> Iterator[FakeGoogle]:
    """Google's API, and the way to its tokens."""
    with FakeGoogle(shared_account()) as server:
        settings.GOOGLE_WALLET_URL, settings.GOOGLE_TOKEN_URL = server.url, server.token_url
        settings.GOOGLE_KEYS_URL = server.keys_url
        # A pace is kept by a process, whichever test slowed it down.
        google_teller._paces.clear()
        yield server
