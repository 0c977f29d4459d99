"""The drill: a living system is backed up, goes on, is lost, and comes back in a new database, proven."""

import json
import re
import stat
import subprocess
import sys
import uuid
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from loyalty.models import Card, Customer, Transaction
from loyalty.services.privacy import erase_customer
from loyalty_site.backup import clients, erasures, files, unproven, verifying
from loyalty_site.backup.fingerprints import fingerprints, snapshot
from loyalty_site.backup.refusals import ClientFailed, FileRefused
from notifications.models import Message
from tests.factories import NOON, days, make_card, make_cards, make_merchant
from tests.fakes.celery_process import ROOT, database_url, environment
from tests.loyalty.personal import live
from tests.wallet.rows import make_pass

pytestmark = pytest.mark.django_db(transaction=True)
REASON = "drill"


class Elsewhere:
    """A new database on the server of the tests, and what commands say there."""

    def __init__(self) -> None:
        self.name = f"restored_{uuid.uuid4().hex[:12]}"
        server, _, _ = database_url().rpartition("/")
        self.url = f"{server}/{self.name}"

    def manage(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=environment(DATABASE_URL=self.url, LOG_LEVEL="ERROR"),
            capture_output=True,
            text=True,
            check=False,
        )

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.url) as there:
            return there.execute(query).fetchall()


@pytest.fixture
def elsewhere(transactional_db):
    place = Elsewhere()
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {place.name} TEMPLATE template0")
        yield place
        cursor.execute(f"DROP DATABASE {place.name} WITH (FORCE)")


@pytest.fixture
def life(transactional_db):
    """A person's data in every table that knows people, other people beside it, and one who is gone already."""
    life = live()
    make_pass(make_card(make_merchant(), points=70))
    make_cards(make_merchant(), 30)
    gone = make_card(life.merchant, points=5)
    erase(gone.customer)
    return life


def erase(customer: Customer) -> None:
    erase_customer(merchant=customer.merchant, customer_id=customer.pk, reason="asked", actor="ana", at=NOON + days(40))


def run(*words: str) -> tuple[str, int]:
    """What a command prints or complains about, and its exit code."""
    output, complaints = StringIO(), StringIO()
    try:
        call_command(*words, stdout=output, stderr=complaints)
    except SystemExit as end:
        return output.getvalue() + complaints.getvalue(), int(str(end.code))
    except CommandError as error:
        return str(error), error.returncode
    return output.getvalue(), 0


def backed_up(folder: Path) -> Path:
    file = folder / "today.dump"
    told, code = run("backup_database", str(file))
    assert (code, told[:9]) == (0, "Backed up"), told
    return file


def test_the_drill(life, elsewhere, tmp_path):
    file, list_file = backed_up(tmp_path), tmp_path / "erasures.csv"
    with snapshot():
        at_the_backup = fingerprints()
    erase(life.customer)
    assert run("list_erasures", "--append-to", str(list_file)) == (f"Added 2 erasures to {list_file}.\n", 0)

    words = ("restore_database", str(file), "--reason", REASON, "--erasures", str(list_file), "--json")
    done = elsewhere.manage(*words)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["problems"], told["erased_again"], told["migrations_applied"]) == ([], [life.customer.pk], [])
    # The hashes that were compared before anybody was erased again are those of the moment of the backup.
    assert files.read_manifest(file).tables == at_the_backup
    people = elsewhere.rows("SELECT id, email FROM loyalty_customer WHERE erased_at IS NOT NULL ORDER BY id")
    assert people == [(pk, "") for pk in Customer.objects.filter(email="").order_by("pk").values_list("pk", flat=True)]
    assert len(people) == 2
    balances = "SELECT card_id, points_balance, stamp_count, last_seq FROM loyalty_cardbalance ORDER BY card_id"
    with connection.cursor() as cursor:
        cursor.execute(balances)
        assert elsewhere.rows(balances) == cursor.fetchall()


def test_what_comes_back_refuses_changes_and_goes_on_counting(life, elsewhere, tmp_path):
    file = backed_up(tmp_path)

    assert elsewhere.manage("restore_database", str(file), "--reason", REASON).returncode == 0

    with psycopg.connect(elsewhere.url, autocommit=True) as there:
        for statement in ("DELETE FROM loyalty_transaction", "TRUNCATE loyalty_transaction CASCADE"):
            with pytest.raises(psycopg.errors.CheckViolation):
                there.execute(statement)
        numbers = there.execute("SELECT nextval('loyalty_customer_id_seq'), max(id) FROM loyalty_customer").fetchone()
    assert numbers
    assert numbers[0] > numbers[1]
    assert elsewhere.rows("SELECT reltuples FROM pg_class WHERE relname = 'loyalty_card'") == [(Card.objects.count(),)]


