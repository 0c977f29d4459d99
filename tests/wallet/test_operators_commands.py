"""`manage.py wallet_status`, `write_pass` and `wallet_credentials show`: what an operator looks at."""

import subprocess
import zipfile
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from loyalty.models import Card
from tests.factories import make_card, make_merchant
from tests.house.runbook_pages import sections
from tests.wallet.rows import make_breaker, make_failing_pass, make_failure, make_sync_run
from tests.wallet.syncing import cards_in_phones, change

pytestmark = pytest.mark.django_db


def run(*words: object) -> tuple[str, int]:
    output = StringIO()
    try:
        call_command(*map(str, words), stdout=output)
    except SystemExit as end:
        return output.getvalue(), int(str(end.code))
    return output.getvalue(), 0


def test_nothing_is_on_without_credentials(wallet_settings):
    output, code = run("wallet_status")

    assert code == 0
    assert output.splitlines() == [
        "apple: off, 0 passes behind, 0 failing, 0 given up",
        "google: off, 0 passes behind, 0 failing, 0 given up",
    ]


def test_what_is_on_and_behind_is_told_with_the_days_left(apple_credential):
    change(cards_in_phones(make_merchant(), 2)[0])

    output, code = run("wallet_status")

    assert code == 0
    assert "apple: on, 1 passes behind, 0 failing, 0 given up\n" in output
    assert f"apple: number {apple_credential.pk}, {apple_credential}, " in output


def test_calls_that_rest_and_cards_that_failed_are_told_with_the_reason(google_credential):
    make_breaker()
    card: Card = make_failing_pass().card
    make_failure(make_sync_run(status="partial", failed_card_ids=[card.pk]), card)

    output, code = run("wallet_status")

    assert code == 1
    assert "google: no calls since 2026-03-02 12:00:00 UTC: The account is no user of the issuer.\n" in output
    assert output.endswith(f"card {card.pk}: apple http_503, tried again by itself. Apple is busy.\n")


def test_a_pass_is_signed_and_written(apple_credential, tmp_path):
    card, path = make_card(points=100), tmp_path / "pass.pkpass"

    output, code = run("write_pass", card.pk, path)

    assert code == 0
    assert output.startswith(f"Wrote the pass of card {card.pk} to {path}, ")
    assert path.stat().st_mode & 0o777 == 0o600
    assert {"pass.json", "manifest.json", "signature"} <= set(zipfile.ZipFile(path).namelist())


def test_no_file_is_overwritten(apple_credential, tmp_path):
    path = tmp_path / "pass.pkpass"
    path.write_text("kept")

    with pytest.raises(CommandError, match="cannot be written: File exists") as error:
        run("write_pass", make_card().pk, path)

    assert error.value.returncode == 2
    assert path.read_text() == "kept"


def test_openssl_reads_the_certificate_that_signed_and_not_the_intermediate(apple_credential, tmp_path):
    run("write_pass", make_card().pk, tmp_path / "pass.pkpass")
    page = sections("wallet-certificates.md")
    (proof,) = (one.text for section in page for one in section.commands if one.text.startswith("unzip"))

    done = subprocess.run(["bash", "-c", proof], cwd=tmp_path, capture_output=True, text=True, check=True)

    ends = apple_credential.valid_until
    assert apple_credential.issuer.valid_until > ends
    assert done.stdout.splitlines()[1:] == [f"notAfter={ends:%b} {ends.day:2} {ends:%H:%M:%S %Y} GMT"]


def test_a_pass_is_refused_where_it_cannot_be_written(apple_credential, tmp_path):
    with pytest.raises(CommandError, match="cannot be written"):
        run("write_pass", make_card().pk, tmp_path / "nowhere" / "pass.pkpass")


@pytest.mark.parametrize("name", ["17", "nobody's"])
def test_a_pass_of_an_unknown_card_is_refused(apple_credential, tmp_path, name):
    with pytest.raises(CommandError, match="There is no card"):
        run("write_pass", name, tmp_path / "pass.pkpass")


def test_openssl_reads_the_certificate_that_is_shown(apple_credential):
    output, _ = run("wallet_credentials", "show", apple_credential.pk)

    done = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate"], input=output, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("notAfter=")
    assert f"{apple_credential.valid_until:%Y} GMT" in done.stdout


def test_a_key_is_shown_to_nobody(google_credential):
    with pytest.raises(CommandError, match="shows itself to nobody"):
        run("wallet_credentials", "show", google_credential.pk)


def test_an_unknown_credential_is_said_to_be(wallet_settings):
    with pytest.raises(CommandError, match="There is no credential 17"):
        run("wallet_credentials", "show", 17)
