"""A wallet whose credentials work."""

import secrets

import pytest
from cryptography.fernet import Fernet

from tests.fakes.pki import ACCOUNT, ISSUER_ID, PASS_TYPE, TEAM, Pki, shared_pki
from tests.wallet.credentials import (
    make_apple_credential,
    make_google_credential,
    make_intermediate,
    shared_account,
    shared_identity,
)
from wallet.models import Credential


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
