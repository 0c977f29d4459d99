"""export_customer and erase_customer as operators meet them."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from loyalty.models import Customer, Transaction
from loyalty.services.privacy import export_customer
from tests.factories import NOON, make_card, make_merchant
from tests.loyalty.personal import EMAIL, PHONE, found, live
from tests.loyalty.runs import table_hashes

pytestmark = pytest.mark.django_db
REASON = "asked for by letter 17"


def run(*words: str) -> tuple[str, str, int]:
    """What a command prints, what it complains about, and its exit code."""
    output, complaints = StringIO(), StringIO()
    try:
        call_command(*words, stdout=output, stderr=complaints)
    except SystemExit as end:
        return output.getvalue(), complaints.getvalue(), int(str(end.code))
    except CommandError as error:
        return output.getvalue(), str(error), error.returncode
    return output.getvalue(), complaints.getvalue(), 0


@pytest.fixture
def life():
    return live()


def erase(life, *words: str, reason: str = REASON, name: str = "") -> tuple[str, str, int]:
    return run("erase_customer", life.merchant.slug, name or str(life.customer.pk), "--reason", reason, *words)


def test_an_export_is_printed_as_json(life):
    before = table_hashes()

    for name in (str(life.customer.pk), EMAIL, PHONE, life.card.card_number):
        output, _, code = run("export_customer", life.merchant.slug, name)
        document = json.loads(output)
        expected = export_customer(merchant=life.merchant, customer_id=life.customer.pk, at=NOON)
        assert {**document, "exported_at": ""} == {**expected, "exported_at": ""}
        assert code == 0
    assert table_hashes() == before


def test_an_export_goes_to_a_new_file_that_nobody_else_reads(life, tmp_path):
    path = tmp_path / "customer.json"

    output, _, code = run("export_customer", life.merchant.slug, EMAIL, "--output", str(path))

    assert json.loads(path.read_text())["customer"]["email"] == EMAIL
    assert path.stat().st_mode & 0o777 == 0o600
    assert (output, code) == (f"Wrote what is held about customer {life.customer.pk} to {path}.\n", 0)


def test_a_file_that_is_there_is_not_overwritten(life, tmp_path):
    path = tmp_path / "customer.json"
    path.write_text("mine")

    _, complaint, code = run("export_customer", life.merchant.slug, EMAIL, "--output", str(path))

    assert (path.read_text(), code) == ("mine", 2)
    assert "cannot be written: File exists." in complaint


def test_an_export_to_nowhere_is_refused(life, tmp_path):
    _, complaint, code = run("export_customer", life.merchant.slug, EMAIL, "--output", str(tmp_path / "no" / "x.json"))

    assert ("cannot be written: No such file or directory." in complaint, code) == (True, 2)


@pytest.mark.parametrize("command", [["export_customer"], ["erase_customer", "--reason", REASON, "--confirm-id", "1"]])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nobody", "1"], "There is no merchant 'nobody'."),
        (["SHOP", "nobody@example.com"], "There is no such customer."),
        (["SHOP", "caf\udcff"], "There is no such customer."),
        (["SHOP", "+1"], "This is not a phone number"),
        (["OTHER", EMAIL], "There is no such customer."),
    ],
)
def test_a_name_that_means_nobody_is_one_clear_line(command, words, sentence, life):
    names = {"SHOP": life.merchant.slug, "OTHER": make_merchant().slug}
    before = table_hashes()

    _, complaint, code = run(*command, *(names.get(word, word) for word in words))

    assert complaint.startswith(sentence)
    assert ("\n" in complaint, code) == (False, 2)
    assert table_hashes() == before


def test_without_the_id_an_erasure_only_says_what_would_go(life):
    before = table_hashes()

    output, complaint, code = erase(life, name=EMAIL)

    assert output.splitlines() == [
        f"Of customer {life.customer.pk}, 2 cards with 34 points and 3 stamps would be closed; 3 messages would be "
        "emptied; 3 answers to requests and 3 lines of imports would be deleted.",
        f"Cards were merged with those of customers {life.friend.customer_id}, who stay. Are they the same person?",
    ]
    assert complaint == (
        f"Nothing was erased. To erase: manage.py erase_customer {life.merchant.slug} {life.customer.pk} "
        f"--reason TEXT --confirm-id {life.customer.pk}\n"
    )
    assert code == 4
    assert table_hashes() == before


def test_with_the_id_the_customer_is_erased(life):
    output, complaint, code = erase(life, "--confirm-id", str(life.customer.pk))

    assert output.startswith(f"Of customer {life.customer.pk}, 2 cards with 34 points and 3 stamps were closed;")
    assert (complaint, code) == ("", 0)
    assert found(life.traces) == {}
    last = Transaction.objects.filter(card=life.card).latest("seq")
    assert last.reason == REASON
    assert last.actor.endswith("(command line)")


def test_the_id_of_somebody_else_confirms_nothing(life):
    other = make_card(life.merchant).customer_id

    _, complaint, code = erase(life, "--confirm-id", str(other))

    assert (complaint, code) == (f"--confirm-id is {other}, but this is customer {life.customer.pk}.", 2)
    assert not Customer.objects.filter(erased_at__isnull=False).exists()


@pytest.mark.parametrize("confirmed", [True, False])
def test_an_erasure_needs_a_reason(confirmed, life):
    words = ["--confirm-id", str(life.customer.pk)] if confirmed else []

    _, complaint, code = erase(life, *words, reason=" ")

    assert (complaint, code) == ("Please give a reason; it is kept with the change.", 2)
    assert Customer.objects.get(pk=life.customer.pk).erased_at is None


def test_who_is_erased_already_is_named_so(life):
    erase(life, "--confirm-id", str(life.customer.pk))

    for words in ([], ["--confirm-id", str(life.customer.pk)]):
        _, complaint, code = erase(life, *words)
        assert (complaint, code) == ("The data of this customer has been erased already.", 2)


def test_a_machine_may_read_the_result(life):
    would_be = json.loads(erase(life, "--json")[0])
    was = json.loads(erase(life, "--json", "--confirm-id", str(life.customer.pk))[0])

    assert (would_be.pop("outcome"), was.pop("outcome")) == ("not confirmed", "erased")
    assert was == would_be
    assert (was["customer_id"], was["points"], was["card_ids"]) == (
        life.customer.pk,
        34,
        [life.old_card.pk, life.card.pk],
    )
