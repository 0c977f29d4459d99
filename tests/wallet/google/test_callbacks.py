import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import NOON
from tests.fakes.google_callbacks import PROTOCOL, SENDER, CallbackSigner, sign, spki
from tests.fakes.pki import ISSUER_ID
from wallet.google import callbacks
from wallet.google.callbacks import Callback, CallbackRefused, Event, KeysUnavailable, fetch_keys, verify

OBJECT, CLASS = f"{ISSUER_ID}.object-1", f"{ISSUER_ID}.program-7"
MINUTE = timedelta(minutes=1)
SIGNER = CallbackSigner(ISSUER_ID)


def signed(event: str = "save", **options: Any) -> bytes:
    return SIGNER.callback(event, OBJECT, **{"class_id": CLASS, "at": NOON, **options})


def heard(body: bytes, *, keys: Any = None, issuer_id: str = ISSUER_ID, at: Any = NOON) -> Callback:
    return verify(body, keys=SIGNER.keys() if keys is None else keys, issuer_id=issuer_id, at=at)


def changed(body: bytes, **fields: Any) -> bytes:
    """The body with other fields than those that were signed; None leaves one out."""
    told = {**json.loads(body), **fields}
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


@pytest.mark.parametrize(("said", "event"), [("save", Event.SAVE), ("del", Event.DEL)])
def test_a_signed_callback_is_heard(said, event):
    callback = heard(signed(said, nonce="n-1"))

    assert callback == Callback(CLASS, OBJECT, event, "n-1", NOON + timedelta(hours=1))


def test_lengths_count_bytes_and_not_characters():
    assert heard(signed(classId=f"{ISSUER_ID}.café-日本")).class_id.endswith("café-日本")


def test_moments_may_be_written_as_strings():
    moment = str(int((NOON + MINUTE).timestamp() * 1000))

    assert heard(signed(expTimeMillis=moment)).expires_at == NOON + MINUTE


@pytest.mark.parametrize(
    ("options", "at", "problem"),
    [
        ({"lasts": MINUTE}, NOON + MINUTE, "The message has expired."),
        ({"key_lasts": MINUTE}, NOON + MINUTE, "The intermediate key has expired."),
        ({"recipient": "3388000000099999999"}, NOON, "was not signed for this issuer"),
        ({"nonce": None}, NOON, "There is no nonce."),
        ({"nonce": "n" * 201}, NOON, "The nonce is too long."),
        ({"nonce": 7}, NOON, "There is no nonce."),
        ({"objectId": None}, NOON, "There is no objectId."),
        ({"expTimeMillis": None}, NOON, "There is no expTimeMillis."),
        ({"expTimeMillis": "soon"}, NOON, "There is no expTimeMillis."),
        ({"expTimeMillis": 10**30}, NOON, "There is no expTimeMillis."),
        ({"eventType": "look"}, NOON, "neither save nor del"),
    ],
)
def test_what_google_signed_may_still_be_no_good(options, at, problem):
    with pytest.raises(CallbackRefused, match=problem):
        heard(signed(**options), at=at)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"{}",
        changed(signed(), signedMessage='{"eventType": "save"}'),
        changed(signed(), signedMessage="\ud800"),
        changed(signed(), signedMessage=None),
        changed(signed(), signedMessage=["save"]),
        changed(signed(), signature="AAAA"),
        changed(signed(), signature="no base64!"),
        changed(signed(), signature=7),
        changed(signed(), signature=None),
        changed(signed(), protocolVersion="ECv1"),
        changed(signed(), intermediateSigningKey=None),
        changed(signed(), intermediateSigningKey="key"),
        changed(signed(), intermediateSigningKey={"signedKey": "{}", "signatures": []}),
        changed(signed(), intermediateSigningKey={"signedKey": "{}", "signatures": ["AAAA", 7, None]}),
        changed(signed(), intermediateSigningKey={"signedKey": "{}", "signatures": "AAAA"}),
    ],
)
def test_what_was_tampered_with_is_refused(body):
    with pytest.raises(CallbackRefused):
        heard(body)


