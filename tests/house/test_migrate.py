"""Migrations give up instead of holding up tills, and are tried again."""

from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from loyalty_site.management.commands import migrate
from tests.fakes.celery_process import database_url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def short(settings):
    settings.DATABASE_MIGRATION_LOCK_TIMEOUT_MS = 100


@pytest.fixture
def one_behind(transactional_db):
    """A migration is missing that changes a table in use."""
    call_command("migrate", "loyalty", "0003", verbosity=0)
    yield
    call_command("migrate", verbosity=0)


@pytest.fixture
def till(one_behind):
    """Somebody whose transaction is open on the table."""
    with psycopg.connect(database_url()) as open_till:
        open_till.execute("LOCK TABLE loyalty_card IN ROW EXCLUSIVE MODE")
        yield open_till


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'loyalty_card'")
        return {name for (name,) in cursor.fetchall()}


def lock_timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        return str(cursor.fetchone()[0])


def test_a_migration_is_tried_again_until_the_table_is_free(till, monkeypatch):
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            till.rollback()

    monkeypatch.setattr("time.sleep", pause)
    complaints = StringIO()

    call_command("migrate", verbosity=0, stderr=complaints)

    assert pauses == [2, 4]
    assert complaints.getvalue().splitlines() == [
        "loyalty.0004_cards_out_of_use found its table in use; trying again in 2 seconds.",
        "loyalty.0004_cards_out_of_use found its table in use; trying again in 4 seconds.",
    ]
    assert "card_exempt" in indexes()


def test_it_gives_up_in_one_sentence_and_leaves_nothing(till, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)

    with pytest.raises(
        CommandError, match=r"^loyalty\.0004_cards_out_of_use found its table in use 5 times"
    ) as refusal:
        call_command("migrate", verbosity=0, stderr=StringIO())

    assert "\n" not in str(refusal.value)
    assert not indexes() & {"card_exempt", "card_out_of_use"}
    till.rollback()


def test_it_waits_for_nothing_else_afterwards(one_behind):
    before = lock_timeout()

    call_command("migrate", verbosity=0)

    assert lock_timeout() == before == "0"


@pytest.mark.parametrize(("atomic", "timeout"), [(True, "100ms"), (False, "0")])
def test_only_a_migration_that_holds_somebody_up_has_to_hurry(atomic, timeout):
    command: Any = migrate.Command()
    command.verbosity = 0
    command._connection = connection
    migration = type("Migration", (), {"atomic": atomic})()

    command.migration_progress_callback("apply_start", migration)
    try:
        assert lock_timeout() == timeout
    finally:
        command._wait_for_locks(None)


def test_other_errors_are_not_repeated(monkeypatch):
    calls = []

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise CommandError("no")

    monkeypatch.setattr("django.core.management.commands.migrate.Command.handle", fail)

    with pytest.raises(CommandError, match="no"):
        call_command("migrate", verbosity=0)
    assert calls == [1]
