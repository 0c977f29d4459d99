"""What `launch_check` finds missing, one thing at a time. tests/house/test_deployment.py sees it content."""

import json
import os
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder
from django_celery_beat.models import PeriodicTask

from loyalty.models import Merchant, Program
from loyalty_site.launching import configuration, launch_findings, machinery, people, recovery, wallets
from loyalty_site.models import JobRun
from tests.fakes.celery_process import broker
from tests.fakes.smtp import HANG
from wallet.models import Credential

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
STRONG = "kR7-not-used-anywhere-else-3vQ9-0123456789-tUwXyZ-abc"


@pytest.fixture
def configured(settings, tmp_path, monkeypatch, mail_to_smtp_server):
    """Settings with which nothing is wrong."""
    (tmp_path / "admin.css").touch()
    settings.STATIC_ROOT = tmp_path
    settings.PUBLIC_URL = "https://points.bakery.test"
    settings.ALLOWED_HOSTS = ["points.bakery.test"]
    settings.SECRET_KEY, settings.PIN_PEPPER = STRONG, STRONG[::-1]
    settings.METRICS_TOKEN = STRONG
    settings.DEFAULT_FROM_EMAIL = "Points <points@bakery.test>"
    settings.EMAIL_BACKEND = configuration.SMTP
    settings.SECURE_SSL_REDIRECT = settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 3600
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "")
    settings.WALLET_TOKEN_KEYS = [f"1:{STRONG}"]
    settings.WALLET_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    return settings


def codes(found):
    return [finding.code for finding in found]


def test_a_configuration_in_order_has_no_finding(configured):
    assert list(configuration.configuration_findings()) == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("DEVELOPMENT", True, "development_mode"),
        ("LOYALTY_ALLOW_AS_OF", True, "expiry_as_of_allowed"),
        ("LOYALTY_EXPIRY_GUARD_CARDS", 0, "expiry_guard_off"),
        ("PUBLIC_URL", "http://points.bakery.test", "public_url_insecure"),
        ("ALLOWED_HOSTS", ["*"], "any_host_allowed"),
        ("ALLOWED_HOSTS", ["localhost"], "public_host_refused"),
        ("SECRET_KEY", "for-development-only-" + "x" * 40, "secret_weak"),
        ("PIN_PEPPER", "change-me-to-50-other-random-characters-or-more", "secret_weak"),
        ("PIN_PEPPER", "short", "secret_weak"),
        ("PIN_PEPPER", STRONG, "secret_shared"),
        ("METRICS_TOKEN", "", "metrics_token_missing"),
        ("METRICS_TOKEN", "short", "metrics_token_missing"),
        ("DEFAULT_FROM_EMAIL", "loyalty@localhost", "mail_sender_nowhere"),
        ("DEFAULT_FROM_EMAIL", "loyalty@example.com", "mail_sender_nowhere"),
        ("DEFAULT_FROM_EMAIL", "loyalty", "mail_sender_nowhere"),
        ("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend", "mail_goes_nowhere"),
        ("STATIC_ROOT", "nothing-there", "static_files_missing"),
        ("SECURE_HSTS_SECONDS", 0, "check_failed"),
        ("DEBUG", True, "debug_mode"),
    ],
)
def test_a_setting_that_is_not_for_production_is_named(configured, name, value, code):
    setattr(configured, name, value)

    assert code in codes(configuration.configuration_findings())


def test_a_folder_for_counts_in_which_nothing_starts_is_named(configured, tmp_path):
    configured.PROMETHEUS_MULTIPROC_DIR = str(tmp_path / "admin.css" / "metrics")

    [finding] = configuration.configuration_findings()
    assert (finding.code, finding.text) == (
        "metrics_folder_unusable",
        f"Neither web nor workers start. PROMETHEUS_MULTIPROC_DIR names {tmp_path}/admin.css/metrics, which cannot be "
        "made: Not a directory. Make it for the user of this process, or take the variable away.",
    )