def test_an_intermediate_key_of_somebody_else_is_refused():
    stranger = CallbackSigner(ISSUER_ID)
    forged = stranger.callback("save", OBJECT, class_id=CLASS, at=NOON)

    with pytest.raises(CallbackRefused, match="not signed by a key of Google's"):
        heard(forged)


def test_a_message_signed_by_another_key_than_the_intermediate_one_is_refused():
    body = json.loads(signed())
    forged = sign(SIGNER.root, SENDER, ISSUER_ID, PROTOCOL, body["signedMessage"])

    with pytest.raises(CallbackRefused, match="by the intermediate key"):
        heard(changed(signed(), signature=forged))


@pytest.mark.parametrize("key_value", ["AAAA", "no base64!", ""])
def test_a_signed_intermediate_key_that_is_no_key_is_refused(key_value):
    key = json.dumps({"keyValue": key_value, "keyExpiration": "4102444800000"})
    told = {"signedKey": key, "signatures": [sign(SIGNER.root, SENDER, PROTOCOL, key)]}

    with pytest.raises(CallbackRefused):
        heard(changed(signed(), intermediateSigningKey=told))


def test_one_good_signature_of_the_intermediate_key_is_enough():
    told = json.loads(signed())["intermediateSigningKey"]
    told["signatures"].insert(0, sign(CallbackSigner(ISSUER_ID).root, SENDER, PROTOCOL, told["signedKey"]))

    assert heard(changed(signed(), intermediateSigningKey=told)).event is Event.SAVE


def test_a_root_key_counts_until_it_expires():
    keys = SIGNER.keys(expires_at=NOON + MINUTE)

    assert heard(signed(), keys=keys).event is Event.SAVE
    with pytest.raises(CallbackRefused, match="in force"):
        heard(signed(), keys=keys, at=NOON + MINUTE)


def test_a_root_key_of_another_protocol_does_not_count():
    keys = {"keys": [{"keyValue": spki(SIGNER.root), "protocolVersion": "ECv2"}]}

    with pytest.raises(CallbackRefused, match="in force"):
        heard(signed(), keys=keys)


def test_a_callback_of_the_fake_is_heard_with_the_keys_it_serves(fake):
    fake.objects[OBJECT] = {"classId": CLASS}

    callback = verify(
        fake.callback("save", OBJECT, at=NOON), keys=fetch_keys(fake.keys_url), issuer_id=ISSUER_ID, at=NOON
    )

    assert (callback.object_id, callback.class_id) == (OBJECT, CLASS)


def test_keys_are_fetched_once_by_many_at_the_same_time(fake):
    everybody = threading.Barrier(8)

    def fetch(_: int) -> Any:
        everybody.wait()
        return fetch_keys(fake.keys_url)

    with ThreadPoolExecutor(8) as pool:
        fetched = list(pool.map(fetch, range(8)))

    assert all(keys == fetched[0] for keys in fetched)
    assert len(fake.keys_calls) == 1


def test_keys_are_kept_for_as_long_as_google_says(fake):
    fake.keys_seconds = 0

    fetch_keys(fake.keys_url)
    fetch_keys(fake.keys_url)

    assert len(fake.keys_calls) == 2


def test_old_keys_do_while_no_new_ones_are_to_be_had(fake, monkeypatch):
    fake.keys_seconds = 0
    keys = fetch_keys(fake.keys_url)
    fake.when(503, on="keys")

    assert fetch_keys(fake.keys_url) == keys
    assert fetch_keys(fake.keys_url) == keys
    assert len(fake.keys_calls) == 2  # the third look waits a minute


def test_without_any_keys_nothing_can_be_said(fake, monkeypatch):
    fake.when(503, on="keys", times=1)

    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            fetch_keys(fake.keys_url)
    assert len(fake.keys_calls) == 1

    monkeypatch.setattr(callbacks, "TRIED_AGAIN_AFTER_SECONDS", 0)
    callbacks._kept.clear()
    assert fetch_keys(fake.keys_url)["keys"]
