"""Apple, Google and an iPhone for the demo: `python -m tests.fakes.wallet_platforms FOLDER` runs until it is ended.

FOLDER gets
    wwdr.pem, pass.p12, password, google.json   credentials of the platforms, made once
    environment                                 how the product reaches them, in the form of an .env file
    phone/                                      a .pkpass put there is added to the phone, which keeps it up to date
    google-objects.json                         what Google shows
"""

import json
import secrets
import signal
import sys
import threading
from pathlib import Path

from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.fakes.apns import FakeApns, Push
from tests.fakes.google import FakeGoogle
from tests.fakes.phone import Phone
from tests.fakes.pki import ACCOUNT, ISSUER_ID, PASS_TYPE, TEAM, Identity, Pki, make_pki, service_account

LOOKS_EVERY_SECONDS = 0.2


class Credentials:
    """What the platforms would have given out, kept in a folder so that a database that knows it stays of use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "google.json").exists():
            self._make()
        self.pki = Pki(self._identity("root"), self._identity("wwdr"))
        self.account = (folder / "google.json").read_bytes()
        self.sealing_key = (folder / "sealing-key").read_text()

    def _make(self) -> None:
        pki, password = make_pki(), secrets.token_urlsafe(12)
        for name, identity in (("root", pki.root), ("wwdr", pki.intermediate)):
            self._keep(f"{name}.pem", identity.certificate_pem)
            self._keep(f"{name}.key", identity.key_pem)
        self._keep("password", password.encode())
        self._keep("pass.p12", pki.pass_identity().p12(password.encode()))
        self._keep("sealing-key", Fernet.generate_key())
        self._keep("google.json", service_account())

    def _keep(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)

    def _identity(self, name: str) -> Identity:
        key = load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())
        return Identity(certificate, key)  # type: ignore[arg-type]


class PhoneInFolder:
    """A phone whose passes are files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.phone = Phone()
        self.files: dict[str, Path] = {}
        self.busy = threading.Lock()
        folder.mkdir(exist_ok=True)

    def look(self) -> None:
        """Add the passes that somebody put there."""
        for path in sorted(self.folder.glob("*.pkpass")):
            if path not in self.files.values():
                with self.busy:
                    held = self.phone.add(path.read_bytes())
                    self.files[held.serial] = path
                print(f"the phone has {path.name} and shows {held.points} points", flush=True)

    def pushed(self, push: Push) -> None:
        """Fetch what has changed, as a phone does."""
        if push.token != self.phone.push_token:
            return
        with self.busy:
            for serial in self.phone.pushed():
                held, path = self.phone.passes[serial], self.files[serial]
                print(f"a push came; {path.name} was fetched and shows {held.points} points", flush=True)
                fresh = path.with_suffix(".fresh")
                fresh.write_bytes(held.package)
                fresh.rename(path)


def environment(credentials: Credentials, apns: FakeApns, google: FakeGoogle) -> dict[str, str]:
    return {
        "LOYALTY_WALLET_STAND_INS": "1",
        "WALLET_ENCRYPTION_KEYS": credentials.sealing_key,
        "APPLE_PASS_TYPE_ID": PASS_TYPE,
        "APPLE_TEAM_ID": TEAM,
        "APPLE_PUSH_URL": apns.url,
        "APPLE_PUSH_CA_FILE": apns.ca_file,
        "GOOGLE_ISSUER_ID": ISSUER_ID,
        "GOOGLE_SERVICE_ACCOUNT": ACCOUNT,
        "GOOGLE_WALLET_URL": google.url,
        "GOOGLE_TOKEN_URL": google.token_url,
        "GOOGLE_KEYS_URL": google.keys_url,
        "GOOGLE_CALLBACKS": "false",
    }


def serve(folder: Path, ended: threading.Event) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    credentials = Credentials(folder)
    phone = PhoneInFolder(folder / "phone")
    with FakeApns(credentials.pki) as apns, FakeGoogle(credentials.account) as google:
        apns.on_push = phone.pushed
        values = environment(credentials, apns, google)
        fresh = folder / "environment.fresh"
        fresh.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        fresh.rename(folder / "environment")
        shown = None
        while not ended.wait(LOOKS_EVERY_SECONDS):
            phone.look()
            objects = json.dumps(google.objects, indent=2)
            if objects != shown:
                (folder / "google-objects.json").write_text(objects)
                shown = objects


if __name__ == "__main__":
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    signal.signal(signal.SIGINT, lambda *_: over.set())
    serve(Path(sys.argv[1]), over)