def test_a_folder_for_counts_that_web_and_worker_will_make_is_not_made_by_who_looks(configured, tmp_path):
    configured.PROMETHEUS_MULTIPROC_DIR = str(tmp_path / "run" / "metrics")

    assert list(configuration.configuration_findings()) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("url", "is_nowhere"),
    [
        ("https://localhost", True),
        ("https://127.0.0.1", True),
        ("https://loyalty.example.com", True),
        ("https://points.example", True),
        ("https://10.1.2.3", False),
        ("https://examples.com", False),
    ],
)
def test_an_address_where_nobody_comes_to_is_named(configured, url, is_nowhere):
    configured.PUBLIC_URL = url

    assert ("public_url_nowhere" in codes(configuration.configuration_findings())) is is_nowhere


class TestMail:
    @pytest.fixture
    def server(self, configured, mail_to_smtp_server, monkeypatch):
        monkeypatch.setattr(configuration, "MAIL_SECONDS", 1)
        configured.EMAIL_HOST_USER, configured.EMAIL_HOST_PASSWORD = "points", "hush-hush"
        return mail_to_smtp_server

    def findings(self):
        return list(configuration._mail())

    def test_a_server_that_lets_us_in_is_asked_and_gets_nothing(self, server):
        assert self.findings() == []
        assert (server.connections, server.received) == (1, [])

    @pytest.mark.parametrize("host", ["mail.example.com", "smtp.example", "mail.invalid"])
    def test_a_host_of_an_example_is_named_and_not_asked(self, server, configured, host):
        configured.EMAIL_HOST = host

        [finding] = self.findings()
        assert (finding.code, host in finding.text, server.connections) == ("mail_server_nowhere", True, 0)

    @pytest.mark.parametrize("password", ["A-PASSWORD", "password", "change-me"])
    def test_a_password_of_an_example_is_named(self, server, configured, password):
        configured.EMAIL_HOST_PASSWORD = password

        assert (codes(self.findings()), server.connections) == (["mail_password_weak"], 0)

    def test_a_server_that_refuses_us_is_named_with_its_words_and_without_the_password(self, server):
        server.when("auth", "535 5.7.8 hush-hush is wrong")

        [finding] = self.findings()
        assert finding.code == "mail_server_refuses"
        assert f"127.0.0.1:{server.port} does not let us in (535 5.7.8 ... is wrong). Check EMAIL_URL." in finding.text

    def test_a_server_that_is_away_is_named(self, server):
        server.close()

        [finding] = self.findings()
        assert (finding.code, "Connection refused" in finding.text) == ("mail_server_refuses", True)

    def test_a_server_that_hangs_is_named_in_time(self, server):
        server.when("connect", HANG)

        [finding] = self.findings()
        assert (finding.code, "timed out" in finding.text) == ("mail_server_refuses", True)

    def test_a_password_that_no_server_takes_is_named(self, server, configured):
        configured.EMAIL_HOST_PASSWORD = "h\xfcsh"

        [finding] = self.findings()
        assert (finding.code, "h\xfcsh" in finding.text) == ("mail_server_refuses", False)

    def test_a_provider_with_a_backend_of_its_own_is_not_asked(self, server, configured):
        configured.EMAIL_BACKEND = "anymail.backends.mailgun.EmailBackend"

        assert (self.findings(), server.connections) == ([], 0)


def test_the_password_of_an_example_is_named(configured, monkeypatch):
    monkeypatch.setitem(configured.DATABASES["default"], "PASSWORD", "password")

    assert codes(configuration.configuration_findings()) == ["database_password_weak"]


