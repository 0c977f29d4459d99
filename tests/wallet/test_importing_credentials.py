"""What may come in as a credential, and what is refused without a trace."""

import json
import subprocess
from datetime import timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.factories import NOON
from tests.fakes.pki import ACCOUNT, DAY, ISSUER_ID, PASS_TYPE, Identity, make_pki, shared_pki
from tests.wallet.credentials import shared_account, shared_identity
from wallet.errors import CredentialRefused, SecretUnreadable
from wallet.models import Credential
from wallet.sealing import seal
from wallet.services import opening
from wallet.services.credentials import import_apple, import_google, import_wwdr, importing, revoke

pytestmark = pytest.mark.usefixtures("db", "wallet_settings")
ACTOR = "Ana (command line)"


def bring_in(identity: Identity, *, password: bytes = b"secret", opened_with: bytes = b"secret") -> Credential:
    return import_apple(p12=identity.p12(password), password=opened_with, actor=ACTOR, at=NOON)


def kept() -> list[tuple[str, int, str]]:
    rows = Credential.objects.exclude(kind=Credential.Kind.WWDR).order_by("kind", "version")
    return list(rows.values_list("kind", "version", "status"))


def another_pki_with_the_same_names() -> Identity:
    return make_pki().pass_identity(at=NOON)


def another_key() -> Identity:
    return Identity(shared_identity(1).certificate, shared_identity(2).key)


@cache
def identity_of(**changes) -> Identity:
    return shared_pki().pass_identity(**{"at": NOON, **changes})


class TestAnAppleCertificate:
    @pytest.fixture(autouse=True)
    def issuer(self, intermediate):
        return intermediate

    def test_is_staged_with_its_facts_and_a_sealed_key(self, issuer):
        identity = shared_identity()

        credential = bring_in(identity)

        assert (credential.kind, credential.identifier, credential.version) == ("apple", PASS_TYPE, 1)
        assert (credential.status, credential.issuer) == ("staged", issuer)
        assert credential.valid_until == identity.certificate.not_valid_after_utc
        assert credential.fingerprint in subprocess_fingerprint(identity)
        assert (credential.imported_by, credential.imported_at, credential.activated_at) == (ACTOR, NOON, None)
        assert (credential.secret_file, b"PRIVATE" in credential.sealed_secret.encode()) == ("", False)
        assert opening.secret_of(credential) == identity.key_pem

    def test_may_be_pem_or_der_with_its_key_beside_it(self):
        identity = shared_identity()
        der = identity.certificate.public_bytes(Encoding.DER)

        assert import_apple(certificate=der, key=identity.key_pem, actor=ACTOR, at=NOON).subject.count(PASS_TYPE) == 2

    def test_of_keychain_is_accepted_though_it_is_encrypted_with_rc2(self, tmp_path):
        pem, p12 = tmp_path / "both.pem", tmp_path / "keychain.p12"
        pem.write_bytes(shared_identity().key_pem + shared_identity().certificate_pem)
        options = ["-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"]
        command = ["openssl", "pkcs12", "-export", *options, "-in", pem, "-out", p12, "-passout", "pass:secret"]
        subprocess.run(command, check=True, capture_output=True)

        import_apple(p12=p12.read_bytes(), password=b"secret", actor=ACTOR, at=NOON)

        assert kept() == [("apple", 1, "staged")]

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (another_key, "The key does not belong to this certificate"),
            (lambda: identity_of(uid="pass.example.other"), "UID is pass.example.other"),
            (lambda: identity_of(ou="OTHER12345"), "OU is OTHER12345"),
            (lambda: identity_of(valid=(-400 * DAY, -DAY)), "expired on 2026-03-01"),
            (lambda: identity_of(valid=(DAY, 365 * DAY)), "valid from 2026-03-03"),
            (another_pki_with_the_same_names, "None of the imported intermediates has issued"),
            (lambda: identity_of(bits=1024), "at least 2048"),
            (lambda: identity_of(valid=(-DAY, 29 * DAY)), "ends on 2026-03-31"),
        ],
        ids=["key", "UID", "OU", "expired", "not yet valid", "issuer", "1024 bits", "29 days left"],
    )
    def test_that_could_not_be_used_is_refused_with_the_reason(self, make, says):
        identity = make()

        with pytest.raises(CredentialRefused, match=says):
            import_apple(certificate=identity.certificate_pem, key=identity.key_pem, actor=ACTOR, at=NOON)

        assert kept() == []

    @pytest.mark.parametrize("password", [b"wrong", b""])
    def test_with_another_password_is_refused(self, password):
        with pytest.raises(CredentialRefused, match="The password does not open"):
            bring_in(shared_identity(), opened_with=password)

        assert kept() == []

    @pytest.mark.parametrize("days_left", [30, 44, 46])
    def test_with_thirty_days_left_is_accepted(self, days_left):
        credential = bring_in(identity_of(valid=(-DAY, days_left * DAY)))

        assert credential.days_left(NOON) == days_left

    def test_is_refused_when_all_is_wrong_with_all_reasons(self):
        with pytest.raises(CredentialRefused) as refusal:
            bring_in(identity_of(uid="pass.example.other", ou="OTHER12345"))

        assert "UID is pass.example.other" in refusal.value.sentence
        assert "OU is OTHER12345" in refusal.value.sentence

    @pytest.mark.parametrize("name", ["APPLE_PASS_TYPE_ID", "APPLE_TEAM_ID"])
    def test_is_refused_while_nothing_says_which_is_wanted(self, settings, name):
        setattr(settings, name, "")

        with pytest.raises(CredentialRefused, match=f"{name} is not set"):
            bring_in(shared_identity())

    def test_of_a_revoked_intermediate_is_refused(self, issuer):
        Credential.objects.filter(pk=issuer.pk).update(status="revoked")

        with pytest.raises(CredentialRefused, match="Import that one first"):
            bring_in(shared_identity())

    def test_whose_intermediate_is_revoked_meanwhile_is_refused(self, issuer, monkeypatch):
        def sealing_slowly(secret: bytes) -> str:
            revoke(credential_id=issuer.pk)
            return seal(secret)

        monkeypatch.setattr(importing, "seal", sealing_slowly)

        with pytest.raises(CredentialRefused, match="was revoked meanwhile"):
            bring_in(shared_identity())

        assert kept() == []

    def test_that_is_there_already_is_refused(self):
        first = bring_in(shared_identity())

        with pytest.raises(CredentialRefused, match=f"It is there already: {first}, staged"):
            bring_in(shared_identity())

    def test_gets_the_next_version(self):
        bring_in(shared_identity(1))
        bring_in(shared_identity(2))

        assert kept() == [("apple", 1, "staged"), ("apple", 2, "staged")]

    def test_is_refused_without_a_key_to_seal_with(self, settings):
        settings.WALLET_ENCRYPTION_KEYS = []

        with pytest.raises(SecretUnreadable, match="WALLET_ENCRYPTION_KEYS is not set"):
            bring_in(shared_identity())

        assert kept() == []


