import json
from io import StringIO
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from django.core.management import CommandError, call_command

from tests.factories import NOON
from tests.fakes.apns import answer
from tests.fakes.pki import DAY, ISSUER_ID, PASS_TYPE, shared_pki
from tests.wallet.credentials import make_apple_credential, shared_account, shared_identity
from wallet.models import Credential

pytestmark = pytest.mark.usefixtures("db", "wallet_settings")


def run(*arguments: object) -> str:
    output = StringIO()
    call_command("wallet_credentials", *map(str, arguments), stdout=output, stderr=output)
    return output.getvalue()


def refused(*arguments: object) -> str:
    """What the command says no with; nothing was kept."""
    kept = Credential.objects.count()
    with pytest.raises(CommandError) as error:
        run(*arguments)
    assert (error.value.returncode, Credential.objects.count()) == (2, kept)
    return str(error.value)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with what Apple, Google and Keychain give out."""
    identity = shared_identity()
    protected = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    content = {
        "wwdr.cer": shared_pki().intermediate.certificate.public_bytes(Encoding.DER),
        "pass.p12": identity.p12(b"secret"),
        "pass.pem": identity.certificate_pem,
        "key.pem": identity.key_pem,
        "protected.pem": protected,
        "google.json": shared_account(),
        "password": b"secret\n",
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def test_from_files_to_passes_that_can_be_made(files, apns, google, apple_credential, google_credential):
    Credential.objects.exclude(kind="wwdr").delete()
    Credential.objects.all().delete()

    wwdr = run("import", "wwdr", files / "wwdr.cer")
    apple = run("import", "apple", files / "pass.p12", "--password-file", files / "password")
    json_key = run("import", "google", files / "google.json")

    assert wwdr == (
        f"Imported as number {number('wwdr')}: Apple's intermediate certificate "
        f"{Credential.objects.get(kind='wwdr').identifier}, version 1.\n"
    )
    assert apple.endswith(f"Use it with: manage.py wallet_credentials activate {number('apple')}\n")
    assert run("activate", number("apple")) == f"In use: Pass Type ID certificate {PASS_TYPE}, version 1.\n"
    assert run("activate", number("google")) == f"In use: Google service account key {ISSUER_ID}, version 1.\n"
    assert f"activate {number('google')}" in json_key
    assert set(Credential.objects.values_list("status", flat=True)) == {"active"}


def number(kind: str) -> int:
    return Credential.objects.get(kind=kind).pk


class TestImporting:
    @pytest.fixture(autouse=True)
    def issuer(self, intermediate):
        return intermediate

    @pytest.mark.parametrize(
        "arguments",
        [
            ["pass.p12", "--password-file", "password"],
            ["pass.pem", "--key", "key.pem"],
            ["pass.pem", "--key", "protected.pem", "--password-file", "password"],
            ["pass.pem", "--secret-file", "key.pem"],
        ],
    )
    def test_takes_certificate_and_key_in_each_form(self, files, arguments):
        found = [argument if argument.startswith("--") else files / argument for argument in arguments]

        run("import", "apple", *found)

        credential = Credential.objects.get(kind="apple")
        assert credential.status == "staged"
        assert credential.secret_file == (str(files / "key.pem") if "--secret-file" in arguments else "")
        assert credential.imported_by.endswith("(command line)")

    def test_asks_a_person_for_the_password(self, files, monkeypatch):
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("wallet.management.commands.wallet_credentials.getpass", lambda prompt: "secret")

        assert "Imported as number" in run("import", "apple", files / "pass.p12")

    def test_says_how_to_give_it_where_nobody_can_be_asked(self, files, monkeypatch):
        monkeypatch.setattr("sys.stdin.isatty", lambda: False)

        assert "give it with --password-file" in refused("import", "apple", files / "pass.p12")

    def test_warns_of_one_that_ends_within_45_days(self, files, pki):
        soon = pki.pass_identity(valid=(-DAY, 40 * DAY))
        (files / "pass.p12").write_bytes(soon.p12(b"secret"))

        output = run("import", "apple", files / "pass.p12", "--password-file", files / "password")

        assert "It has only 39 days left; see to the next one soon." in output

    def test_leaves_the_json_of_google_where_it_is(self, files):
        run("import", "google", "--secret-file", files / "google.json")

        assert Credential.objects.get(kind="google").secret_file == str(files / "google.json")

    def test_says_in_one_line_why_not(self, files):
        wrong = files / "wrong"
        wrong.write_bytes(b"wrong")

        said = refused("import", "apple", files / "pass.p12", "--password-file", wrong)

        assert said.startswith("The password does not open this .p12 file.")
        assert "\n" not in said

    @pytest.mark.parametrize("password", [b"\xff\xfe", b"sec\0ret\n"])
    def test_says_in_one_line_that_a_password_is_no_text(self, files, password):
        (files / "password").write_bytes(password)

        said = refused("import", "apple", files / "pass.p12", "--password-file", files / "password")

        assert said == "The password is no text in UTF-8. Save its file anew as plain text in UTF-8."

    @pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
    def test_tells_a_certificate_from_a_p12_file(self, files, encoding):
        (files / "pass.cer").write_bytes(shared_identity().certificate.public_bytes(encoding))

        said = refused("import", "apple", files / "pass.cer")

        assert said == "This is no .p12 file; name its key with --key or --secret-file."

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["apple"], "Name the file of the certificate."),
            (["wwdr"], "Name the file of the certificate."),
            (["google"], "Name the JSON file"),
            (["google", "google.json", "--secret-file", "google.json"], "Name the JSON file"),
            (["google", "google.json", "--key", "key.pem"], "Leave out --key"),
            (["google", "google.json", "--password-file", "password"], "Leave out --key and --password-file."),
            (["wwdr", "wwdr.cer", "--key", "key.pem"], "An intermediate has no key here."),
            (["apple", "pass.pem", "--key", "key.pem", "--secret-file", "key.pem"], "either with --key"),
            (["apple", "nothing.p12", "--password-file", "password"], "cannot be read: No such file or directory."),
        ],
    )
    def test_needs_to_know_what_to_read(self, files, arguments, says):
        found = [files / argument if "." in argument or argument == "password" else argument for argument in arguments]

        assert says in refused("import", *found)


class TestSwitching:
    @pytest.fixture
    def staged(self, apple_credential, intermediate) -> Credential:
        return make_apple_credential(shared_identity(2), issuer=intermediate, status="staged")

    def test_activates_and_goes_back(self, apns, staged):
        run("activate", staged.pk)

        assert run("rollback", "apple") == f"In use: Pass Type ID certificate {PASS_TYPE}, version 1.\n"
        assert "version 2" in run("rollback", "apple", "--identifier", PASS_TYPE)

    def test_says_why_not(self, apns, staged):
        apns.when(answer(403, "BadCertificate"))

        assert refused("activate", staged.pk) == f"{staged} was not activated. Apple answered 403 BadCertificate."
        assert f"There is no previous version of {PASS_TYPE} to go" in refused("rollback", "apple")

    def test_asks_which_when_the_settings_name_none(self, staged, settings):
        settings.APPLE_PASS_TYPE_ID = ""

        said = refused("rollback", "apple")
        assert said == "The settings name no pass type and no issuer for it. Say which one with --identifier."

    def test_revokes(self, staged):
        assert run("revoke", staged.pk) == f"Never used again: {staged}.\n"

    def test_revokes_an_intermediate_until_it_is_imported_again(self, files, intermediate):
        assert run("revoke", intermediate.pk) == f"No longer in use: {intermediate}.\n"

        said = run("import", "wwdr", files / "wwdr.cer")

        intermediate.refresh_from_db()
        assert said == f"Back in use: number {intermediate.pk}, {intermediate}.\n"


class TestLooking:
    def test_lists_every_version(self, apple_credential, intermediate):
        make_apple_credential(shared_identity(2), issuer=intermediate, status="staged")

        first, second, third = run("list").splitlines()

        assert first.startswith(f"{apple_credential.pk:>4}  {apple_credential}  active  ")
        assert first.endswith(" days left")
        assert "  staged  " in second
        assert third.split("  ")[-2] == "active"

    def test_says_when_one_that_is_over_expired(self, apple_credential, intermediate):
        Credential.objects.filter(pk=apple_credential.pk).update(valid_until=NOON)

        assert run("list").splitlines()[0].endswith("  active  expired on 2026-03-02")

    def test_lists_for_programs_without_a_secret(self, apple_credential, google_credential):
        rows = json.loads(run("list", "--json"))

        assert [row["kind"] for row in rows] == ["apple", "google", "wwdr"]
        assert rows[0]["fingerprint"] == apple_credential.fingerprint
        assert rows[1]["days_left"] is None
        assert not {key for row in rows for key in row if "seal" in key or key in ("secret", "certificate")}

    def test_checks_what_is_in_use(self, apns, google):
        apple, json_key, wwdr = run("check").splitlines()

        assert (apple[-5:], json_key[-5:], wwdr[-5:]) == ("works", "works", "works")
        assert "does not expire" in json_key

    def test_ends_with_1_when_one_fails(self, apns, google, capsys):
        google.distrust(shared_account())

        with pytest.raises(SystemExit) as end:
            call_command("wallet_credentials", "check", "--json")

        assert end.value.code == 1
        apple, json_key, _ = json.loads(capsys.readouterr().out)
        assert (apple["check_error"], json_key["check_error"][:27]) == ("", "Google gave no access token")


def test_reseal_says_how_many(apple_credential, settings):
    settings.WALLET_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.WALLET_ENCRYPTION_KEYS]

    assert run("reseal") == "Secrets sealed with the newest key: 1\n"
