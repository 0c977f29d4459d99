"""What the database itself refuses about the ledger, whoever asks: here raw SQL."""

from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from loyalty.models import Card, CardBalance, Customer, ExemptionChange, ExpirationRun, MerchantChange, Transaction
from loyalty.services import adjustments, policies
from loyalty.services.policies import PolicyTerms
from tests.factories import NOON, balance_of, days, make_card, make_cards, make_merchant

pytestmark = pytest.mark.django_db
CHANGES = {
    "points_delta": "points_delta + 1",
    "points_balance_after": "points_balance_after + 1",
    "stamps_delta": "1",
    "type": "'WELCOME_BONUS'",
    "seq": "seq + 7",
    "card_id": "card_id + 1",
    "merchant_id": "merchant_id + 1",
    "actor": "'nobody'",
    "receipt_number": "'R9'",
    "amount_minor": "1",
    "transaction_at": "now()",
    "created_at": "now()",
    "reason": "'another reason'",
    "details": "'{\"a\": 1}'",
    "client_address": "'10.0.0.1'",
    "client_agent": "'curl'",
}


@pytest.fixture
def card():
    return make_card(points=100)


def execute(statement: str, *values: Any) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


@pytest.mark.parametrize(("column", "value"), CHANGES.items(), ids=list(CHANGES))
def test_a_ledger_row_is_never_changed(card, column, value):
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        execute(f"UPDATE loyalty_transaction SET {column} = {value} WHERE card_id = %s", card.pk)


def test_a_ledger_row_is_never_deleted(card):
    with pytest.raises(IntegrityError, match="never changed or deleted"):
        execute("DELETE FROM loyalty_transaction WHERE card_id = %s", card.pk)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE loyalty_transaction CASCADE",
        "TRUNCATE loyalty_transaction, loyalty_receiptclaim",
        "TRUNCATE loyalty_card CASCADE",
        "TRUNCATE loyalty_merchant CASCADE",
    ],
)
def test_the_ledger_is_never_emptied(card, statement):
    connection.check_constraints()  # what is deferred would be in the way
    with pytest.raises(IntegrityError, match="never truncated"):
        execute(statement)


def test_the_orm_cannot_change_or_delete_a_row_either(card):
    row = Transaction.objects.filter(card=card).latest("seq")
    row.reason = "changed my mind"

    with pytest.raises(IntegrityError), transaction.atomic():
        row.save()
    with pytest.raises(IntegrityError), transaction.atomic():
        row.delete()


@pytest.mark.parametrize("column", ["reason", "client_address", "client_agent"])
def test_an_erasure_may_overwrite_what_names_a_person_with_one_word(card, column):
    assert execute(f"UPDATE loyalty_transaction SET {column} = 'erased' WHERE card_id = %s", card.pk) == 2


def test_an_erasure_may_overwrite_all_of_it_at_once_and_twice(card):
    erase = (
        "UPDATE loyalty_transaction SET reason = 'erased', details = '\"erased\"', client_address = 'erased', "
        "client_agent = 'erased' WHERE card_id = %s"
    )

    assert execute(erase, card.pk) == 2
    assert execute(erase, card.pk) == 2


def test_an_erasure_changes_nothing_else(card):
    with pytest.raises(IntegrityError, match="never changed"):
        execute("UPDATE loyalty_transaction SET reason = 'erased', points_delta = 0 WHERE card_id = %s", card.pk)


def test_what_was_erased_stays_erased(card):
    execute("UPDATE loyalty_transaction SET details = '\"erased\"' WHERE card_id = %s", card.pk)

    with pytest.raises(IntegrityError, match="never changed"):
        execute("UPDATE loyalty_transaction SET details = '{}' WHERE card_id = %s", card.pk)


INSERT = """
INSERT INTO loyalty_transaction (
    card_id, merchant_id, seq, type, points_delta, stamps_delta, points_balance_after, stamps_balance_after, actor,
    receipt_number, reverses_in_full, expiration_run_id, cycle_started_at, idempotency_key, reason, details,
    transaction_at, created_at, client_address, client_agent
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'ana', '', false, %s, %s, '', 'test', '{}', now(), now(), '', '')
"""


MOVE = "WITH moved AS (UPDATE loyalty_cardbalance SET points_balance = %s, last_seq = 3 WHERE card_id = %s) " + INSERT


def post_row(card: Card, *, seq: int = 3, points: int = 5, after: int = 105, stamps: int = 0, stamps_after: int = 0):
    merchant_id = card.program.merchant_id
    values = ("BALANCE_IMPORTED", points, stamps, after, stamps_after, None, None)
    return execute(INSERT, card.pk, merchant_id, seq, *values)


@pytest.mark.parametrize(
    "row",
    [
        {"after": 104},
        {"after": 106},
        {"stamps_after": 1},
        {"stamps": 1},
        {"seq": 4},
        {"seq": 3},
    ],
    ids=["too little", "too much", "stamps from nowhere", "stamps lost", "a gap", "the balance did not move"],
)
def test_a_row_that_does_not_continue_the_one_before_is_refused(card, row):
    with pytest.raises(IntegrityError, match="does not continue"):
        post_row(card, **row)


def test_a_row_and_its_balance_in_one_statement_are_accepted(card):
    moved = execute(
        MOVE,
        *(105, card.pk, card.pk, card.program.merchant_id, 3, "BALANCE_IMPORTED", 5, 0, 105, 0, None, None),
    )

    assert moved == 1
    assert balance_of(card).points_balance == 105


