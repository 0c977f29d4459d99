"""Apple, Google and an iPhone for the demo, until they are ended: `python -m tests.fakes.wallet_platforms FOLDER SITE`.

SITE is the address of the site that they belong to.

FOLDER gets
    wwdr.pem, pass.p12, password, google.json   credentials of the platforms, made once
    environment                                 how the product reaches them and is reached, in the form of an .env file
    phone/                                      a .pkpass put there is added to the phone, which keeps it up to date
    google-objects.json                         what Google shows
"""

import json
import secrets
import signal
import sys
import threading
import time
import zlib
from http.client import HTTPException
from pathlib import Path
from zipfile import BadZipFile

from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.fakes.apns import FakeApns, Push
from tests.fakes.google import FakeGoogle
from tests.fakes.phone import Answer, HeldPass, Phone
from tests.fakes.pki import ACCOUNT, ISSUER_ID, PASS_TYPE, TEAM, Identity, Pki, make_pki, service_account

LOOKS_EVERY_SECONDS = 0.2
AGAIN_AFTER_SECONDS = 2
NO_PASS = (BadZipFile, zlib.error, EOFError, RuntimeError, LookupError, TypeError, ValueError)
AWAY = (OSError, HTTPException, AssertionError, *NO_PASS)  # a site that runs may answer anything


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
    """A phone whose passes are files. Whatever is wrong with one of them, the others are kept up to date."""

    def __init__(self, folder: Path, *, again_after_seconds: float = AGAIN_AFTER_SECONDS) -> None:
        self.folder = folder
        self.phone = Phone()
        self.files: dict[Path, str] = {}
        self.busy = threading.Lock()
        self.again_after_seconds = again_after_seconds
        self.no_passes: dict[Path, int] = {}
        self.again_at: dict[Path, float] = {}
        self.told: set[tuple[Path, str]] = set()
        folder.mkdir(exist_ok=True)

    def look(self) -> None:
        """Add the passes that somebody put there, and try again what went wrong."""
        for path in sorted(self.folder.glob("*.pkpass")):
            if path not in self.files and self._is_due(path):
                self._add(path)
        if self.folder in self.again_at and self._is_due(self.folder):
            self._fetch()

    def pushed(self, push: Push) -> None:
        """Fetch what has changed, as a phone does."""
        if push.token == self.phone.push_token:
            self._fetch()

    def _is_due(self, path: Path) -> bool:
        return time.monotonic() >= self.again_at.get(path, 0)

    def _add(self, path: Path) -> None:
        try:
            changed_at = path.stat().st_mtime_ns
            if self.no_passes.get(path) == changed_at:
                return
            held = read_pass(path.read_bytes())
        except OSError as error:
            self._try_again(path, error)
        except NO_PASS as error:
            self.no_passes[path] = changed_at
            self._tell(path, f"is no pass ({why(error)})")
        else:
            self._register(path, held)

    def _register(self, path: Path, held: HeldPass) -> None:
        with self.busy:
            before = dict(self.phone.passes)
            try:
                self.phone.add(held.package)
            except AWAY as error:
                self.phone.passes = before  # or the next push would ask this web service too
                self._try_again(path, error, at=str(held.said["webServiceURL"]))
                return
            self.files[path] = held.serial
        print(f"the phone has {path.name} and shows {held.points} points", flush=True)

    def _fetch(self) -> None:
        with self.busy:
            try:
                for serial in self.phone.pushed():
                    self._write(serial)
                self.again_at.pop(self.folder, None)
            except AWAY as error:
                self._hear_again()
                self._try_again(self.folder, error)

    def _write(self, serial: str) -> None:
        held = self.phone.passes[serial]
        for path in [path for path, found in self.files.items() if found == serial]:
            fresh = path.with_suffix(".fresh")
            fresh.write_bytes(held.package)
            fresh.rename(path)
            print(f"a push came; {path.name} was fetched and shows {held.points} points", flush=True)

    def _hear_again(self) -> None:
        """Be as before the push, or what it was about would count as fetched."""
        self.phone.tags.clear()
        for held in self.phone.passes.values():
            held.last_modified = ""

    def _try_again(self, path: Path, error: BaseException, *, at: str = "") -> None:
        self.again_at[path] = time.monotonic() + self.again_after_seconds
        where = f" at {at}" if at else ""
        self._tell(path, f"is tried again{where} until it works ({why(error)})")

    def _tell(self, path: Path, what: str) -> None:
        if (path, what) not in self.told:
            self.told.add((path, what))
            print(f"{path.name} {what}", flush=True)


def read_pass(package: bytes) -> HeldPass:
    """A pass in which a phone finds all that it looks for; one of `NO_PASS` otherwise."""
    held = HeldPass(package)
    _ = held.serial, held.pass_type, held.points, held.said["webServiceURL"], held.said["authenticationToken"]
    return held


def why(error: BaseException) -> str:
    answer = error.args[0] if error.args else None
    if isinstance(answer, Answer):
        return f"the site answered {answer.status}"  # all of it has the time in it, so each would be news
    return str(error) or type(error).__name__


def environment(credentials: Credentials, apns: FakeApns, google: FakeGoogle, site: str) -> dict[str, str]:
    return {
        "PUBLIC_URL": site,
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


def publish(values: dict[str, str], folder: Path) -> None:
    """Write the file of the environment, which nobody sees half and nobody else reads: it holds a key."""
    fresh = folder / "environment.fresh"
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    fresh.rename(folder / "environment")


def serve(folder: Path, site: str, ended: threading.Event) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    credentials = Credentials(folder)
    phone = PhoneInFolder(folder / "phone")
    with FakeApns(credentials.pki) as apns, FakeGoogle(credentials.account) as google:
        apns.on_push = phone.pushed
        publish(environment(credentials, apns, google, site), folder)
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
    serve(Path(sys.argv[1]), sys.argv[2], over)
