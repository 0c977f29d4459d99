import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pgtrigger
import pytest
from django.db.backends.postgresql.operations import DatabaseOperations
from django.test import TransactionTestCase
from hypothesis.configuration import set_hypothesis_home_dir

pytest_plugins = ["tests.house.coverage_gate"]

# A shell that starts the suite in the background ignores Ctrl-C, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# In the default place, the root, pytest would trip over it.
set_hypothesis_home_dir(Path(__file__).parent.parent / ".cache" / "hypothesis")


@pytest.fixture(autouse=True, scope="session")
def flush_may_empty_the_ledger() -> Iterator[None]:
    """Transactional tests end with a flush, which the ledger refuses to everybody else."""
    flush = DatabaseOperations.execute_sql_flush

    def lifted(operations: DatabaseOperations, sql_list: list[str]) -> Any:
        with pgtrigger.ignore("loyalty.Transaction:never_truncated"):
            return flush(operations, sql_list)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", lifted)
        yield


@pytest.fixture(autouse=True, scope="session")
def tests_that_commit_end_fast() -> Iterator[None]:
    from tests.emptying import emptied  # models cannot be imported yet when pytest reads this file

    flush = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]  # private, and called by Django

    def end(case: TransactionTestCase) -> None:
        if not emptied():
            flush(case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", end)
        yield