class TestAKeyThatStaysInAFile:
    @pytest.fixture(autouse=True)
    def issuer(self, intermediate, settings):
        settings.WALLET_ENCRYPTION_KEYS = []

    @pytest.fixture
    def file(self, tmp_path):
        file = tmp_path / "key.pem"
        file.write_bytes(shared_identity().key_pem)
        file.chmod(0o600)
        return file

    def bring_in(self, file) -> Credential:
        certificate = shared_identity().certificate_pem
        return import_apple(certificate=certificate, secret_file=str(file), actor=ACTOR, at=NOON)

    def test_is_not_copied(self, file):
        credential = self.bring_in(file)

        assert (credential.secret_file, credential.sealed_secret) == (str(file), "")
        assert opening.signer_of(credential).expires_at == credential.valid_until

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
    def test_is_refused_while_others_can_read_it(self, file, mode):
        file.chmod(mode)

        with pytest.raises(SecretUnreadable, match=f"has mode {mode:o}, so others can read it. Run chmod 600"):
            self.bring_in(file)

        assert kept() == []

    def test_is_refused_when_it_is_missing(self, file):
        with pytest.raises(SecretUnreadable, match=r"other\.pem is missing"):
            self.bring_in(file.with_name("other.pem"))

    def test_is_refused_without_its_full_path(self):
        with pytest.raises(CredentialRefused, match="Name the file by its full path"):
            self.bring_in("key.pem")

    def test_may_be_the_json_of_google(self, file):
        file.write_bytes(shared_account())

        credential = import_google(secret_file=str(file), actor=ACTOR, at=NOON)

        assert (credential.secret_file, credential.sealed_secret) == (str(file), "")


