"""Keys, passwords and tokens leave no trace: not in a dump, a log or the queue, on no page and in no answer."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.factories import NOON, give, make_card
from tests.fakes.apns import FakeApns, answer
from tests.fakes.celery_process import broker
from tests.fakes.google import FakeGoogle
from tests.fakes.phone import HeldPass, Phone
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till
from tests.loyalty.test_canaries import logged
from tests.wallet.credentials import shared_account, shared_identity
from wallet.google import callbacks
from wallet.models import Credential, Pass
from wallet.tasks import check_credentials, sync_passes

__all__ = ["logged"]

pytestmark = pytest.mark.django_db
SITE = "https://loyalty.example.com"
PASSWORD, WRONG_PASSWORD = "correct-horse-battery-staple-4817", "a-wrong-password-that-opens-nothing-09"
EVENTS = (
    *(
        "credential_imported",
        "credential_activated",
        "credential_checked",
        "credentials_resealed",
        "credential_revoked",
    ),
    *("pass_issued", "pass_saved", "device_complained", "breaker_opened"),
)


class Life:
    """What happens to a wallet, the secrets that it is about, and what is said on the way."""

    def __init__(self, apns: FakeApns, google: FakeGoogle, client: Client, folder: Path) -> None:
        self.apns, self.google, self.client, self.folder = apns, google, client, folder
        self.office, self.till, self.phone = Office(), Till(), Phone()
        self.card = make_card(self.till.merchant, points=10, first_name="Ana")
        self.secrets: dict[str, list[str]] = {"passwords": [PASSWORD, WRONG_PASSWORD]}
        self.said: dict[str, str] = {}  # by commands, pages and the APIs

    def import_credentials(self) -> None:
        """By files, as operators do; the wrong password is tried first."""
        Credential.objects.exclude(kind="wwdr").delete()
        self.secrets["keys"] = traces(shared_identity(2).key) + traces(key_of(shared_account()))
        for name, content in {
            "pass.p12": shared_identity(2).p12(PASSWORD.encode()),
            "right": PASSWORD.encode(),
            "wrong": WRONG_PASSWORD.encode(),
            "google.json": shared_account(),
        }.items():
            (self.folder / name).write_bytes(content)
        for password in ("wrong", "right"):
            self.command("import", "apple", self.folder / "pass.p12", "--password-file", self.folder / password)
        self.command("import", "google", self.folder / "google.json")
        for kind in ("apple", "google"):
            self.command("activate", Credential.objects.get(kind=kind).pk)
        self.command("reseal")

    def add_to_phones(self) -> None:
        """A customer opens both links, and both phones keep the pass."""
        links = self.till.get(f"cards/{self.card.pk}/wallet-links").json()
        self.secrets["links"] = [link.rpartition("/")[2] for link in links.values()]
        held = self.phone.take(self.client.get(urlsplit(links["apple"]).path).content)
        token = held.said["authenticationToken"]
        self.secrets["authentication token"] = [token]
        self.secrets["phone"] = [self.phone.device, self.phone.push_token]
        self.ask_as_phone(held, token)
        saved = self.client.get(urlsplit(links["google"]).path)
        self.secrets["save link"] = [saved.headers["Location"].rpartition("/")[2]]
        google_pass = Pass.objects.get(platform="google")
        body = self.google.callback("save", google_pass.identifier)
        assert self.client.post("/wallet/google/callback", body, content_type="application/json").status_code == 200
        self.secrets["access tokens"] = [*self.google.tokens.out]

    def ask_as_phone(self, held: HeldPass, token: str) -> None:
        """What a phone does with a pass, once with a token that is none; and then it complains in too many words."""
        service, about = "/wallet/apple/v1", f"{held.pass_type}/{held.serial}"
        registration = f"{service}/devices/{self.phone.device}/registrations/{about}"
        push_token = json.dumps({"pushToken": self.phone.push_token})
        for shown, status in ((token[:-1], 401), (token, 201)):
            known = {"Authorization": f"ApplePass {shown}"}
            asked = self.client.post(registration, push_token, content_type="application/json", headers=known)
            assert asked.status_code == status
            self.client.get(f"{service}/passes/{about}", headers=known)
        complaint = f"Get pass task (authorization: ApplePass {token}, device {self.phone.device}) failed"
        self.client.post(f"{service}/log", {"logs": [complaint]}, content_type="application/json")

    def tell_phones(self) -> None:
        """A change that is told, one that is not because nobody lets us in, and one that waits in the queue."""
        give(self.card, 5, at=NOON)
        sync_passes.apply()
        assert len([push for push in self.apns.pushes if push.token == self.phone.push_token]) == 1
        self.apns.when(answer(403, "BadCertificate"))
        self.google.distrust(shared_account())
        self.google.end_tokens()
        give(self.card, 5, at=NOON)
        sync_passes.apply()
        check_credentials.apply()
        sync_passes.delay()
        check_credentials.delay()

    def ask_in_the_office(self) -> None:
        """Every page of the admin, and every operation of the admin API, about wallets."""
        apple = Credential.objects.get(kind="apple").pk
        self.command("list", "--json")
        self.command("activate", apple)
        for path in ("wallet-status", "wallet/credentials", "wallet/sync-runs", f"cards/{self.card.pk}/passes"):
            self.said[path] = self.office.get(path).content.decode()
        for act in ("activate", "rollback"):
            self.said[act] = self.office.post(f"wallet/credentials/{apple}/{act}").content.decode()
        for path in pages():
            shown = self.client.get(path)
            assert shown.status_code == 200, path
            self.said[path] = shown.content.decode()
        self.command("revoke", apple)

    def command(self, *arguments: Any) -> None:
        output = io.StringIO()
        try:
            call_command("wallet_credentials", *map(str, arguments), stdout=output, stderr=output)
        except CommandError as refusal:
            output.write(str(refusal))
        self.said[f"{arguments}"] = output.getvalue()


@pytest.fixture
def life(admin_client, wallet_settings, apns, google, logged, tmp_path) -> Life:
    wallet_settings.PUBLIC_URL, wallet_settings.GOOGLE_CALLBACKS = SITE, True
    callbacks._kept.clear()
    life = Life(apns, google, admin_client, tmp_path)
    life.secrets["sealing key"] = wallet_settings.WALLET_ENCRYPTION_KEYS
    life.secrets["token key"] = [wallet_settings.WALLET_TOKEN_KEYS[0].partition(":")[2]]
    life.import_credentials()
    life.add_to_phones()
    life.tell_phones()
    life.ask_in_the_office()
    return life


@pytest.fixture
def queue() -> Iterator[None]:
    """The broker is left as it was found."""
    yield
    with broker() as client:
        client.delete("wallet")


@pytest.mark.usefixtures("queue")
def test_no_secret_is_anywhere_but_where_it_belongs(life, logged):
    dump, lines, waiting = dumped(), logged.getvalue(), in_the_broker()

    # The searches find what there is.
    assert life.phone.push_token in dump
    assert [event for event in EVENTS if f'"wallet.{event}"' not in lines] == []
    assert "wallet.sync_passes" in waiting
    assert Credential.objects.get(kind="apple").fingerprint in life.said["wallet/credentials"]
    assert all(len(secret) > 20 for secrets in life.secrets.values() for secret in secrets)
    assert len(life.said) > 25

    forms = sum(len(forms) for forms in life.secrets.values())
    print(f"{forms} forms of secrets, {len(life.said)} pages, answers and outputs, {len(dump):,} characters of a dump")
    # What a phone is reached by has to be kept, and nothing more.
    assert found_in(dump, life.secrets) == ["phone"]
    assert found_in(lines, life.secrets) == []
    assert found_in(waiting, life.secrets) == []
    assert {
        where: found_in(text, life.secrets) for where, text in life.said.items() if found_in(text, life.secrets)
    } == {}


def found_in(text: str, secrets: dict[str, list[str]]) -> list[str]:
    """The names of the secrets of which anything stands in a text."""
    return [name for name, forms in secrets.items() if any(form in text for form in forms)]


def dumped() -> str:
    """All rows of all tables, as a backup has them."""
    lines = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            with cursor.copy(f"COPY {table} TO STDOUT") as copy:
                lines += [bytes(row).decode() for row in copy]
    return "".join(lines)


def in_the_broker() -> str:
    """Everything that Valkey holds: tasks that wait, and counts of throttles."""
    with broker() as client:
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"string": client.get,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"hash": client.hgetall,
            b"zset": lambda key: client.zrange(key, 0, -1),
        }
        return "\n".join(f"{key!r} {read[client.type(key)](key)!r}" for key in client.keys("*"))


def pages() -> list[str]:
    """Every page of the admin about a model of the wallet, and the first one."""
    found = [reverse("admin:index")]
    for model in admin.site._registry:
        if model._meta.app_label == "wallet":
            name = f"admin:wallet_{model._meta.model_name}"
            found.append(reverse(f"{name}_changelist"))
            rows = model._default_manager.values_list("pk", flat=True)
            found += [reverse(f"{name}_{page}", args=[row]) for row in rows for page in ("change", "history")]
    assert len(found) > 10
    return found


def key_of(account: bytes) -> RSAPrivateKey:
    key = load_pem_private_key(json.loads(account)["private_key"].encode(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


def traces(key: RSAPrivateKey) -> list[str]:
    """Lines of a key's usual forms, and the number that is its secret."""
    forms = (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
    pems = [key.private_bytes(Encoding.PEM, form, NoEncryption()).decode() for form in forms]
    lines = [line for pem in pems for line in pem.splitlines()[2:-2]]
    secret = key.private_numbers().d
    return [*lines, f"{secret:x}", f"{secret:X}", str(secret)]
