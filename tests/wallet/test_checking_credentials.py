"""Credentials are tried hourly, and their secrets sealed anew when the key changes."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from structlog.testing import capture_logs

from tests.factories import NOON
from tests.fakes.apns import answer
from tests.fakes.pki import DAY, make_pki
from tests.wallet.credentials import make_apple_credential, make_google_credential, shared_account, shared_identity
from wallet.errors import SecretUnreadable
from wallet.models import Credential
from wallet.outcomes import Kind
from wallet.services import opening
from wallet.services.credentials import check_credentials, import_wwdr, probe, require_usable_files, reseal_all
from wallet.services.status import wallet_status
from wallet.tasks import check_credentials as task

pytestmark = pytest.mark.usefixtures("db", "wallet_settings")


def checked() -> dict[str, tuple[Any, str]]:
    """When each credential was tried, and why it failed."""
    return {row.kind: (row.checked_at, row.check_error) for row in Credential.objects.all()}


def test_every_active_one_is_tried_and_the_result_noted(apns, google):
    report = check_credentials(at=NOON)

    assert (report.checked, report.failed_credential_ids) == (3, [])
    assert checked() == {"apple": (NOON, ""), "google": (NOON, ""), "wwdr": (NOON, "")}
    assert [push.token for push in apns.pushes] == ["0" * 64]
    assert [(call.method, call.status) for call in google.calls] == [("GET", 404)]


def test_the_log_says_how_many_days_are_left(apns, apple_credential):
    with capture_logs() as logs:
        check_credentials(at=apple_credential.valid_until - 12.5 * DAY)

    [event] = [event for event in logs if event.get("credential_id") == apple_credential.pk]
    assert (event["event"], event["days_left"], event["reason"]) == ("wallet.credential_checked", 12, "")


def test_why_one_failed_is_noted_until_it_works_again(apns, google, apple_credential):
    apns.when(answer(403, "BadCertificate"), times=1)

    report = check_credentials(at=NOON)

    assert report.failed_credential_ids == [apple_credential.pk]
    assert checked()["apple"] == (NOON, "Apple answered 403 BadCertificate.")
    assert checked()["google"] == (NOON, "")
    check_credentials(at=NOON + timedelta(hours=1))
    assert checked()["apple"] == (NOON + timedelta(hours=1), "")


def test_an_expired_one_is_known_without_asking(apns, apple_credential):
    outcome = probe(apple_credential, at=apple_credential.valid_until)

    assert (outcome.kind, outcome.code) == (Kind.CREDENTIAL, "certificate_expired")
    assert apns.pushes == []


def test_one_that_google_does_not_know_any_more_fails_though_a_token_is_at_hand(google, google_credential):
    assert probe(google_credential, at=NOON).is_done
    google.distrust(shared_account())

    outcome = probe(google_credential, at=NOON)

    assert (outcome.kind, outcome.code) == (Kind.CREDENTIAL, "invalid_grant")


def test_a_staged_one_is_not_tried(apns, apple_credential):
    Credential.objects.filter(kind="apple").update(status="staged")

    assert check_credentials(at=NOON).checked == 1
    assert apns.pushes == []


def test_a_secret_that_cannot_be_read_is_a_failure_like_others(apns, apple_credential, settings):
    settings.WALLET_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    assert check_credentials(at=NOON).failed_credential_ids == [apple_credential.pk]
    assert "Put back the key" in checked()["apple"][1]


def test_authorities_that_cannot_be_read_are_a_failure_like_others(apns, apple_credential, settings):
    settings.APPLE_PUSH_CA_FILE = "/nowhere/authorities.pem"

    assert check_credentials(at=NOON).failed_credential_ids == [apple_credential.pk]
    assert checked()["apple"][1].startswith("APPLE_PUSH_CA_FILE names /nowhere/authorities.pem")


def test_an_intermediate_of_the_same_name_does_not_take_the_watch_from_the_one_in_use(apns, intermediate):
    import_wwdr(certificate=make_pki().intermediate.certificate_pem, actor="tests", at=NOON)

    report = check_credentials(at=intermediate.valid_until)

    assert intermediate.pk in report.failed_credential_ids
    in_use = wallet_status(at=NOON).apple.credentials
    assert (intermediate, intermediate.days_left(NOON)) in [(one.credential, one.days_left) for one in in_use]


def test_the_task_returns_the_report(apns):
    assert task() == {"checked": 2, "failed_credential_ids": []}


class TestSealingAnew:
    def test_lets_the_old_key_go(self, settings, apple_credential, google_credential):
        old, new = settings.WALLET_ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
        settings.WALLET_ENCRYPTION_KEYS = [new, old]

        assert reseal_all() == 2

        settings.WALLET_ENCRYPTION_KEYS = [new]
        for credential in Credential.objects.filter(kind__in=["apple", "google"]):
            assert opening.secret_of(credential)
        settings.WALLET_ENCRYPTION_KEYS = [old]
        with pytest.raises(SecretUnreadable):
            opening.secret_of(Credential.objects.get(kind="google"))

    def test_changes_nothing_when_one_cannot_be_opened(self, settings, apple_credential, google_credential):
        before = list(Credential.objects.order_by("pk").values_list("sealed_secret", flat=True))
        good, new = settings.WALLET_ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
        settings.WALLET_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
        make_apple_credential(shared_identity(2), issuer=Credential.objects.get(kind="wwdr"), status="staged")
        settings.WALLET_ENCRYPTION_KEYS = [new, good]

        with pytest.raises(SecretUnreadable):
            reseal_all()

        assert list(Credential.objects.order_by("pk").values_list("sealed_secret", flat=True))[:-1] == before

    def test_does_not_touch_files(self, google_credential, tmp_path):
        Credential.objects.update(sealed_secret="", secret_file=str(tmp_path / "key.json"))

        assert reseal_all() == 0


class TestFiles:
    @pytest.fixture
    def file(self, google_credential, tmp_path):
        file = tmp_path / "google.json"
        file.write_bytes(shared_account())
        file.chmod(0o600)
        Credential.objects.filter(pk=google_credential.pk).update(sealed_secret="", secret_file=str(file))
        return file

    def test_that_can_be_read_by_us_alone_are_in_order(self, file):
        require_usable_files()

    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (lambda file: file.unlink(), "is missing. Put the credential back, or activate another."),
            (lambda file: file.chmod(0o644), "has mode 644, so others can read it. Run chmod 600"),
        ],
    )
    def test_that_cannot_be_used_are_named_with_the_remedy(self, file, spoil, says):
        spoil(file)

        with pytest.raises(SecretUnreadable) as refusal:
            require_usable_files()

        assert refusal.value.sentence.startswith(f"The file {file} {says}")

    def test_of_credentials_that_are_not_in_use_may_be_gone(self, file):
        Credential.objects.update(status="previous")
        make_google_credential(shared_account(2))
        file.unlink()

        require_usable_files()
