import hashlib
import json
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7
from PIL import Image

from loyalty.models import Card, Program
from loyalty.services.card_status import close_card, suspend_card
from tests.factories import NOON, days, make_card, make_merchant
from tests.fakes.pki import PASS_TYPE, TEAM, shared_pki
from tests.wallet.credentials import shared_identity
from wallet.apple import packages
from wallet.apple.signing import Signer
from wallet.content import Face, Look, State, face_of
from wallet.errors import CredentialRefused

TOKEN = "a-token-that-only-one-phone-has-seen"
LOOK = Look(
    organisation="Café Müller",
    card_name="Points card",
    shows_points=True,
    shows_stamps=False,
    stamps_target=10,
    stamps_reward="",
    background_colour="#1d3557",
    text_colour="#FFFFFF",
    barcode=Program.Barcode.QR,
    terms_text="",
    terms_url="",
    privacy_url="",
    support_email="",
    logo="",
)
FACE = Face(
    look=LOOK,
    card_number="100000000008",
    qr_token="kT3nVb0wQ1x",
    first_name="Ana",
    locale="en",
    points=1200,
    stamps=3,
    use_by=None,
    state=State.IN_USE,
    ended_at=None,
)
SIZES = {
    "icon": [(29, 29), (58, 58), (87, 87)],
    "logo": [(50, 50), (100, 100), (150, 150)],
    "strip": [(375, 144), (750, 288), (1125, 432)],
}


@pytest.fixture(scope="module")
def signer() -> Signer:
    identity = shared_identity()
    return Signer(identity.certificate, identity.key, shared_pki().intermediate.certificate)


def said(face: Face = FACE, **look) -> dict[str, Any]:
    face = replace(face, look=replace(face.look, **look))
    return packages.pass_json(
        face,
        identifier="serial-1",
        pass_type=PASS_TYPE,
        team=TEAM,
        token=TOKEN,
        web_service_url="https://loyalty.example/wallet/apple",
    )


def fields(content: dict[str, Any], group: str) -> dict[str, Any]:
    return {field["key"]: field for field in content["storeCard"][group]}