def test_a_backup_of_an_older_release_is_brought_to_this_one(transactional_db, elsewhere, tmp_path):
    make_card()
    call_command("migrate", "loyalty", "0003", verbosity=0)
    try:
        file = backed_up(tmp_path)
    finally:
        call_command("migrate", verbosity=0)

    done = elsewhere.manage("restore_database", str(file), "--reason", REASON, "--json")

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "loyalty.0004_cards_out_of_use" in told["migrations_applied"]
    assert told["problems"] == []
    assert elsewhere.rows("SELECT count(*) FROM pg_indexes WHERE indexname = 'card_exempt'") == [(1,)]


def test_a_database_that_is_in_use_is_left_alone(transactional_db, tmp_path):
    make_card()
    file = backed_up(tmp_path)
    with snapshot():
        before = fingerprints()

    told, code = run("restore_database", str(file), "--reason", REASON)

    assert code == 4
    assert told.startswith("This database has tables.")
    assert "\n" not in told
    with snapshot():
        assert fingerprints() == before


def test_a_dump_that_fails_half_way_leaves_nothing(life, elsewhere, tmp_path):
    file = backed_up(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 3 // 4])
    size, digest = files.describe(file)
    manifest = files.manifest_of(file)
    words = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**words, "dump_bytes": size, "dump_sha256": digest}))

    done = elsewhere.manage("restore_database", str(file), "--reason", REASON)

    assert (done.returncode, done.stdout) == (1, "")
    assert "pg_restore failed: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert elsewhere.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [(unproven.TABLE,)]


class TestTheFiles:
    def test_are_for_their_owner_only_and_nothing_is_left_beside_them(self, tmp_path):
        file = backed_up(tmp_path)
        run("list_erasures", "--append-to", str(tmp_path / "erasures.csv"))

        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert found == {file.name: 0o600, f"{file.name}.manifest.json": 0o600, "erasures.csv": 0o600}

    def test_are_never_overwritten(self, tmp_path):
        file = backed_up(tmp_path)

        told, code = run("backup_database", str(file))

        assert (told, code) == (f"{file} is there already; a backup overwrites nothing.", 2)

    def test_need_a_folder(self, tmp_path):
        told, code = run("backup_database", str(tmp_path / "nowhere" / "today.dump"))

        assert code == 2
        assert told.endswith("cannot be written: No such file or directory.")

    def test_are_not_there_when_the_dump_failed(self, tmp_path, monkeypatch):
        def fail(*_: str) -> None:
            raise ClientFailed("pg_dump failed: no")

        monkeypatch.setattr(clients, "run", fail)

        assert run("backup_database", str(tmp_path / "today.dump")) == ("pg_dump failed: no", 1)
        assert list(tmp_path.iterdir()) == []