@pytest.mark.django_db
class TestMachinery:
    def test_names_schedule_entries_that_are_off_or_gone(self):
        assert codes(machinery._schedule()) == []
        PeriodicTask.objects.filter(task="loyalty.check_ledger").update(enabled=False)
        PeriodicTask.objects.filter(task="wallet.purge").delete()

        found = list(machinery._schedule())
        assert codes(found) == ["schedule_entry_off"] * 2
        assert ["loyalty.check_ledger" in found[0].text, "wallet.purge" in found[1].text] == [True, True]

    @pytest.mark.parametrize(("minutes", "found"), [(None, 1), (6, 1), (4, 0)])
    def test_wants_a_heartbeat_of_the_last_five_minutes(self, minutes, found):
        if minutes is not None:
            moment = NOW - timedelta(minutes=minutes)
            JobRun.objects.create(
                task="loyalty_site.heartbeat", task_id="1", status="succeeded", started_at=moment, finished_at=moment
            )

        assert codes(machinery._heartbeat(NOW)) == ["heartbeat_missing"] * found

    def test_names_queues_without_a_worker(self, monkeypatch):
        monkeypatch.setattr(machinery, "ANSWER_SECONDS", 0.2)

        found = list(machinery._queues())
        assert codes(found) == ["queue_unattended"] * 3
        assert found[0].text == "No worker takes the queue `default`. Start a worker for it (-Q default)."

    def test_names_what_a_database_forgets(self):
        # The tests' own server runs so, to be fast.
        assert codes(machinery._database()) == ["database_forgets"] * 2

    def test_names_a_broker_that_drops_tasks(self):
        assert codes(machinery._broker()) == []
        with broker() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            try:
                assert codes(machinery._broker()) == ["broker_evicts"]
            finally:
                client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.django_db
class TestPeople:
    @pytest.fixture
    def merchant(self):
        merchant = Merchant.objects.create(
            name="Bakery", slug="bakery", currency="EUR", country="LU", support_email="help@bakery.test"
        )
        Program.objects.create(
            merchant=merchant,
            name="Points",
            terms_url="https://bakery.test/terms",
            privacy_url="https://bakery.test/privacy",
        )
        return merchant

    @pytest.fixture
    def admin(self):
        return User.objects.create_superuser("staff", password="a-long-password-of-staff")

    def test_are_there(self, admin, merchant):
        assert codes(people.people_findings()) == []

    def test_an_empty_installation_lacks_both(self):
        assert codes(people.people_findings()) == ["admin_missing", "merchant_missing"]

    @pytest.mark.parametrize("changes", [{"is_active": False}, {"is_superuser": False}, {"password": "!unusable"}])
    def test_an_admin_who_cannot_sign_in_is_none(self, merchant, admin, changes):
        User.objects.update(**changes)

        assert codes(people.people_findings()) == ["admin_missing"]

    @pytest.mark.parametrize(
        ("of_program", "of_merchant", "missing"),
        [
            (("terms_url", "privacy_url"), ("support_email",), "no terms, no privacy URL and no support address"),
            (("privacy_url",), ("support_email",), "no privacy URL and no support address"),
            (("terms_url",), (), "no terms"),
        ],
    )
    def test_a_merchant_needs_terms_and_a_privacy_page_and_support(
        self, admin, merchant, of_program, of_merchant, missing
    ):
        for model, fields in ((Program, of_program), (Merchant, of_merchant)):
            for field in fields:
                model.objects.update(**{field: ""})

        [finding] = people.people_findings()
        assert (finding.code, finding.text) == (
            "merchant_incomplete",
            f"Merchant bakery has {missing} yet. In the admin, terms and privacy URL are set in the program, the "
            "support address in the merchant.",
        )

    def test_terms_as_text_do(self, admin, merchant):
        Program.objects.update(terms_url="", terms_text="Points are worth nothing elsewhere.")

        assert codes(people.people_findings()) == []

    def test_the_data_of_the_demo_is_named(self, admin, merchant):
        Merchant.objects.create(name="CDNOW", slug="cdnow", currency="USD", country="US")

        assert codes(people.people_findings()) == ["demo_data_present"]


