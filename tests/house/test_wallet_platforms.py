"""The phone of `make run`, whose passes are files: one that makes trouble is told of once, and the others live on."""

import json
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest

from loyalty_site.processes import free_port
from tests.fakes.http_sink import http_sink
from tests.fakes.wallet_platforms import PhoneInFolder, publish


def a_pass(service: str, *, serial: str = "1") -> bytes:
    said = {
        "serialNumber": serial,
        "passTypeIdentifier": "pass.com.example",
        "authenticationToken": "token",
        "webServiceURL": service,
        "storeCard": {"primaryFields": [{"value": 7}]},
    }
    content = BytesIO()
    with ZipFile(content, "w") as package:
        package.writestr("pass.json", json.dumps(said))
    return content.getvalue()


@pytest.fixture
def phone(tmp_path: Path) -> PhoneInFolder:
    return PhoneInFolder(tmp_path / "phone", again_after_seconds=0)


def push_to(phone: PhoneInFolder) -> None:
    phone.pushed(SimpleNamespace(token=phone.phone.push_token))  # type: ignore[arg-type]


def test_a_site_that_does_not_answer_yet_is_tried_again_and_told_of_once(phone, capsys):
    address = f"http://127.0.0.1:{free_port(0)}"
    (phone.folder / "away.pkpass").write_bytes(a_pass(address, serial="away"))
    with http_sink(status=201) as site:
        (phone.folder / "there.pkpass").write_bytes(a_pass(site.address, serial="there"))
        phone.look()
        phone.look()

        assert capsys.readouterr().out.splitlines() == [
            f"away.pkpass is tried again at {address} until it works ([Errno 111] Connection refused)",
            "the phone has there.pkpass and shows 7 points",
        ]
        assert [asked.path.rpartition("/")[2] for asked in site.asked] == ["there"]
        assert set(phone.phone.passes) == {"there"}


def test_a_site_that_refuses_is_tried_again_until_it_takes_the_pass(phone, capsys):
    with http_sink(status=401) as site:
        (phone.folder / "card.pkpass").write_bytes(a_pass(site.address))
        phone.look()
        phone.look()
        site.status = 201
        phone.look()
        phone.look()

        assert len(site.asked) == 3
    assert capsys.readouterr().out.splitlines() == [
        f"card.pkpass is tried again at {site.address} until it works (the site answered 401)",
        "the phone has card.pkpass and shows 7 points",
    ]


def test_it_waits_before_it_tries_again(tmp_path):
    phone = PhoneInFolder(tmp_path / "phone", again_after_seconds=60)
    with http_sink(status=503) as site:
        (phone.folder / "card.pkpass").write_bytes(a_pass(site.address))
        phone.look()
        phone.look()

        assert len(site.asked) == 1


def test_a_restarted_phone_registers_again(phone):
    with http_sink(status=201) as site:
        (phone.folder / "card.pkpass").write_bytes(a_pass(site.address))
        phone.look()
        PhoneInFolder(phone.folder).look()

        assert [asked.method for asked in site.asked] == ["POST", "POST"]


def no_zip() -> bytes:
    return b"no zip"


def empty_zip() -> bytes:
    content = BytesIO()
    ZipFile(content, "w").close()
    return content.getvalue()


def list_of_nothing() -> bytes:
    content = BytesIO()
    with ZipFile(content, "w") as package:
        package.writestr("pass.json", "[]")
    return content.getvalue()


@pytest.mark.parametrize("package", [no_zip, empty_zip, list_of_nothing])
def test_a_file_that_is_no_pass_is_left_alone_until_it_changes(package, phone, capsys):
    path = phone.folder / "card.pkpass"
    path.write_bytes(package())
    phone.look()
    phone.look()

    assert capsys.readouterr().out.count("card.pkpass is no pass (") == 1
    with http_sink(status=201) as site:
        path.write_bytes(a_pass(site.address))
        phone.look()
    assert list(phone.files) == [path]


def test_two_files_of_one_pass_are_both_kept(phone):
    with http_sink(status=201) as site:
        for name in ("one.pkpass", "two.pkpass"):
            (phone.folder / name).write_bytes(a_pass(site.address))
        phone.look()
        phone.look()

        assert len(site.asked) == 2


def test_a_push_to_a_site_that_is_away_is_followed_later(phone, capsys):
    with http_sink(status=201) as site:
        (phone.folder / "card.pkpass").write_bytes(a_pass(site.address))
        phone.look()
        site.status = 500
        push_to(phone)
        phone.look()
        site.status = 204
        phone.look()
        asked = len(site.asked)
        phone.look()

        assert len(site.asked) == asked
    assert capsys.readouterr().out.splitlines()[1:] == ["phone is tried again until it works (the site answered 500)"]


def test_nobody_else_reads_the_file_of_the_environment(tmp_path):
    (tmp_path / "environment.fresh").touch(mode=0o644)

    publish({"WALLET_ENCRYPTION_KEYS": "key", "PUBLIC_URL": "http://127.0.0.1:8317"}, tmp_path)

    written = tmp_path / "environment"
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_text() == "WALLET_ENCRYPTION_KEYS=key\nPUBLIC_URL=http://127.0.0.1:8317\n"