class TestAFileIsRefused:
    """In one sentence, before anything is done: this database has tables, and is not even looked at."""

    def restored(self, file: Path) -> str:
        before = Transaction.objects.count()
        told, code = run("restore_database", str(file), "--reason", REASON)
        assert (code, Transaction.objects.count()) == (2, before)
        assert "\n" not in told
        return told

    @pytest.fixture
    def file(self, transactional_db, tmp_path):
        make_card()
        return backed_up(tmp_path)

    def test_when_it_was_cut(self, file):
        file.write_bytes(file.read_bytes()[:1000])

        assert "was cut off: it has 1,000 of" in self.restored(file)

    def test_when_it_was_changed(self, file):
        content = bytearray(file.read_bytes())
        content[-100] ^= 1
        file.write_bytes(content)

        assert "is not the dump that its manifest describes" in self.restored(file)

    def test_when_it_is_gone(self, file):
        file.unlink()

        assert f"There is no file {file}" in self.restored(file)

    def test_when_it_has_no_manifest(self, file):
        files.manifest_of(file).unlink()

        assert "is no backup of ours" in self.restored(file)

    def test_when_its_manifest_is_something_else(self, file):
        for content in ("", "[]", "{}", '{"tables": {"a": 1}}', '{"tables": {}, "colour": "red"}'):
            files.manifest_of(file).write_text(content)

            assert "is no manifest of a backup" in self.restored(file)

    def test_when_another_release_made_it(self, file):
        manifest = files.manifest_of(file)
        words = json.loads(manifest.read_text())
        for name, value, sentence in [
            ("format", 2, "its format is 2, not 1"),
            ("migrations", ["loyalty.9999_wings"], "this one does not know loyalty.9999_wings"),
        ]:
            manifest.write_text(json.dumps({**words, name: value}))

            assert sentence in self.restored(file)

    def test_when_it_is_no_list_of_erasures(self, file, tmp_path):
        for content, sentence in [
            ("", "is no list of erasures"),
            ("merchant_id,customer_id,erased_at\n1,2\n", "Line 2 of"),
            ("merchant_id,customer_id,erased_at\n1,2,2026-03-02\n", "Line 2 of"),
        ]:
            (tmp_path / "erasures.csv").write_text(content)
            words = ("restore_database", str(file), "--reason", REASON, "--erasures", str(tmp_path / "erasures.csv"))
            told, code = run(*words)
            assert code == 2
            assert sentence in told


class TestVerifying:
    """Each look notices what it is for."""

    def test_finds_rows_that_changed_are_missing_or_too_many(self, life):
        with snapshot():
            before = fingerprints()
        Customer.objects.filter(pk=life.customer.pk).update(first_name="Eve")
        Message.objects.all().delete()

        found = list(verifying.rows_that_differ({**before, "public.lost": before["public.loyalty_card"]}))

        assert found[0] == "The table public.lost is missing."
        assert found[1] == "The rows of the table public.loyalty_customer are not those that were backed up."
        assert found[2].startswith("The table public.notifications_message has 0 rows instead of ")
        assert len(found) == 3

    def test_finds_a_trigger_that_is_switched_off(self, life):
        assert list(verifying.triggers_that_rest()) == []
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE loyalty_transaction DISABLE TRIGGER USER")
        try:
            found = list(verifying.triggers_that_rest())
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE loyalty_transaction ENABLE TRIGGER USER")

        assert "The trigger append_only of loyalty_transaction is not in force." in found
        assert found[-1].startswith("The ledger let a row be deleted")
        assert Transaction.objects.filter(card=life.card).exists()

    def test_finds_a_foreign_key_that_is_switched_off(self, life):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE loyalty_cardbalance DISABLE TRIGGER ALL")
            cursor.execute("ALTER TABLE loyalty_cardbalance ENABLE TRIGGER USER")
            try:
                found = list(verifying.triggers_that_rest())
            finally:
                cursor.execute("ALTER TABLE loyalty_cardbalance ENABLE TRIGGER ALL")

        assert len(found) == 4
        for sentence in found:
            assert re.fullmatch(
                r"The trigger RI_ConstraintTrigger_c_\d+ of loyalty_cardbalance is not in force\.", sentence
            )
        assert list(verifying.triggers_that_rest()) == []

    def test_finds_a_sequence_that_is_behind(self, life):
        assert list(verifying.sequences_behind()) == []
        with connection.cursor() as cursor:
            cursor.execute("SELECT last_value FROM loyalty_customer_id_seq")
            before = cursor.fetchone()[0]
            cursor.execute("SELECT setval('loyalty_customer_id_seq', 1, false)")
            found = list(verifying.sequences_behind())
            cursor.execute("SELECT setval('loyalty_customer_id_seq', %s)", [before])

        highest = Customer.objects.order_by("-pk").values_list("pk", flat=True)[0]
        assert found == [f"The sequence loyalty_customer_id_seq is at 0, but loyalty_customer has a row {highest}."]

    def test_finds_a_balance_that_is_wrong(self, life):
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("UPDATE loyalty_cardbalance SET points_balance = 9999 WHERE card_id = %s", [life.card.pk])
            cursor.execute("SET session_replication_role = origin")

        assert list(verifying.balances_that_are_wrong()) == [
            "check_ledger found 1 cards whose balance is not what the ledger says."
        ]