@pytest.mark.django_db
class TestWallets:
    def credential(self, **changes):
        fields = {
            "kind": Credential.Kind.APPLE,
            "identifier": "pass.test.bakery",
            "version": 1,
            "status": Credential.Status.ACTIVE,
            "valid_from": NOW,
            "valid_until": NOW + timedelta(days=46),
            "sealed_secret": "sealed",
            "imported_at": NOW,
        }
        return Credential.objects.create(**{**fields, **changes})

    def test_are_off_by_mistake_unless_somebody_says_otherwise(self, configured):
        assert codes(wallets.wallet_findings(NOW, ())) == ["apple_off", "google_off"]
        assert codes(wallets.wallet_findings(NOW, ("google",))) == ["apple_off"]
        assert codes(wallets.wallet_findings(NOW, ("apple", "google"))) == []

    def test_a_credential_with_time_left_is_enough(self, configured):
        self.credential()

        assert codes(wallets.wallet_findings(NOW, ("google",))) == []

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"valid_until": NOW + timedelta(days=44)}, "apple_ends_soon"),
            ({"check_error": "Apple answered 403."}, "apple_fails"),
            ({"status": "staged"}, "apple_off"),
        ],
    )
    def test_a_credential_that_will_not_do_is_named(self, configured, changes, code):
        self.credential(**changes)

        assert codes(wallets.wallet_findings(NOW, ("google",))) == [code]

    @pytest.mark.parametrize("keys", [[], ["1:for-development-only"], ["1:short"]])
    def test_a_weak_token_key_is_named(self, configured, keys):
        self.credential()
        configured.WALLET_TOKEN_KEYS = keys

        assert codes(wallets.wallet_findings(NOW, ("google",))) == ["wallet_token_keys_weak"]

    @pytest.mark.parametrize("keys", [[STRONG], [f"one:{STRONG}"], [f"2:{STRONG}", STRONG]])
    def test_a_token_key_without_its_number_is_named(self, configured, keys):
        self.credential()
        configured.WALLET_TOKEN_KEYS = keys

        [finding] = wallets.wallet_findings(NOW, ("google",))
        assert finding.code == "wallet_token_keys_unusable"
        assert "number:secret" in finding.text

    @pytest.mark.parametrize("keys", [[], ["no-key"]])
    def test_a_platform_that_is_to_be_on_needs_a_key_that_seals(self, configured, keys):
        configured.WALLET_ENCRYPTION_KEYS = keys

        assert codes(wallets.wallet_findings(NOW, ("apple",))) == ["google_off", "wallet_encryption_keys_unusable"]
        assert codes(wallets.wallet_findings(NOW, ("apple", "google"))) == []

    def test_a_credential_in_a_file_needs_no_key_that_seals(self, configured):
        self.credential(sealed_secret="", secret_file="/etc/loyalty/secrets/apple.pem")
        configured.WALLET_ENCRYPTION_KEYS = []

        assert codes(wallets.wallet_findings(NOW, ("google",))) == []


