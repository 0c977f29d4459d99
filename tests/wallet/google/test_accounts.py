import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from tests.fakes.pki import ACCOUNT, key_pem
from tests.wallet.credentials import shared_account
from wallet.errors import CredentialRefused
from wallet.google.accounts import ServiceAccount

CONTENT = json.loads(shared_account())
KEY = load_pem_private_key(CONTENT["private_key"].encode(), None)


def content(**changes: object) -> bytes:
    fields = {**CONTENT, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def test_an_account_is_what_its_file_says():
    account = ServiceAccount(shared_account(), email=ACCOUNT)

    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert (account.email, account.key_id) == (ACCOUNT, CONTENT["private_key_id"])
    assert account.fingerprint == hashlib.sha256(public).hexdigest()


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (b"", "This is no JSON file."),
        (b"\xff\xfe", "This is no JSON file."),
        (b"[" * 100_000, "This is no JSON file."),
        (b"[]", "This is JSON, but no key of a service account."),
        (b"-----BEGIN CERTIFICATE-----", "This is no JSON file."),
        (content(type="authorized_user"), 'The file is of type "authorized_user" and not "service_account".'),
        (b'{"web": {}}', 'The file is of type "unknown"'),
        (content(client_email=None), "The file has no client_email."),
        (content(private_key=None), "The file has no private_key."),
        (content(private_key_id=7), "The file has no private_key_id."),
        (content(private_key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "cannot be read"),
        (content(private_key=CONTENT["private_key"][:-200]), "cannot be read"),
    ],
)
def test_a_file_that_is_no_key_is_refused_with_the_reason(file, problem):
    with pytest.raises(CredentialRefused) as refusal:
        ServiceAccount(file)

    assert problem in refusal.value.sentence
    assert "Create" in refusal.value.sentence or "create" in refusal.value.sentence  # what to do


def test_a_key_of_another_account_is_refused():
    with pytest.raises(CredentialRefused, match=r"belongs to loyalty@example-project.* names other@example\.com"):
        ServiceAccount(shared_account(), email="other@example.com")


def test_a_key_with_a_password_is_refused():
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))

    with pytest.raises(CredentialRefused, match="cannot be read"):
        ServiceAccount(content(private_key=locked.decode()))


def test_a_key_that_is_too_short_or_of_another_kind_is_refused():
    elliptic = ec.generate_private_key(ec.SECP256R1())
    other = elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    short = key_pem(rsa.generate_private_key(65537, 1024))  # noqa: S505

    for pem in (short, other):
        with pytest.raises(CredentialRefused, match="no RSA key of 2048 bits or more"):
            ServiceAccount(content(private_key=pem.decode()))


def test_no_refusal_shows_the_key():
    broken = CONTENT["private_key"][:-200]

    with pytest.raises(CredentialRefused) as refusal:
        ServiceAccount(content(private_key=broken))

    assert broken[40:60] not in f"{refusal.value} {refusal.value.details}"
    assert refusal.value.__cause__ is None
