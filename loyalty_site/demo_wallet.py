"""The demo's card in Apple and Google Wallet: credentials come in, passes go out, a sale is told to the phones."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol
from zipfile import ZipFile

from celery import current_app
from django.conf import settings
from django.utils import timezone

from loyalty.models import Card, CardBalance, Merchant
from loyalty.services import earning
from loyalty_site import demo_data
from loyalty_site.processes import LOCAL, Site
from loyalty_site.waiting import wait_for
from wallet.models import Credential, Pass, Platform, Registration

PACKAGE = LOCAL / "loyalty.pkpass"


class Output(Protocol):
    def write(self, text: str) -> Any: ...


class WalletStory:
    """One card in an iPhone and at Google, from its credentials to a balance that changes in both."""

    def __init__(self, site: Site, stdout: Output, say: Callable[[str], None]) -> None:
        self.site = site
        self.stdout = stdout
        self.say = say
        self.card = newest_active_card()

    def tell(self) -> None:
        if not (self.site.wallet_folder / "environment").exists():
            return  # the real platforms are set up, and a demo bothers nobody
        self.say("Apple Wallet and Google Wallet: credentials come in, are tried, and are used from now on")
        self._bring_credentials_in()
        self.say("one card in both, by the links that a till gives out")
        self._add_to_phones()
        self.say("a sale, and what the phones show after wallet.sync_passes")
        self._sell()

    def _bring_credentials_in(self) -> None:
        folder = self.site.wallet_folder
        self._command("wallet_credentials", "import", "wwdr", str(folder / "wwdr.pem"))
        password = ("--password-file", str(folder / "password"))
        self._command("wallet_credentials", "import", "apple", str(folder / "pass.p12"), *password)
        self._command("wallet_credentials", "import", "google", str(folder / "google.json"))
        for credential in Credential.objects.filter(status=Credential.Status.STAGED).order_by("pk"):
            self._command("wallet_credentials", "activate", str(credential.pk))

    def _add_to_phones(self) -> None:
        links = self._ask_as_a_till(f"cards/{self.card.pk}/wallet-links")
        package = fetched(links["apple"])
        PACKAGE.write_bytes(package)
        in_phone = self._file_in_phone()
        fresh = in_phone.with_suffix(".fresh")
        fresh.write_bytes(package)
        fresh.rename(in_phone)
        wait_for("the phone", lambda: Registration.objects.filter(wallet_pass__card=self.card).exists())
        self.stdout.write(f"Apple: {len(package):,} bytes, signed; the phone shows {shown_points(package)} points")
        self.stdout.write(f"Google: the link leads to {redirected(links['google'])[:60]}...")
        self.stdout.write(f"Google shows {wait_for('the object', self._points_at_google)} points")

    def _sell(self) -> None:
        store = self.card.program.merchant.stores.first()
        assert store is not None  # noqa: S101  the demo's merchant has one
        row = earning.earn(store=store, card_id=self.card.pk, amount_minor=2500, at=timezone.now(), actor="demo")
        self.stdout.write(f"25.00 earned {row.points_delta} points; the balance is {row.points_balance_after}")
        current_app.send_task("wallet.sync_passes", queue="wallet")
        balance = row.points_balance_after
        wait_for("the pass", lambda: shown_points(self._file_in_phone().read_bytes()) == balance)
        PACKAGE.write_bytes(self._file_in_phone().read_bytes())
        wait_for("Google", lambda: self._points_at_google() == balance)
        self.stdout.write(f"a push came, the phone fetched the pass and shows {balance} points; so does Google")
        self.stdout.write(f"the pass to look at: {PACKAGE.relative_to(settings.BASE_DIR)}")

    def _command(self, *arguments: str) -> None:
        printed = " ".join(argument.replace(f"{settings.BASE_DIR}/", "") for argument in arguments)
        self.stdout.write(f"$ manage.py {printed}")
        self.stdout.write(self.site.manage(*arguments).strip())

    def _ask_as_a_till(self, path: str) -> Any:
        merchant = self.card.program.merchant
        store = merchant.stores.first()
        assert store is not None  # noqa: S101  the demo's merchant has one
        where = ("--store", f"{merchant.slug}/{store.code}")
        key = self.site.manage("create_api_key", *where, "--label", "demo").strip()
        address = f"{self.site.address}/api/v1/store/loyalty/{path}"
        request = urllib.request.Request(address, headers={"Authorization": f"Api-Key {key}"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310  our own address
            return json.loads(answer.read())

    def _file_in_phone(self) -> Path:
        folder = self.site.wallet_folder / "phone"
        folder.mkdir(exist_ok=True)
        return folder / f"card-{self.card.pk}.pkpass"

    def _points_at_google(self) -> int | None:
        known = Pass.objects.filter(card=self.card, platform=Platform.GOOGLE).first()
        written = self.site.wallet_folder / "google-objects.json"
        if known is None or not written.exists():
            return None
        shown = json.loads(written.read_text()).get(known.identifier)
        return int(shown["loyaltyPoints"]["balance"]["int"]) if shown else None


def newest_active_card() -> Card:
    """A card that was used lately."""
    merchant = Merchant.objects.get(slug=demo_data.SLUG)
    cards = Card.objects.of(merchant).filter(status=Card.Status.ACTIVE).select_related("program__merchant")
    return cards.filter(pk__in=CardBalance.objects.filter(points_balance__gt=0)).order_by("-pk")[0]


def fetched(link: str) -> bytes:
    with urllib.request.urlopen(link) as answer:  # noqa: S310  our own address
        return bytes(answer.read())


def shown_points(package: bytes) -> int:
    """What stands on the front of an Apple pass."""
    with ZipFile(BytesIO(package)) as files:
        fields = json.loads(files.read("pass.json"))["storeCard"]["primaryFields"]
    return int(fields[0]["value"])


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def redirected(link: str) -> str:
    """Where a link leads, without going there."""
    try:
        urllib.request.build_opener(_Stay).open(link)
    except urllib.error.HTTPError as answer:
        return str(answer.headers["Location"])
    return ""