def test_one_bad_row_refuses_its_whole_statement():
    merchant = make_merchant()
    good, bad = make_cards(merchant, 2, points=10)

    with pytest.raises(IntegrityError, match="does not continue"):
        execute(
            "WITH moved AS (UPDATE loyalty_cardbalance SET points_balance = 11, last_seq = 3 RETURNING card_id) "
            "INSERT INTO loyalty_transaction (card_id, merchant_id, seq, type, points_delta, stamps_delta, "
            "points_balance_after, stamps_balance_after, actor, receipt_number, reverses_in_full, idempotency_key, "
            "reason, details, transaction_at, created_at, client_address, client_agent) "
            "SELECT card_id, %s, 3, 'BALANCE_IMPORTED', CASE card_id WHEN %s THEN 2 ELSE 1 END, 0, 11, 0, '', '', "
            "false, '', '', '{}', now(), now(), '', '' FROM moved",
            merchant.pk,
            bad.pk,
        )

    assert [balance_of(card).points_balance for card in (good, bad)] == [10, 10]


def test_a_row_of_another_merchant_than_its_card_is_refused(card):
    other = make_merchant()

    with pytest.raises(IntegrityError, match="another merchant"):
        execute(
            MOVE,
            *(105, card.pk, card.pk, other.pk, 3, "BALANCE_IMPORTED", 5, 0, 105, 0, None, None),
        )


def test_an_expiry_of_an_unknown_run_is_refused(card):
    with pytest.raises(IntegrityError, match="unknown run"):
        execute(
            MOVE,
            *(0, card.pk, card.pk, card.program.merchant_id, 3, "POINTS_EXPIRED", -100, 0, 0, 0, 987_654_321, NOON),
        )


def test_a_run_is_never_deleted():
    run = ExpirationRun.objects.create(trigger="command", as_of=NOON, started_at=NOON)

    with pytest.raises(DatabaseError, match="Cannot delete rows"), transaction.atomic():
        run.delete()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE loyalty_exemptionchange SET reason = 'other'",
        "DELETE FROM loyalty_exemptionchange",
        "UPDATE loyalty_policychange SET actor = 'other'",
        "DELETE FROM loyalty_policychange",
        "DELETE FROM loyalty_cardbalance",
        "UPDATE loyalty_merchantchange SET reason = 'erased'",
        "DELETE FROM loyalty_merchantchange",
        "UPDATE loyalty_exemptionchange SET reason = 'erased', actor = 'other'",
    ],
)
def test_who_changed_what_is_never_rewritten_and_no_balance_vanishes(card, statement):
    merchant = card.program.merchant
    adjustments.exempt_from_expiry(merchant=merchant, card_id=card.pk, reason="VIP", actor="kim", at=NOON)
    terms = PolicyTerms(**{**vars(PolicyTerms.of(card.program)), "points_expiration_days": 365})
    policies.change_policy(program_id=card.program_id, terms=terms, actor="kim", at=NOON)

    MerchantChange.objects.create(merchant=merchant, is_active=False, reason="sold", actor="kim", changed_at=NOON)

    with pytest.raises(DatabaseError, match=r"Cannot (update or )?delete rows|are never changed or deleted"):
        execute(statement)


def test_an_erasure_may_overwrite_why_a_card_was_exempt(card):
    merchant = card.program.merchant
    adjustments.exempt_from_expiry(merchant=merchant, card_id=card.pk, reason="is ill", actor="kim", at=NOON)

    execute("UPDATE loyalty_exemptionchange SET reason = 'erased'")

    assert ExemptionChange.objects.get().reason == "erased"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        {"points_balance": 101},
        {"points_balance": 0},
        {"stamp_count": 1},
        {"last_seq": 3},
        {"last_seq": 1},
    ],
    ids=["points given", "points taken", "stamps given", "a row too many", "a row too few"],
)
def test_a_balance_without_a_row_that_says_so_is_never_committed(card, change):
    with pytest.raises(IntegrityError, match="last ledger row"), transaction.atomic():
        CardBalance.objects.filter(card=card).update(**change)

    assert balance_of(card).points_balance == 100


@pytest.mark.django_db(transaction=True)
def test_a_new_balance_without_ledger_rows_is_never_committed():
    merchant = make_merchant()
    customer = Customer.objects.create(merchant=merchant, created_at=NOON)
    card = Card.objects.create(program=merchant.program, customer=customer, created_at=NOON)

    with pytest.raises(IntegrityError, match="last ledger row"), transaction.atomic():
        CardBalance.objects.create(
            card=card, program=merchant.program, points_balance=5, last_activity_at=NOON, changed_at=NOON
        )

    assert not CardBalance.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_is_not_a_balance_may_change_without_a_row(card):
    CardBalance.objects.filter(card=card).update(
        last_activity_at=NOON - days(1), last_expiration_warning_at=timezone.now(), expiration_warned_for=NOON.date()
    )

    assert balance_of(card).last_activity_at == NOON - days(1)


def test_a_balance_is_never_deleted():
    card = make_card(points=10)

    with pytest.raises(DatabaseError, match="Cannot delete rows"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM loyalty_cardbalance WHERE card_id = %s", [card.pk])

    assert balance_of(card).points_balance == 10