def opened(package: bytes) -> dict[str, bytes]:
    with ZipFile(BytesIO(package)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def png(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGBA", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


class TestAPackage:
    def test_verifies_with_openssl(self, signer, tmp_path):
        files = opened(packages.build(said(), packages.pictures(None), signer))

        assert verified(files["manifest.json"], files["signature"], tmp_path) == files["manifest.json"]

    def test_that_was_changed_does_not(self, signer, tmp_path):
        files = opened(packages.build(said(), packages.pictures(None), signer))

        with pytest.raises(subprocess.CalledProcessError):
            verified(files["manifest.json"] + b" ", files["signature"], tmp_path)

    def test_has_a_manifest_of_every_other_file(self, signer):
        files = opened(packages.build(said(), packages.pictures(png(480, 150)), signer))
        others = {name: content for name, content in files.items() if name not in ("manifest.json", "signature")}

        assert json.loads(files["manifest.json"]) == {
            name: hashlib.sha1(content, usedforsecurity=False).hexdigest() for name, content in others.items()
        }
        assert set(others) == {"pass.json", *packages.pictures(None)}

    def test_is_signed_in_its_bytes_whatever_ends_its_lines(self, signer, tmp_path):
        manifest = b'{"a":\n"b",\r\n"c": "d"}\r'

        assert verified(manifest, signer.sign(manifest), tmp_path) == manifest

    def test_carries_the_intermediate_and_the_time_of_signing(self, signer, tmp_path):
        before = datetime.now(UTC).replace(microsecond=0)
        signature = opened(packages.build(said(), packages.pictures(None), signer))["signature"]

        assert shared_pki().intermediate.certificate in pkcs7.load_der_pkcs7_certificates(signature)
        assert shared_identity().certificate in pkcs7.load_der_pkcs7_certificates(signature)
        assert before <= signed_at(signature, tmp_path) <= before + timedelta(seconds=10)

    def test_holds_the_pass_as_it_was_told(self, signer):
        content = said(organisation="Ünï “quoted” \n shop")

        assert json.loads(opened(packages.build(content, packages.pictures(None), signer))["pass.json"]) == content

    def test_is_the_same_each_time_but_for_the_signature(self, signer):
        first, second = (opened(packages.build(said(), packages.pictures(None), signer)) for _ in range(2))

        assert list(first) == list(second)
        assert {**first, "signature": b""} == {**second, "signature": b""}


class TestPictures:
    @pytest.mark.parametrize("name", ["icon", "logo", "strip"])
    def test_of_ours_come_in_three_sizes(self, name):
        found = packages.pictures(None)
        names = [f"{name}.png", f"{name}@2x.png", f"{name}@3x.png"]

        assert [size_of(found[name]) for name in names] == SIZES[name]

    @pytest.mark.parametrize(
        ("size", "shown"),
        [
            ((480, 150), [(160, 50), (320, 100), (480, 150)]),
            ((480, 60), [(160, 20), (320, 40), (480, 60)]),
            ((150, 150), [(50, 50), (100, 100), (150, 150)]),
            ((100, 40), [(100, 40), (100, 40), (100, 40)]),
            ((480, 1), [(160, 1), (320, 1), (480, 1)]),
        ],
    )
    def test_of_a_merchant_fit_and_keep_their_shape(self, size, shown):
        found = packages.pictures(png(*size))

        assert [size_of(found[name]) for name in ("logo.png", "logo@2x.png", "logo@3x.png")] == shown

    def test_of_a_merchant_are_the_file_itself_where_it_fits(self):
        logo = png(480, 150)

        assert packages.pictures(logo)["logo@3x.png"] == logo

    def test_are_made_once(self):
        assert packages.pictures(png(30, 30)) is packages.pictures(png(30, 30))


class TestWhatAPassSays:
    def test_names_itself_and_where_to_ask(self):
        content = said()

        assert {name: value for name, value in content.items() if name not in ("barcodes", "storeCard")} == {
            "formatVersion": 1,
            "passTypeIdentifier": PASS_TYPE,
            "teamIdentifier": TEAM,
            "serialNumber": "serial-1",
            "authenticationToken": TOKEN,
            "webServiceURL": "https://loyalty.example/wallet/apple",
            "organizationName": "Café Müller",
            "description": "Points card of Café Müller",
            "logoText": "Points card",
            "foregroundColor": "rgb(255,255,255)",
            "labelColor": "rgb(255,255,255)",
            "backgroundColor": "rgb(29,53,87)",
        }

    @pytest.mark.parametrize(
        ("barcode", "order"),
        [(Program.Barcode.QR, ["QR", "Code128"]), (Program.Barcode.CODE128, ["Code128", "QR"])],
    )
    def test_has_both_codes_and_shows_the_program_s_first(self, barcode, order):
        messages = {"QR": "kT3nVb0wQ1x", "Code128": "100000000008"}

        assert said(barcode=barcode)["barcodes"] == [
            {
                "format": f"PKBarcodeFormat{kind}",
                "message": messages[kind],
                "messageEncoding": "iso-8859-1",
                "altText": "100000000008",
            }
            for kind in order
        ]

    @pytest.mark.parametrize(
        ("points", "stamps", "value", "label", "details"),
        [
            (True, False, 1200, "Points", ["name"]),
            (False, True, "3 / 10", "Stamps", ["name"]),
            (True, True, 1200, "Points", ["name", "stamps"]),
        ],
    )
    def test_shows_what_the_program_collects(self, points, stamps, value, label, details):
        content = said(shows_points=points, shows_stamps=stamps)
        balance = fields(content, "primaryFields")["balance"]

        assert (balance["value"], balance["label"]) == (value, label)
        assert list(fields(content, "secondaryFields")) == details

    def test_shows_no_name_when_there_is_none(self):
        assert said(replace(FACE, first_name=""))["storeCard"]["secondaryFields"] == []

    def test_shows_by_when_points_are_to_be_used_while_a_warning_stands(self):
        content = said(replace(FACE, use_by=date(2026, 5, 12)))

        assert fields(content, "secondaryFields")["use_by"] == {
            "key": "use_by",
            "label": "Use by",
            "value": "2026-05-12T00:00:00Z",
            "dateStyle": "PKDateStyleMedium",
            "timeStyle": "PKDateStyleNone",
            "ignoresTimeZone": True,
        }
        notice = fields(content, "backFields")["notice"]
        assert notice["value"] == "Use this card by May 12, 2026 to keep your points."
        assert notice["changeMessage"] == "%@"

    def test_has_terms_links_and_whom_to_ask_on_its_back(self):
        content = said(
            terms_text="All of them.",
            terms_url="https://shop.example/terms",
            privacy_url="https://shop.example/privacy",
            support_email="help@shop.example",
            shows_stamps=True,
            stamps_reward="A coffee",
        )

        assert {key: field["value"] for key, field in fields(content, "backFields").items()} == {
            "notice": "This card is in use.",
            "card_number": "100000000008",
            "reward": "A coffee",
            "terms": "All of them.",
            "terms_url": "https://shop.example/terms",
            "privacy_url": "https://shop.example/privacy",
            "support": "help@shop.example",
        }

    @pytest.mark.parametrize("use_by", [None, date(2026, 5, 12)])
    @pytest.mark.parametrize("state", list(State))
    @pytest.mark.parametrize("kind", ["points", "stamps", "hybrid"])
    def test_has_keys_of_its_own_and_tells_of_two_changes_at_most(self, kind, state, use_by):
        look = {"shows_points": kind != "stamps", "shows_stamps": kind != "points", "stamps_reward": "A coffee"}
        content = said(replace(FACE, state=state, use_by=use_by), **look)
        found = [field for group in content["storeCard"].values() for field in group]
        telling = [field for field in found if "changeMessage" in field]

        assert len({field["key"] for field in found}) == len(found)
        assert [field["key"] for field in telling] in (["balance"], ["balance", "notice"])
        assert all("%@" in field["changeMessage"] for field in telling)

    def test_speaks_the_customer_s_language(self):
        content = said(replace(FACE, locale="de", use_by=date(2026, 5, 12)))

        assert "12. Mai 2026" in fields(content, "backFields")["notice"]["value"]

    @pytest.mark.parametrize(
        ("state", "ended_at", "validity"),
        [
            (State.IN_USE, None, {}),
            (State.SUSPENDED, None, {"voided": True}),
            (State.ENDED, NOON, {"voided": True, "expirationDate": "2026-03-02T12:00:00Z"}),
        ],
    )
    def test_says_whether_the_card_is_good_for_something(self, state, ended_at, validity):
        content = said(replace(FACE, state=state, ended_at=ended_at))

        assert {name: content[name] for name in ("voided", "expirationDate") if name in content} == validity

    @pytest.mark.parametrize("leave", [suspend_card, close_card])
    @pytest.mark.django_db
    def test_follows_a_real_card_to_its_end(self, leave, signer, tmp_path):
        card = make_card(make_merchant(), points=50, first_name="Ana")
        merchant = card.program.merchant
        leave(merchant=merchant, card_id=card.pk, reason="A test.", actor="tests", at=NOON + days(1))
        files = opened(packages.build(said(face_of(reread(card))), packages.pictures(None), signer))
        content = json.loads(files["pass.json"])

        assert verified(files["manifest.json"], files["signature"], tmp_path)
        assert content["voided"] is True
        assert ("expirationDate" in content) == (leave is close_card)


class TestWhatIsTold:
    def test_is_all_but_the_token(self):
        content = said()
        told = packages.told(content, packages.pictures(None))

        assert TOKEN not in json.dumps(told)
        assert {**told, "authenticationToken": TOKEN, "pictures": None} == {**content, "pictures": None}

    def test_differs_when_the_pictures_do(self):
        tellings = [packages.told(said(), packages.pictures(logo)) for logo in (None, png(480, 150), png(480, 149))]

        assert len({json.dumps(told, sort_keys=True) for told in tellings}) == 3

    def test_can_be_written_as_json(self):
        assert json.loads(json.dumps(packages.told(said(), packages.pictures(None))))


class TestASigner:
    def test_refuses_a_key_of_another(self):
        with pytest.raises(CredentialRefused, match="The key does not belong to this certificate"):
            Signer(shared_identity().certificate, shared_pki().root.key, shared_pki().intermediate.certificate)

    def test_is_valid_as_long_as_both_certificates(self, signer):
        assert signer.valid_from == shared_identity().certificate.not_valid_before_utc
        assert signer.expires_at == shared_identity().certificate.not_valid_after_utc
        assert signer.is_valid(signer.valid_from)
        assert not signer.is_valid(signer.valid_from - timedelta(seconds=1))
        assert not signer.is_valid(signer.expires_at)


def verified(manifest: bytes, signature: bytes, folder) -> bytes:
    """What openssl says was signed, under the root alone."""
    (folder / "manifest").write_bytes(manifest)
    (folder / "signature").write_bytes(signature)
    (folder / "root.pem").write_bytes(shared_pki().root.certificate_pem)
    command = ["openssl", "smime", "-verify", "-purpose", "any", "-binary", "-inform", "DER", "-in", "signature"]
    command += ["-content", "manifest", "-CAfile", "root.pem"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def signed_at(signature: bytes, folder) -> datetime:
    (folder / "signature.der").write_bytes(signature)
    command = ["openssl", "cms", "-cmsout", "-print", "-inform", "DER", "-in", "signature.der"]
    shown = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    moment = shown.partition("signingTime")[2].partition("UTCTIME:")[2].partition("\n")[0]
    return datetime.strptime(moment, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)


def size_of(picture: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(picture)) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def reread(card: Card) -> Card:
    return Card.objects.select_related("balance", "customer", "program__merchant").get(pk=card.pk)
