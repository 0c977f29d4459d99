"""Credentials take over from each other, and are taken back, while customers and phones fetch passes."""

import itertools
import json
import subprocess
import threading
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.utils import timezone

from loyalty.models import Card
from tests.factories import make_card
from tests.fakes.pki import ISSUER_ID, PASS_TYPE, shared_pki
from tests.fakes.web_process import Answer, WebProcess, web
from tests.wallet.credentials import make_apple_credential, make_google_credential, shared_account, shared_identity
from tests.wallet.sync_process import wallet_environment
from wallet.models import Credential, Platform
from wallet.sealing import authentication_token
from wallet.services.credentials import activate, rollback
from wallet.services.issuing import issue
from wallet.services.links import wallet_links

SECONDS = 6
DOWNLOADS_A_SECOND = 20
ACTOR = "Ana (command line)"


class Asking:
    """Asks in turn, twenty times a second however long the answers take, until the block ends."""

    def __init__(self, server: WebProcess, requests: Sequence[tuple[str, dict[str, str]]]) -> None:
        self.server = server
        self.requests = requests
        self.answers: list[Future[Answer]] = []
        self.ended = threading.Event()
        self.pool = ThreadPoolExecutor(32)
        self.thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Asking":
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join()
        self.pool.shutdown()

    def _ask(self) -> None:
        began = time.monotonic()
        for number, (path, headers) in enumerate(itertools.cycle(self.requests)):
            if self.ended.wait(max(0, began + number / DOWNLOADS_A_SECOND - time.monotonic())):
                return
            self.answers.append(self.pool.submit(self.server.ask, "GET", path, None, headers))


@pytest.fixture
def server(transactional_db, apns, google, tmp_path) -> Iterator[WebProcess]:
    google.trust(shared_account(2))
    with web(tmp_path, workers=2, threads=4, LOG_LEVEL="ERROR", **wallet_environment()) as server:
        yield server


@pytest.fixture
def cards() -> list[Card]:
    return [make_card(points=100) for _ in range(5)]


def test_no_download_fails_while_certificates_are_replaced_and_taken_back(server, cards, intermediate, tmp_path):
    """By links that are older than every change, and by phones that have the pass; what comes is signed and valid."""
    requests = [request for card in cards for request in (by_link(card), by_phone(card))]
    second = make_apple_credential(shared_identity(2), issuer=intermediate, status="staged")
    warm_up(server, requests)

    with Asking(server, requests) as asking:
        switches = switch_for(SECONDS, second.pk, kind="apple", identifier=PASS_TYPE)

    answers = [answer.result() for answer in asking.answers]
    assert len(answers) >= SECONDS * DOWNLOADS_A_SECOND
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    signers = Counter(signed_by(answer.content, tmp_path) for answer in answers)
    assert set(signers) == {shared_identity(number).certificate.serial_number for number in (1, 2)}
    assert switches >= 4
    active = Credential.objects.get(kind="apple", status="active")
    newest = server.ask("GET", requests[0][0])
    assert f"{signed_by(newest.content, tmp_path):x}" == active.serial
    print(
        f"{len(answers)} downloads while certificates changed {switches} times, none failed: {list(signers.values())}"
    )


def test_old_links_lead_to_google_while_keys_are_replaced_and_taken_back(server, cards, google_credential):
    path = urlsplit(str(wallet_links(card=cards[0], at=timezone.now()).google)).path
    assert server.ask("GET", path).status == 302  # Google knows the pass from here on
    second = make_google_credential(shared_account(2), status="staged")

    with Asking(server, [(path, {})]) as asking:
        switches = switch_for(SECONDS / 2, second.pk, kind="google", identifier=ISSUER_ID)

    answers = [answer.result() for answer in asking.answers]
    assert Counter(answer.status for answer in answers) == {302: len(answers)}
    assert {key_of(answer) for answer in answers} == {google_credential.serial, second.serial}
    assert switches >= 2
    print(f"{len(answers)} links opened while keys changed {switches} times, none failed")


def by_link(card: Card) -> tuple[str, dict[str, str]]:
    """What a customer asks who opens a link that was made before."""
    return urlsplit(str(wallet_links(card=card, at=timezone.now()).apple)).path, {}


def by_phone(card: Card) -> tuple[str, dict[str, str]]:
    """What a phone asks that has the pass."""
    wallet_pass = issue(card=card, platform=Platform.APPLE, at=timezone.now())
    token = authentication_token(wallet_pass.identifier, key_version=wallet_pass.token_key_version)
    return f"/wallet/apple/v1/passes/{PASS_TYPE}/{wallet_pass.identifier}", {"Authorization": f"ApplePass {token}"}


def warm_up(server: WebProcess, requests: Sequence[tuple[str, dict[str, str]]]) -> None:
    """Let every process draw its pictures, so that answers come in the second in which they are asked for."""
    with ThreadPoolExecutor(8) as pool:
        for answer in [pool.submit(server.ask, "GET", path, None, headers) for path, headers in [*requests] * 3]:
            assert answer.result().status == 200


def switch_for(seconds: float, credential_id: int, *, kind: str, identifier: str) -> int:
    """Activate it, then go back and forth, as often as the time allows. Returns how often."""
    until = time.monotonic() + seconds
    activate(credential_id=credential_id, actor=ACTOR, at=timezone.now())
    switches = 1
    while time.monotonic() < until:
        rollback(kind=kind, identifier=identifier, actor=ACTOR, at=timezone.now())
        switches += 1
    return switches


def signed_by(package: bytes, folder: Path) -> int:
    """The serial number of the certificate that signed a pass, once openssl has found all in order."""
    with ZipFile(BytesIO(package)) as files:
        (folder / "manifest.json").write_bytes(files.read("manifest.json"))
        (folder / "signature").write_bytes(files.read("signature"))
    (folder / "root.pem").write_bytes(shared_pki().root.certificate_pem)
    command = ["openssl", "smime", "-verify", "-purpose", "any", "-binary", "-inform", "DER", "-in", "signature"]
    command += ["-content", "manifest.json", "-CAfile", "root.pem", "-signer", "signer.pem", "-out", "signed"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return x509.load_pem_x509_certificate((folder / "signer.pem").read_bytes()).serial_number


def key_of(answer: Answer) -> str:
    """The id of the key that signed a save link, once the signature is found to be that key's."""
    token = answer.headers["Location"].rpartition("/")[2]
    signed, _, signature = token.rpartition(".")
    key_id = str(json.loads(decoded(signed.partition(".")[0]))["kid"])
    [account] = [json.loads(shared_account(n)) for n in (1, 2) if key_id in shared_account(n).decode()]
    public = load_pem_private_key(account["private_key"].encode(), None).public_key()
    assert isinstance(public, RSAPublicKey)
    public.verify(decoded(signature), signed.encode(), padding.PKCS1v15(), SHA256())
    return key_id


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