class TestAGoogleKey:
    def test_is_staged_with_its_facts_and_sealed_whole(self):
        credential = import_google(content=shared_account(), actor=ACTOR, at=NOON)

        assert (credential.kind, credential.identifier, credential.version) == ("google", ISSUER_ID, 1)
        assert (credential.status, credential.subject) == ("staged", ACCOUNT)
        assert credential.serial == json.loads(shared_account())["private_key_id"]
        assert (credential.valid_until, credential.days_left(NOON)) == (None, None)
        assert opening.secret_of(credential) == shared_account()

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "no JSON file"),
            (b"[" * 100_000, "no JSON file"),
            (b"[]", "This is JSON, but no key"),
            (json.dumps({"type": "authorized_user", "client_id": "x"}).encode(), 'of type "authorized_user"'),
            (json.dumps({"web": {}}).encode(), "of type"),
            (json.dumps({"type": "service_account"}).encode(), "has no client_email"),
        ],
    )
    def test_of_another_type_is_refused(self, content, says):
        with pytest.raises(CredentialRefused, match=says):
            import_google(content=content, actor=ACTOR, at=NOON)

        assert kept() == []

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "cannot be read"),
            ({"private_key": "garbage"}, "cannot be read"),
            ({"client_email": "other@example.iam.gserviceaccount.com"}, "belongs to other@example"),
        ],
    )
    def test_that_is_broken_or_of_another_account_is_refused(self, changes, says):
        content = json.dumps({**json.loads(shared_account()), **changes}).encode()

        with pytest.raises(CredentialRefused, match=says):
            import_google(content=content, actor=ACTOR, at=NOON)

        assert kept() == []

    @pytest.mark.parametrize("name", ["GOOGLE_ISSUER_ID", "GOOGLE_SERVICE_ACCOUNT"])
    def test_is_refused_while_nothing_says_whose_is_wanted(self, settings, name):
        setattr(settings, name, "")

        with pytest.raises(CredentialRefused, match=f"{name} is not set"):
            import_google(content=shared_account(), actor=ACTOR, at=NOON)

    def test_that_is_there_already_is_refused(self):
        import_google(content=shared_account(), actor=ACTOR, at=NOON)

        with pytest.raises(CredentialRefused, match="It is there already"):
            import_google(content=shared_account(), actor=ACTOR, at=NOON)


class TestAnIntermediate:
    def test_is_in_use_at_once_under_its_full_name(self, pki):
        der = pki.intermediate.certificate.public_bytes(Encoding.DER)

        credential = import_wwdr(certificate=der, actor=ACTOR, at=NOON)

        begins = credential.fingerprint[:8]
        assert credential.identifier == f"Example Worldwide Developer Relations G4 ({begins})"
        assert (credential.status, credential.sealed_secret) == ("active", "")

    def test_lets_in_what_it_has_issued(self, pki):
        with pytest.raises(CredentialRefused, match="Import that one first"):
            bring_in(shared_identity())
        import_wwdr(certificate=pki.intermediate.certificate_pem, actor=ACTOR, at=NOON)

        assert bring_in(shared_identity()).issuer == Credential.objects.get(kind=Credential.Kind.WWDR)

    def test_leaves_another_of_its_name_in_use(self, pki):
        first = import_wwdr(certificate=pki.intermediate.certificate_pem, actor=ACTOR, at=NOON)
        foreign = import_wwdr(certificate=make_pki().intermediate.certificate_pem, actor=ACTOR, at=NOON)

        first.refresh_from_db()
        assert [(row.version, row.status) for row in (first, foreign)] == [(1, "active"), (1, "active")]
        assert first.identifier != foreign.identifier
        assert bring_in(shared_identity()).issuer == first

    @pytest.mark.parametrize("status", ["revoked", "retired"])
    def test_that_went_out_of_use_is_back_when_it_is_imported_again(self, pki, status):
        first = import_wwdr(certificate=pki.intermediate.certificate_pem, actor=ACTOR, at=NOON)
        Credential.objects.update(status=status)

        again = import_wwdr(certificate=pki.intermediate.certificate_pem, actor="Ben", at=NOON + DAY)

        assert again == first == Credential.objects.get()
        assert (again.status, again.activated_by, again.activated_at) == ("active", "Ben", NOON + DAY)
        assert bring_in(shared_identity()).issuer == first

    def test_that_is_in_use_already_is_refused(self, pki):
        first = import_wwdr(certificate=pki.intermediate.certificate_pem, actor=ACTOR, at=NOON)

        with pytest.raises(CredentialRefused, match="It is there already") as refusal:
            import_wwdr(certificate=pki.intermediate.certificate_pem, actor=ACTOR, at=NOON)

        assert refusal.value.sentence == f"It is there already: {first}, active."

    def test_that_issues_nothing_is_refused(self):
        with pytest.raises(CredentialRefused, match="issues no others"):
            import_wwdr(certificate=shared_identity().certificate_pem, actor=ACTOR, at=NOON)

    def test_that_has_expired_is_refused(self, pki):
        with pytest.raises(CredentialRefused, match="expired"):
            import_wwdr(certificate=pki.intermediate.certificate_pem, actor=ACTOR, at=NOON + timedelta(days=20 * 365))

        assert not Credential.objects.exists()


def subprocess_fingerprint(identity: Identity) -> str:
    """What openssl says the certificate's fingerprint is."""
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    done = subprocess.run(command, input=identity.certificate_pem, check=True, capture_output=True)
    return done.stdout.decode().replace(":", "").lower()
