"""What the active credential opens: always that of this moment, and parsed once."""

import time

import pytest
from cryptography.fernet import Fernet

from tests.fakes.pki import ACCOUNT, ISSUER_ID, PASS_TYPE
from tests.wallet.credentials import make_apple_credential, make_google_credential, shared_account, shared_identity
from wallet.errors import SecretUnreadable, WalletNotConfigured
from wallet.models import Credential, Platform
from wallet.services import opening

pytestmark = pytest.mark.usefixtures("db", "wallet_settings")


def test_the_active_certificate_signs(apple_credential):
    signer = opening.signer(PASS_TYPE)

    assert signer.expires_at == apple_credential.valid_until
    assert signer.sign(b"manifest").startswith(b"\x30\x82")


def test_the_active_key_of_google_signs(google_credential):
    account = opening.account(ISSUER_ID)

    assert (account.email, account.key_id) == (ACCOUNT, google_credential.serial)


@pytest.mark.parametrize("status", ["staged", "previous", "retired", "revoked"])
def test_no_other_status_opens_anything(apple_credential, google_credential, status):
    Credential.objects.update(status=status)

    with pytest.raises(WalletNotConfigured, match=f"No Pass Type ID certificate of {PASS_TYPE} is active"):
        opening.signer(PASS_TYPE)
    with pytest.raises(WalletNotConfigured, match="No Google service account key of"):
        opening.account(ISSUER_ID)
    assert [opening.is_on(platform) for platform in Platform] == [False, False]


def test_a_platform_is_on_while_what_new_passes_are_issued_under_is_active(apple_credential, settings):
    assert (opening.is_on("apple"), opening.is_on("google")) == (True, False)
    settings.APPLE_PASS_TYPE_ID = "pass.example.new"

    assert not opening.is_on("apple")
    assert opening.configured("apple") == [PASS_TYPE]  # older passes are kept true
    settings.APPLE_PASS_TYPE_ID = ""
    assert not opening.is_on("apple")


def test_a_key_is_parsed_once_and_the_row_asked_for_each_time(apple_credential, django_assert_num_queries):
    first = opening.signer(PASS_TYPE)

    with django_assert_num_queries(1):
        assert opening.signer(PASS_TYPE) is first


def test_another_version_is_used_from_the_next_moment_on(apple_credential, intermediate):
    first = opening.signer(PASS_TYPE)
    Credential.objects.filter(pk=apple_credential.pk).update(status="previous")
    make_apple_credential(shared_identity(2), issuer=intermediate)

    second = opening.signer(PASS_TYPE)

    assert second is not first
    assert second.sign(b"x") != first.sign(b"x")


def test_opening_again_is_quick(apple_credential):
    opening.signer(PASS_TYPE)
    began = time.monotonic()
    for _ in range(20):
        opening.signer(PASS_TYPE)

    assert time.monotonic() - began < 20 * 0.01  # parsing takes 0.03 s


def test_a_key_sealed_with_a_key_that_is_gone_says_so(settings, apple_credential, google_credential):
    settings.WALLET_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    with pytest.raises(SecretUnreadable, match="Put back the key it was sealed with"):
        opening.signer(PASS_TYPE)
    with pytest.raises(SecretUnreadable, match="Put back the key it was sealed with"):
        opening.account(ISSUER_ID)


@pytest.mark.parametrize("content", [b"garbage", shared_identity(2).key_pem], ids=["garbage", "another key"])
def test_a_file_that_holds_something_else_by_now_says_so(apple_credential, tmp_path, content):
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    file.chmod(0o600)
    Credential.objects.filter(pk=apple_credential.pk).update(sealed_secret="", secret_file=str(file))

    with pytest.raises(SecretUnreadable, match=r"The file .*key\.pem is not what was imported"):
        opening.signer(PASS_TYPE)


@pytest.mark.parametrize(
    "content",
    [shared_account().replace(ACCOUNT.encode(), b"other@example.iam.gserviceaccount.com"), shared_account(2)],
    ids=["another account", "another key"],
)
def test_json_of_another_account_or_key_in_the_file_says_so(google_credential, tmp_path, content):
    file = tmp_path / "google.json"
    file.write_bytes(content)
    file.chmod(0o600)
    Credential.objects.filter(pk=google_credential.pk).update(sealed_secret="", secret_file=str(file))

    with pytest.raises(SecretUnreadable, match=r"google\.json is not what was imported"):
        opening.account(ISSUER_ID)


def test_versions_of_google_are_told_apart(google_credential):
    Credential.objects.filter(pk=google_credential.pk).update(status="previous")
    second = make_google_credential(shared_account(2))

    assert opening.account(ISSUER_ID).key_id == second.serial
    assert opening.account_of(google_credential).key_id == google_credential.serial
