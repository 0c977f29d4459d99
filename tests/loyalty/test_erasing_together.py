"""What others do at the moment of an erasure comes before it and is erased, or after it and is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import IntegrityError, connection, transaction

from loyalty.errors import AlreadyErased, CardNotActive, LoyaltyError
from loyalty.models import Card, CardImport, CardImportRow, Customer, Transaction
from loyalty.services import earning, enrolment
from loyalty.services.enrolment import Person
from loyalty.services.expiration import ExpirationReport
from loyalty.services.ledger_check import check_ledger
from loyalty.services.once import AnsweredBefore, Client
from loyalty.services.privacy import ErasureReport, erase_customer
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_card, make_merchant, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.personal import found, request_of
from tests.loyalty.runs import expire

pytestmark = pytest.mark.django_db(transaction=True)
EMAIL, AGENT = "beside@example.com", "BesideTill"


@pytest.fixture
def store():
    return make_store(make_merchant(log_client_address=True))


@pytest.fixture
def card(store):
    return make_card(store.merchant, points=50, email=EMAIL)


def erase(card: Card, **words):
    asked = {"merchant": card.program.merchant, "reason": "asked for it", "actor": "ana", "at": NOON + days(1)}
    return erase_customer(customer_id=card.customer_id, **{**asked, **words})


def earn(store, card, receipt: str = ""):
    return earning.earn(
        store=store, card_id=card.pk, amount_minor=700, at=NOON, receipt_number=receipt, client=Client("::1", AGENT)
    )


def enrol(store):
    return enrolment.enrol(merchant=store.merchant, person=Person(email=EMAIL), at=NOON + days(1))


def outcome(act: Callable[[], object]) -> object:
    try:
        return act()
    except (LoyaltyError, AnsweredBefore) as answer:
        return answer
    finally:
        connection.close()


def beside(first: Callable[[], object], second: Callable[[], object]) -> object:
    """Do the first thing and, before it is committed, the second one, which has to wait. What came of the second."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first()
            waiting = pool.submit(outcome, second)
            wait_for_a_blocked_session()
        return waiting.result(timeout=30)


def wait_for_a_blocked_session() -> None:
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            [[waiting]] = cursor.fetchall()
            if waiting:
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits for a lock")


def is_erased(card: Card) -> bool:
    card.refresh_from_db()
    customer = Customer.objects.get(pk=card.customer_id)
    return card.status == Card.Status.ERASED and customer.erased_at is not None and balance_of(card).points_balance == 0


def test_a_sale_that_waits_for_an_erasure_is_refused(store, card):
    answer = beside(lambda: erase(card), lambda: earn(store, card))

    assert isinstance(answer, CardNotActive)
    assert is_erased(card)
    assert not Transaction.objects.filter(type="POINTS_EARNED").exists()
    assert check_ledger().mismatches == []


def test_an_erasure_that_waits_for_a_sale_takes_it_along(store, card):
    report = beside(lambda: earn(store, card), lambda: erase(card))

    assert isinstance(report, ErasureReport)
    assert report.points == 57
    assert is_erased(card)
    assert found({"agent": AGENT, "e-mail": EMAIL}) == {}
    assert check_ledger().mismatches == []


def test_nobody_gets_a_card_while_they_are_erased(store, card):
    Card.objects.filter(pk=card.pk).update(status="closed")

    answer = beside(lambda: erase(card), lambda: enrol(store))

    assert isinstance(answer, AlreadyErased)
    assert found({"e-mail": EMAIL}) == {}
    assert Card.objects.filter(customer=card.customer_id).count() == 1
    assert enrol(store).customer_id != card.customer_id


def test_a_card_that_is_issued_before_an_erasure_is_erased_with_the_others(store, card):
    Card.objects.filter(pk=card.pk).update(status="closed")

    report = beside(lambda: enrol(store), lambda: erase(card))

    assert isinstance(report, ErasureReport)
    assert len(report.card_ids) == 2
    assert all(is_erased(each) for each in Card.objects.filter(customer=card.customer_id))
    assert set(Message.objects.values_list("recipient", flat=True)) == {"erased"}
    assert found({"e-mail": EMAIL}) == {}


def test_of_two_erasures_one_is_refused(card):
    answer = beside(lambda: erase(card), lambda: erase(card))

    assert isinstance(answer, AlreadyErased)
    assert Transaction.objects.filter(card=card, type="CARD_DEACTIVATED").count() == 1


def test_the_same_request_at_the_same_moment_is_answered_alike(card):
    request = request_of(card.program.merchant, "key-of-the-erasure")
    answers: list[object] = []

    in_parallel(lambda _: answers.append(outcome(lambda: erase(card, request=request))), 4)

    assert sum(isinstance(answer, AnsweredBefore) for answer in answers) == 3
    assert Transaction.objects.filter(card=card, type="CARD_DEACTIVATED").count() == 1


def test_a_night_leaves_out_a_card_that_is_being_erased(card):
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        erase(card)
        report = pool.submit(outcome, lambda: expire(NOON + days(170))).result(timeout=30)

    assert isinstance(report, ExpirationReport)
    assert (report.tally.warnings, report.skipped_locked) == (0, 1)
    assert found({"e-mail": EMAIL}) == {}


def test_an_import_that_holds_lines_about_the_person_does_not_block_and_is_not_blocked(store, card):
    job = CardImport.objects.create(merchant=store.merchant, file_name="f", sha256="a" * 64, actor="ana")
    CardImportRow.objects.create(card_import=job, line=2, email=EMAIL)

    def lock_lines() -> None:
        assert len(CardImportRow.objects.select_for_update()) == 1

    def meet_the_customer() -> None:
        """As the chunk of an import does, while the erasure waits for its lines."""
        with pytest.raises(IntegrityError), transaction.atomic():
            Customer.objects.create(merchant=store.merchant, email=EMAIL, created_at=NOON)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            lock_lines()
            waiting = pool.submit(outcome, lambda: erase(card))
            wait_for_a_blocked_session()
            meet_the_customer()
        assert isinstance(waiting.result(timeout=30), ErasureReport)
    assert not CardImportRow.objects.exists()
    assert found({"e-mail": EMAIL}) == {}


def test_tills_that_go_on_selling_meet_an_erased_card_and_nothing_worse(store, card):
    answers: list[object] = []

    def work(number: int) -> None:
        if number == 0:
            answers.append(outcome(lambda: erase(card)))
            return
        for sale in range(8):
            answers.append(outcome(partial(earn, store, card, f"{number}-{sale}")))

    in_parallel(work, 4)

    sold = [answer for answer in answers if isinstance(answer, Transaction)]
    assert len(answers) == 25
    assert sum(isinstance(answer, CardNotActive) for answer in answers) == 24 - len(sold)
    assert Transaction.objects.filter(type="POINTS_EARNED").count() == len(sold)
    assert is_erased(card)
    assert found({"agent": AGENT, "e-mail": EMAIL}) == {}
    assert check_ledger().mismatches == []