class TestErasures:
    def test_are_printed_or_added_once(self, life, tmp_path):
        [known] = erasures.list_erasures()
        line = f"{known.merchant_id},{known.customer_id},{known.erased_at.isoformat()}\n"
        file = tmp_path / "erasures.csv"

        assert run("list_erasures") == (f"merchant_id,customer_id,erased_at\n{line}", 0)
        assert run("list_erasures", "--since", "2199-01-01") == ("merchant_id,customer_id,erased_at\n", 0)
        assert run("list_erasures", "--append-to", str(file)) == (f"Added 1 erasures to {file}.\n", 0)
        assert run("list_erasures", "--append-to", str(file)) == (f"Added 0 erasures to {file}.\n", 0)
        assert erasures.read(file) == [known]

    def test_that_the_database_does_not_know_stay_in_the_file(self, life, tmp_path):
        file = tmp_path / "erasures.csv"
        other = erasures.Erasure(1, 999_999_999, NOON)
        erasures.keep([other], file)

        run("list_erasures", "--append-to", str(file))

        assert erasures.read(file) == [other, *erasures.list_erasures()]

    def test_are_not_added_to_something_else(self, life, tmp_path):
        file = tmp_path / "letter.txt"
        file.write_text("Dear Ana,\n")

        with pytest.raises(FileRefused, match="is no list of erasures"):
            erasures.keep(erasures.list_erasures(), file)
        assert file.read_text() == "Dear Ana,\n"

    def test_are_repeated_for_who_is_back_and_for_nobody_else(self, life):
        here = life.customer
        newcomer = make_card(life.merchant).customer
        Customer.objects.filter(pk=newcomer.pk).update(created_at=NOON + days(50))
        stranger = make_card(make_merchant()).customer
        lines = [
            erasures.Erasure(life.merchant.pk, here.pk, here.created_at + days(1)),
            # Enrolled after the erasure, with the number of somebody who is gone.
            erasures.Erasure(life.merchant.pk, newcomer.pk, NOON + days(49)),
            # Of another merchant.
            erasures.Erasure(life.merchant.pk, stranger.pk, stranger.created_at + days(1)),
            # Came and went after the backup.
            erasures.Erasure(life.merchant.pk, 999_999_999, NOON),
        ]

        erased, problems = erasures.erase_again(lines, reason=REASON, actor="ana", at=here.created_at + days(60))

        assert (erased, problems) == ([here.pk], [])
        assert not Customer.objects.filter(pk__in=[newcomer.pk, stranger.pk]).exclude(erased_at=None).exists()
        assert set(Card.objects.filter(customer=here).values_list("status", flat=True)) == {Card.Status.ERASED}


def server_version() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        return int(cursor.fetchone()[0]) // 10_000


class TestClients:
    def program(self, folder: Path, number: int) -> Path:
        path = folder / str(number) / "pg_dump"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {number}.4'\n")
        path.chmod(0o755)
        return path

    def test_are_the_oldest_that_is_not_older_than_the_server(self, tmp_path, monkeypatch):
        server = server_version()
        found = [self.program(tmp_path, number) for number in (server + 2, server + 1, server - 3)]
        monkeypatch.setattr(clients, "_candidates", lambda _: iter(found))

        assert clients._fitting("pg_dump") == found[1]

    @pytest.mark.parametrize(
        ("numbers", "sentence"), [([], "There is no pg_dump on this"), ([9], "pg_dump 9 is older")]
    )
    def test_that_do_not_fit_are_one_sentence(self, tmp_path, monkeypatch, numbers, sentence):
        found = [self.program(tmp_path, number) for number in numbers]
        monkeypatch.setattr(clients, "_candidates", lambda _: iter(found))

        told, code = run("backup_database", str(tmp_path / "today.dump"))

        assert code == 1
        assert told.startswith(sentence)
        assert f"postgresql-client-{server_version()}" in told

    def test_get_the_password_in_a_way_that_no_neighbour_can_read(self, tmp_path, monkeypatch):
        seen: dict[str, Any] = {}

        def note(command: list[Any], **how: Any) -> "subprocess.CompletedProcess[str]":
            seen.update(command=command, password=how["env"].get("PGPASSWORD"))
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(clients, "_fitting", Path)
        monkeypatch.setattr(subprocess, "run", note)
        monkeypatch.setitem(connection.settings_dict, "PASSWORD", "open-sesame")
        connection.close()

        clients.run("pg_dump")

        assert seen["password"] == "open-sesame"
        assert "open-sesame" not in " ".join(map(str, seen["command"]))
