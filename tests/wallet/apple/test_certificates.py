import subprocess
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs12,
)

from tests.fakes.pki import DAY, PASS_TYPE, TEAM, Identity, make_pki, shared_pki
from wallet.apple import certificates
from wallet.errors import CredentialRefused

NOW = datetime.now(UTC)
# As an editor of Windows saves them, cut off, and with a byte too much.
BROKEN_PASSWORDS = [b"\xff\xfe", "\ufeffsecret".encode("utf-16-le"), "pässwörd".encode("latin-1"), b"secret\0", b"\0"]


@pytest.fixture(scope="module")
def identity() -> Identity:
    return shared_pki().pass_identity()


@pytest.fixture(scope="module")
def elliptic() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def problems(certificate, key, **changes):
    expected = {"pass_type": PASS_TYPE, "team": TEAM, "intermediates": [shared_pki().intermediate.certificate]}
    return certificates.problems(certificate, key, **{**expected, "at": NOW, **changes})


class TestAP12File:
    @pytest.mark.parametrize("password", [b"secret", "pässwörd".encode()])
    def test_gives_its_certificate_and_key(self, identity, password):
        certificate, key = certificates.read_p12(identity.p12(password), password)

        assert certificate == identity.certificate
        assert key.private_numbers() == identity.key.private_numbers()

    def test_of_keychain_is_read_though_openssl_3_refuses_it(self, identity, tmp_path):
        pem, p12 = tmp_path / "both.pem", tmp_path / "old.p12"
        pem.write_bytes(identity.key_pem + identity.certificate_pem)
        options = ["-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"]
        command = ["openssl", "pkcs12", "-export", *options, "-in", pem, "-out", p12, "-passout", "pass:secret"]
        subprocess.run(command, check=True, capture_output=True)
        modern = subprocess.run(
            ["openssl", "pkcs12", "-in", p12, "-nokeys", "-passin", "pass:secret"], check=False, capture_output=True
        )

        certificate, key = certificates.read_p12(p12.read_bytes(), b"secret")

        assert modern.returncode != 0
        assert b"RC2-40" in modern.stderr
        assert problems(certificate, key) == []

    @pytest.mark.parametrize("password", [b"wrong", b""])
    def test_with_another_password_says_so(self, identity, password):
        with pytest.raises(CredentialRefused, match=r"The password does not open this \.p12 file\."):
            certificates.read_p12(identity.p12(b"secret"), password)

    @pytest.mark.parametrize("password", BROKEN_PASSWORDS)
    def test_with_a_password_that_is_no_text_says_so_without_it(self, identity, password):
        with pytest.raises(CredentialRefused) as refusal:
            certificates.read_p12(identity.p12(b"secret"), password)

        assert refusal.value.sentence.startswith("The password is no text in UTF-8.")
        assert "secret" not in refusal.value.sentence

    @pytest.mark.parametrize("end", [0, 1, 100, -1])
    def test_that_is_none_or_was_cut_short_says_so(self, identity, end):
        with pytest.raises(CredentialRefused, match=r"The file is no \.p12 file\."):
            certificates.read_p12(identity.p12(b"secret")[:end], b"secret")

    def test_without_a_certificate_says_what_it_lacks(self, identity):
        data = pkcs12.serialize_key_and_certificates(b"", identity.key, None, None, BestAvailableEncryption(b"secret"))

        with pytest.raises(CredentialRefused, match="has no certificate that belongs to its key"):
            certificates.read_p12(data, b"secret")

    def test_without_a_key_says_what_it_lacks(self, identity):
        others = [shared_pki().intermediate.certificate]
        data = pkcs12.serialize_key_and_certificates(b"", None, None, others, BestAvailableEncryption(b"secret"))

        with pytest.raises(CredentialRefused, match="has no private key"):
            certificates.read_p12(data, b"secret")

    def test_with_a_key_of_another_kind_says_so(self, elliptic):
        data = pkcs12.serialize_key_and_certificates(
            b"", elliptic, certificate_of(elliptic), None, BestAvailableEncryption(b"secret")
        )

        with pytest.raises(CredentialRefused, match="The key is no RSA key"):
            certificates.read_p12(data, b"secret")


