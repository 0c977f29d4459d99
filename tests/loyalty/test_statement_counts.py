"""How many statements things cost, and that it does not grow with what is stored."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from loyalty.models import Card, CardBalance, Program, Store
from loyalty.services import earning, idle_cards, redeeming
from loyalty.services.idle_cards import Term
from tests.factories import NOON, days, give, make_card, make_cards, make_merchant, make_reward, make_store
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db
WARNED, GONE = NOON + days(166), NOON + days(181)
CHUNK = 100
DATA = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "COPY")


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Statements that change or read data, by their first word; the connection's own COPY counts as one, too."""
    statements: list[str] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        statements.append(sql.split(None, 1)[0].upper())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield statements


def statements_of_a_run(as_of=GONE) -> int:
    with recorded() as statements:
        report = expire(as_of, batch_size=CHUNK)
    assert report.status == "succeeded"
    return sum(word in DATA for word in statements)


def make_due(cards: int, *, programs: int) -> None:
    for _ in range(programs):
        make_cards(make_merchant(), cards // programs, points=10)
    CardBalance.objects.update(last_expiration_warning_at=WARNED, expiration_warned_for=(NOON + days(180)).date())


@pytest.mark.parametrize("moment", [WARNED, GONE], ids=["warning", "expiring"])
@pytest.mark.parametrize("cards", [400, 800])
def test_a_run_costs_at_most_three_statements_per_chunk_and_twenty(cards, moment):
    make_cards(make_merchant(), cards, points=10)
    if moment is GONE:
        make_due(0, programs=1)

    assert statements_of_a_run(moment) <= 3 * cards / CHUNK + 20


def test_more_programs_cost_no_more_statements():
    make_due(200, programs=1)
    of_one = statements_of_a_run()
    make_due(200, programs=100)

    assert statements_of_a_run() == of_one


# --- tills


@pytest.fixture
def till(transactional_db):
    store = make_store(make_merchant(points_per_unit=Decimal(10), max_daily_earns=1000))
    return store, make_card(store.merchant, points=1000)


def round_trips(act: Callable[[], object]) -> int:
    """All statements of a sale, with its BEGIN and COMMIT."""
    with recorded() as statements:
        act()
    return len(statements) + 2


def earn(store: Store, card: Card, receipt_number: str = "") -> Callable[[], object]:
    return lambda: earning.earn(store=store, card_id=card.pk, amount_minor=1000, receipt_number=receipt_number, at=NOON)


def test_a_sale_costs_at_most_six_statements(till):
    store, card = till

    assert round_trips(earn(store, card, receipt_number="R1")) <= 6


def test_a_redemption_costs_at_most_six_statements(till):
    store, card = till
    reward = make_reward(store.merchant, stock=5)

    assert round_trips(lambda: redeeming.redeem_points(store=store, card_id=card.pk, points=10, at=NOON)) <= 6
    assert round_trips(lambda: redeeming.redeem_reward(store=store, card_id=card.pk, reward_id=reward.pk, at=NOON)) <= 6


def test_a_long_history_costs_no_more_statements(till):
    store, card = till
    at_first = round_trips(earn(store, card))
    for _ in range(60):
        give(card, 1, at=NOON)

    assert round_trips(earn(store, card)) == at_first


# --- finding what is due


def pages_read(find: Callable[[list[Term]], object]) -> tuple[int, str]:
    """Pages that finding touches, and the plan."""
    plans: list[tuple[int, str]] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params, many, context)
        [plan] = context["cursor"].fetchone()[0]
        node = plan["Plan"]
        plans.append((node["Shared Hit Blocks"] + node["Shared Read Blocks"], str(plan)))
        return execute(sql, params, many, context)

    terms = [Term(program, program.policy, GONE.date()) for program in Program.objects.select_related("merchant")]
    with connection.execute_wrapper(explain):
        find(terms)
    [pages_and_plan] = plans
    return pages_and_plan


def plan_as_for_a_large_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE loyalty_cardbalance")
        cursor.execute("SET LOCAL enable_seqscan = off")  # as small as here, reading everything may be cheaper


@pytest.mark.parametrize("find", [idle_cards.to_warn, idle_cards.to_expire], ids=["to warn", "to expire"])
def test_finding_costs_what_is_due_and_not_what_exists(find):
    merchant = make_merchant()
    make_cards(merchant, 300, points=10)
    if find is idle_cards.to_expire:
        make_due(0, programs=1)
    make_cards(merchant, 700, points=10, at=GONE)
    plan_as_for_a_large_table()
    few, _ = pages_read(find)
    make_cards(merchant, 4000, points=10, at=GONE)
    plan_as_for_a_large_table()

    many, _ = pages_read(find)

    assert many <= 1.75 * few


@pytest.mark.django_db(transaction=True)
def test_the_warning_scan_reads_a_quarter_of_what_it_would_if_it_did_not_know_who_was_warned():
    make_cards(make_merchant(), 3000, points=10)
    make_due(0, programs=1)
    CardBalance.objects.filter(pk__in=CardBalance.objects.values("pk")[:20]).update(last_expiration_warning_at=None)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE loyalty_cardbalance")

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # as small as here, reading everything may be cheaper
        ours, plan = pages_read(idle_cards.to_warn)
        cursor.execute("DROP INDEX card_idle_not_warned")
        cursor.execute(
            "CREATE INDEX idle ON loyalty_cardbalance (program_id, last_activity_at, card_id) WHERE points_balance > 0"
        )
        theirs, _ = pages_read(idle_cards.to_warn)
        transaction.set_rollback(True)

    assert "card_idle_not_warned" in plan
    assert ours <= 0.25 * theirs