class TestBackups:
    def manifest(self, folder, made_at, **changes):
        (folder / "loyalty.dump").touch()
        words = {
            **{"made_at": made_at, "server_version": 170000, "dump_bytes": 0, "dump_sha256": ""},
            **{"migrations": [], "tables": {}, **changes},
        }
        file = folder / "loyalty.dump.manifest.json"
        file.write_text(json.dumps(words))
        return file

    def test_are_asked_for(self):
        assert codes(recovery.recovery_findings(NOW, None)) == ["backups_unseen"]

    @pytest.mark.parametrize(("hours", "found"), [(25, []), (27, ["backups_missing"])])
    def test_are_to_be_of_last_night_whenever_they_were_copied(self, tmp_path, hours, found):
        manifest = self.manifest(tmp_path, (NOW - timedelta(hours=hours)).isoformat())
        for copied_at in (NOW, NOW - timedelta(days=9)):
            os.utime(manifest, (copied_at.timestamp(), copied_at.timestamp()))

            assert codes(recovery.recovery_findings(NOW, tmp_path)) == found

    def test_an_empty_folder_has_none(self, tmp_path):
        [empty] = recovery.recovery_findings(NOW, tmp_path)

        assert empty.text.startswith(f"{tmp_path} has had no backup at all.")

    def test_a_folder_that_cannot_be_read_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        [missing] = recovery.recovery_findings(NOW, tmp_path / "missing")
        [no_folder] = recovery.recovery_findings(NOW, tmp_path / "file")

        begin = f"The folder of backups, {tmp_path}"
        assert missing.text == f"{begin}/missing, cannot be read: No such file or directory."
        assert no_folder.text == f"{begin}/file, cannot be read: Not a directory."

    def test_a_manifest_without_its_dump_is_none(self, tmp_path):
        self.manifest(tmp_path, NOW.isoformat())
        (tmp_path / "loyalty.dump").unlink()

        assert codes(recovery.recovery_findings(NOW, tmp_path)) == ["backups_missing"]

    @pytest.mark.parametrize("made_at", ["", "yesterday", 7, None, "2026-03-10T12:00:00"])
    def test_a_manifest_that_does_not_say_when_is_named(self, tmp_path, made_at):
        manifest = self.manifest(tmp_path, made_at)

        [unreadable, _] = recovery.recovery_findings(NOW, tmp_path)
        assert unreadable.code == "backup_unreadable"
        assert unreadable.text.startswith(f"{manifest} does not say when its backup was made. ")

    def test_a_manifest_that_is_something_else_is_named(self, tmp_path):
        manifest = self.manifest(tmp_path, NOW.isoformat(), colour="red")

        [unreadable, missing] = recovery.recovery_findings(NOW, tmp_path)
        assert unreadable.text.startswith(f"{manifest} cannot be read, or is no manifest of a backup. ")
        assert missing.code == "backups_missing"

    @pytest.mark.django_db
    def test_are_a_finding_of_check_health_too_when_it_knows_where(self, tmp_path):
        output = StringIO()
        with pytest.raises(SystemExit):
            call_command("check_health", "--backups", str(tmp_path), stdout=output)

        assert output.getvalue().splitlines()[-1].startswith(f"backups_missing: {tmp_path} has had no backup at all.")


@pytest.mark.django_db
class TestTheCommand:
    def run(self, *arguments):
        output = StringIO()
        try:
            call_command("launch_check", *arguments, stdout=output)
        except SystemExit as ended:
            return int(str(ended.code)), output.getvalue()
        return 0, output.getvalue()

    def test_prints_a_line_for_each_finding_and_exits_1(self, configured):
        code, output = self.run("--without", "apple", "--without", "google", "--without", "backups")

        assert code == 1
        assert [line.split(": ")[0] for line in output.splitlines()] == [
            "heartbeat_missing",
            *["queue_unattended"] * 3,
            *["database_forgets"] * 2,
            "admin_missing",
            "merchant_missing",
        ]

    def test_tells_machines_the_same(self, configured):
        answer = json.loads(self.run("--json")[1])

        assert answer["ready"] is False
        assert {"apple_off", "google_off", "backups_unseen"} <= {finding["code"] for finding in answer["findings"]}

    def test_says_when_nothing_is_missing(self, monkeypatch):
        monkeypatch.setattr("loyalty_site.management.commands.launch_check.launch_findings", lambda **_: iter(()))

        assert self.run() == (0, "Ready.\n")
        assert json.loads(self.run("--json")[1]) == {"ready": True, "findings": []}


@pytest.mark.django_db
def test_a_database_that_is_not_migrated_hides_the_rest(configured):
    MigrationRecorder.Migration.objects.filter(app="notifications").delete()

    found = codes(launch_findings(at=NOW, without=("backups",), backups=None))
    assert found == ["migrations_missing"]