class TestPemFiles:
    @pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
    def test_give_certificate_and_key(self, identity, encoding):
        certificate, key = certificates.read_pem(identity.certificate.public_bytes(encoding), key=identity.key_pem)

        assert problems(certificate, key) == []

    @pytest.mark.parametrize("protected", [True, False])
    def test_may_have_a_key_with_a_password(self, identity, protected):
        key = protected_key(identity, b"secret") if protected else identity.key_pem

        assert certificates.read_pem(identity.certificate_pem, key=key, password=b"secret")[0] == identity.certificate

    @pytest.mark.parametrize(
        ("password", "says"), [(b"", "protected by a password"), (b"wrong", "does not open this key")]
    )
    def test_whose_password_is_not_the_one_say_so(self, identity, password, says):
        with pytest.raises(CredentialRefused, match=says):
            certificates.read_pem(identity.certificate_pem, key=protected_key(identity, b"secret"), password=password)

    @pytest.mark.parametrize("password", BROKEN_PASSWORDS)
    def test_whose_password_is_no_text_say_so(self, identity, password):
        with pytest.raises(CredentialRefused, match=r"The password is no text in UTF-8\."):
            certificates.read_pem(identity.certificate_pem, key=protected_key(identity, b"secret"), password=password)

    def test_whose_key_is_none_say_so(self, identity):
        with pytest.raises(CredentialRefused, match="The file holds no private key in PEM"):
            certificates.read_pem(identity.certificate_pem, key=b"garbage")

    @pytest.mark.parametrize("data", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\ngarbage", b"\x30\x82"])
    def test_whose_certificate_is_none_say_so(self, data):
        with pytest.raises(CredentialRefused, match="The file is no certificate"):
            certificates.read_certificate(data)


class TestACertificate:
    def test_of_the_pass_type_has_no_problem(self, identity):
        assert problems(identity.certificate, identity.key) == []

    def test_needs_its_own_key(self, identity):
        other = shared_pki().intermediate.key

        assert problems(identity.certificate, other) == [
            "The key does not belong to this certificate. Take the key that the certificate was requested with."
        ]

    def test_with_a_public_key_of_another_kind_belongs_to_no_rsa_key(self, identity, elliptic):
        assert not certificates.belong_together(certificate_of(elliptic), identity.key)

    def test_needs_a_key_of_2048_bits(self):
        weak = shared_pki().pass_identity(bits=1024)

        assert problems(weak.certificate, weak.key) == [
            "The key has 1024 bits. Request a certificate with an RSA key of at least 2048."
        ]

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            (
                {"pass_type": "pass.x"},
                f"The certificate's UID is {PASS_TYPE}, and APPLE_PASS_TYPE_ID is pass.x.",
            ),
            ({"pass_type": ""}, f"The certificate's UID is {PASS_TYPE}, and APPLE_PASS_TYPE_ID is not set."),
            ({"team": "OTHER"}, f"The certificate's OU is {TEAM}, and APPLE_TEAM_ID is OTHER."),
        ],
    )
    def test_is_for_this_pass_type_and_team(self, identity, changes, says):
        [problem] = problems(identity.certificate, identity.key, **changes)

        assert problem.startswith(says)

    def test_without_uid_and_ou_lacks_both(self):
        root = shared_pki().root

        assert [problem.partition(",")[0] for problem in problems(root.certificate, root.key)] == [
            "The certificate's UID is missing",
            "The certificate's OU is missing",
            "None of the imported intermediates has issued this certificate; CN=Example Root CA did. "
            "Import that one first.",
        ]

    @pytest.mark.parametrize(
        ("days", "says"),
        [
            (-2, "The certificate is valid from {begin:%Y-%m-%d %H:%M} UTC only. Wait, or put this"),
            (400, "The certificate expired on {end:%Y-%m-%d}. Get a new one from Apple's developer site."),
        ],
    )
    def test_is_valid_at_that_moment(self, identity, days, says):
        begin, end = identity.certificate.not_valid_before_utc, identity.certificate.not_valid_after_utc
        [problem] = problems(identity.certificate, identity.key, at=NOW + days * DAY)

        assert problem.startswith(says.format(begin=begin, end=end))

    def test_is_valid_from_its_first_moment_and_not_at_its_last(self, identity):
        begin, end = identity.certificate.not_valid_before_utc, identity.certificate.not_valid_after_utc

        assert problems(identity.certificate, identity.key, at=begin) == []
        assert problems(identity.certificate, identity.key, at=end) != []

    def test_of_a_foreign_issuer_names_it(self, identity):
        foreign = make_pki().intermediate.certificate  # of the same name, with another key

        [problem] = problems(identity.certificate, identity.key, intermediates=[foreign])

        assert problem == (
            "None of the imported intermediates has issued this certificate; "
            f"{identity.certificate.issuer.rfc4514_string()} did. Import that one first."
        )

    def test_ends_with_its_intermediate(self, identity):
        [problem] = problems(identity.certificate, identity.key, at=NOW + 5 * 365 * DAY)[:1]
        long = shared_pki().pass_identity(valid=(-DAY, 5000 * DAY))

        [only] = problems(long.certificate, long.key, at=NOW + 4000 * DAY)

        assert problem.startswith("The certificate expired")
        assert only.startswith("The intermediate Example Worldwide Developer Relations expired on")

    def test_has_all_its_problems_told_at_once(self):
        bad = shared_pki().pass_identity(uid="pass.other", ou="OTHER", valid=(-3 * DAY, -DAY), bits=1024)

        assert len(problems(bad.certificate, bad.key, intermediates=[])) == 5


