import json
from base64 import urlsafe_b64decode

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from google.auth import crypt, jwt

from tests.factories import NOON
from tests.fakes.pki import ACCOUNT, ISSUER_ID
from tests.wallet.credentials import shared_account
from wallet.google.accounts import ServiceAccount
from wallet.google.save_links import save_url

BASE = "https://pay.google.com/gp/v/save"
OBJECT, CLASS = f"{ISSUER_ID}.00000000-0000-4000-8000-000000000001", f"{ISSUER_ID}.program-7"


def url(account: ServiceAccount, **changes: str) -> str:
    ids = {"object_id": OBJECT, "class_id": CLASS, "origin": "https://loyalty.example", **changes}
    return save_url(base=BASE, account=account, at=NOON, **ids)


def token_of(address: str) -> str:
    return address.removeprefix(f"{BASE}/")


def test_a_link_names_the_object_and_nothing_of_what_it_shows(account):
    claims = json.loads(urlsafe_b64decode(token_of(url(account)).split(".")[1] + "=="))

    assert claims == {
        "iss": ACCOUNT,
        "aud": "google",
        "typ": "savetowallet",
        "iat": int(NOON.timestamp()),
        "origins": ["https://loyalty.example"],
        "payload": {"loyaltyObjects": [{"id": OBJECT, "classId": CLASS}]},
    }


def test_a_link_is_signed_by_the_account(account):
    key = load_pem_private_key(json.loads(shared_account())["private_key"].encode(), None).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    # `verify` would also want an end, which these tokens have none of.
    signed, _, signature = token_of(url(account)).rpartition(".")
    verifier = crypt.RSAVerifier.from_string(pem)
    assert verifier.verify(signed.encode(), urlsafe_b64decode(signature + "=="))
    assert jwt.decode_header(token_of(url(account))) == {"alg": "RS256", "typ": "JWT", "kid": account.key_id}


def test_the_longest_link_is_short_enough(account):
    longest = {"object_id": "9" * 120, "class_id": "9" * 120, "origin": f"https://{'o' * 245}.example"}

    assert len(url(account, **longest)) <= 1800