class TestAnIntermediate:
    def test_issues_certificates_and_is_valid(self):
        assert certificates.intermediate_problems(shared_pki().intermediate.certificate, at=NOW) == []

    def test_is_no_certificate_of_a_pass_type(self, identity):
        [problem] = certificates.intermediate_problems(identity.certificate, at=NOW)

        assert problem == "The certificate issues no others: it is no intermediate of Apple's."

    def test_without_constraints_is_none(self, elliptic):
        assert certificates.intermediate_problems(certificate_of(elliptic), at=NOW) != []

    def test_like_the_first_of_apple_s_has_expired(self):
        [problem] = certificates.intermediate_problems(shared_pki().intermediate.certificate, at=NOW + 4000 * DAY)

        assert problem.startswith("The intermediate expired on")

    def test_is_found_among_others_and_the_longest_is_taken(self, identity):
        pki = shared_pki()
        longer = renewed(pki.intermediate, by=pki.root, until=pki.intermediate.certificate.not_valid_after_utc + DAY)
        foreign = make_pki().intermediate.certificate
        found = certificates.issuer_of(identity.certificate, [foreign, longer, pki.intermediate.certificate])

        assert found == longer
        assert certificates.issuer_of(identity.certificate, [foreign, identity.certificate]) is None


def protected_key(identity: Identity, password: bytes) -> bytes:
    return identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))


def certificate_of(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Example")])
    return _builder(name, name, key.public_key(), until=NOW + DAY).sign(key, hashes.SHA256())


def renewed(identity: Identity, *, by: Identity, until: datetime) -> x509.Certificate:
    builder = _builder(identity.certificate.subject, by.certificate.subject, identity.key.public_key(), until=until)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(by.key, hashes.SHA256())


def _builder(subject, issuer, public_key, *, until) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(until)
    )
