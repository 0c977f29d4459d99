"""What was kept long enough goes; the rest stays, and so does what still proves something."""

from dataclasses import asdict
from datetime import timedelta
from functools import partial

import pytest
from django.db import connections
from django.utils import timezone

from loyalty import tasks
from loyalty.errors import IdempotencyKeyExpired
from loyalty.models import CardBalance, CardImport, CardImportRow, IdempotencyKey, StaffSession
from loyalty.services import earning, purging
from loyalty.services.imports import Outcome, issuing
from loyalty.services.imports.importing import IMPORT_LOCK
from loyalty.services.once import AnsweredBefore
from loyalty.services.privacy import erase_customer
from loyalty.services.purging import PurgeReport, purge
from loyalty.services.staging import fingerprint
from notifications import services as notifications
from notifications.models import Message
from tests.factories import NOON, days, make_card, make_merchant, make_store
from tests.loyalty.admin.rows import make_staff_session
from tests.loyalty.imports import balances, run, write
from tests.loyalty.personal import request_of
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db
MOMENT = timedelta(microseconds=1)
WARNED, GONE = NOON + days(166), NOON + days(181)
LONG_AFTER = GONE + days(401)


def purged(**counts: int) -> PurgeReport:
    return PurgeReport(**{"answered_requests": 0, "staff_sessions": 0, "import_lines": 0, "messages": 0, **counts})


def make_answer(number: int, at) -> None:
    IdempotencyKey.objects.create(
        merchant=make_merchant(), key=f"key-{number}", fingerprint="f", status=201, answer={}, created_at=at
    )


def test_an_answer_is_kept_for_thirty_days():
    make_answer(1, NOON - days(30))
    make_answer(2, NOON - days(30) - MOMENT)

    assert purge(at=NOON) == purged(answered_requests=1)
    assert IdempotencyKey.objects.get().key == "key-1"


def test_a_request_that_is_repeated_after_the_purge_is_told_what_it_did():
    store = make_store()
    card = make_card(store.merchant)
    request = request_of(store.merchant, "key-1")
    sell = partial(earning.earn, store=store, card_id=card.pk, amount_minor=500, at=NOON, request=request)
    row = sell()
    with pytest.raises(AnsweredBefore):
        sell()

    purge(at=NOON + days(31))

    with pytest.raises(IdempotencyKeyExpired) as refusal:
        sell()
    assert refusal.value.details == {"transaction_id": row.pk}
    assert CardBalance.objects.get(card=card).points_balance == 5


def test_many_answers_go_in_batches(monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(purging, "ROWS_PER_COMMIT", 2)
    for number in range(5):
        make_answer(number, NOON - days(40))

    with django_assert_num_queries(4 + 3 + 3):  # answers: to find and to delete; sessions, imports, messages: to find
        assert purge(at=NOON).answered_requests == 5


def test_a_session_is_kept_for_thirty_days_after_its_end():
    kept, gone = make_staff_session(), make_staff_session()
    StaffSession.objects.filter(pk=kept.pk).update(expires_at=NOON - days(30))
    StaffSession.objects.filter(pk=gone.pk).update(expires_at=NOON - days(30) - MOMENT)

    assert purge(at=NOON) == purged(staff_sessions=1)
    assert StaffSession.objects.get() == kept


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "cards.csv", [f"K-{n},5,2026-01-01" for n in range(4)])


@pytest.fixture
def interrupted(file, monkeypatch):
    """An import that made cards of two lines of four, and was stopped."""
    monkeypatch.setattr(issuing, "LINES_PER_COMMIT", 2)
    merchant = make_merchant(points_expiration_days=None)

    def stop(step: str, done: int, total: int) -> None:
        if step == "importing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(file, merchant, progress=stop)
    return CardImport.objects.get()


def begin(card_import: CardImport, age: timedelta) -> None:
    CardImport.objects.filter(pk=card_import.pk).update(created_at=NOON - age)


def test_waiting_lines_are_kept_for_seven_days(interrupted, file):
    begin(interrupted, days(7))

    assert purge(at=NOON) == purged()
    assert CardImportRow.objects.count() == 2
    assert run(file, interrupted.merchant).imported == 4


def test_an_import_that_is_not_continued_ends_as_far_as_it_came(interrupted, file):
    begin(interrupted, days(7) + MOMENT)

    assert purge(at=NOON) == purged(import_lines=2)

    assert not CardImportRow.objects.exists()
    interrupted.refresh_from_db()
    assert (interrupted.finished_at, interrupted.imported, interrupted.skipped) == (NOON, 2, 2)
    again = run(file, interrupted.merchant)
    assert (again.outcome, again.imported, again.skipped) == (Outcome.ALREADY_IMPORTED, 2, 2)


def test_the_rest_of_an_import_that_was_ended_comes_with_a_changed_file(interrupted, file):
    begin(interrupted, days(8))
    purge(at=NOON)
    file.write_text(file.read_text() + "\n")

    report = run(file, interrupted.merchant, skip_bad=True)

    assert (report.outcome, report.imported, report.skipped) == (Outcome.IMPORTED, 2, 2)
    assert balances(interrupted.merchant) == {f"K-{n}": 5 for n in range(4)}


def test_an_import_that_made_no_card_is_forgotten_and_may_come_again(file):
    merchant = make_merchant()
    job = CardImport.objects.create(merchant=merchant, file_name="f", sha256=fingerprint(file), actor="Mia", rows=4)
    CardImportRow.objects.bulk_create(CardImportRow(card_import=job, line=line) for line in range(2, 6))
    begin(job, days(8))

    assert purge(at=NOON) == purged(import_lines=4)

    assert not CardImport.objects.exists()
    assert run(file, merchant).imported == 4


def test_an_import_that_ended_stays(file):
    merchant = make_merchant()
    run(file, merchant)
    begin(CardImport.objects.get(), days(400))
    before = CardImport.objects.values().get()

    assert purge(at=NOON) == purged()
    assert CardImport.objects.values().get() == before


@pytest.mark.django_db(transaction=True)
def test_an_import_that_goes_on_at_this_moment_is_left_alone(interrupted):
    begin(interrupted, days(8))
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [IMPORT_LOCK, interrupted.merchant_id])
        assert purge(at=NOON) == purged()
        assert CardImportRow.objects.count() == 2
    finally:
        other.close()

    assert purge(at=NOON) == purged(import_lines=2)


def send_all(at) -> None:
    notifications.send_messages(at=at)
    assert not Message.objects.exclude(status="sent").exists()


def kinds() -> list[str]:
    return sorted(Message.objects.values_list("kind", flat=True))


def test_sent_mail_is_kept_for_four_hundred_days():
    make_card()
    send_all(NOON)
    Message.objects.update(sent_at=NOON)

    assert purge(at=NOON + days(400)) == purged()
    assert purge(at=NOON + days(400) + MOMENT) == purged(messages=1)


def test_mail_that_was_never_sent_stays():
    make_card()

    assert purge(at=NOON + days(500)) == purged()


def test_a_warning_outlives_the_expiry_that_it_proves():
    make_card(points=50)
    expire(WARNED)
    expire(GONE)
    send_all(GONE)

    assert purge(at=LONG_AFTER).messages == 2
    assert kinds() == ["loyalty_points_expiring"]


def test_a_warning_goes_when_its_customer_came_back_in_time():
    store = make_store()
    card = make_card(store.merchant, points=50)
    expire(WARNED)
    send_all(WARNED)
    earning.earn(store=store, card_id=card.pk, amount_minor=500, at=WARNED + days(1))

    assert purge(at=LONG_AFTER).messages == 2


def test_a_warning_of_an_earlier_cycle_goes_though_a_later_one_expired():
    store = make_store()
    card = make_card(store.merchant, points=50)
    expire(WARNED)
    earning.earn(store=store, card_id=card.pk, amount_minor=500, at=WARNED + days(1))
    expire(WARNED + days(167))
    expire(WARNED + days(182))
    send_all(WARNED + days(182))

    purge(at=LONG_AFTER + days(400))

    assert Message.objects.get().created_at == WARNED + days(167)


def test_a_warning_goes_that_came_after_the_expiry_and_was_heeded():
    store = make_store()
    card = make_card(store.merchant, points=50)
    expire(WARNED)
    expire(GONE)
    earning.earn(store=store, card_id=card.pk, amount_minor=500, at=GONE + days(1))
    expire(GONE + days(168))
    earning.earn(store=store, card_id=card.pk, amount_minor=500, at=GONE + days(169))
    send_all(GONE + days(169))

    purge(at=LONG_AFTER + days(400))

    assert Message.objects.get().created_at == WARNED


def test_a_warning_stays_while_its_promise_is_open():
    card = make_card(points=50)
    expire(WARNED)
    send_all(WARNED)

    assert purge(at=LONG_AFTER).messages == 1
    assert kinds() == ["loyalty_points_expiring"]
    erase_customer(
        merchant=card.program.merchant, customer_id=card.customer_id, reason="asked", actor="ana", at=LONG_AFTER
    )
    assert purge(at=LONG_AFTER).messages == 1


def test_the_warning_of_one_card_does_not_keep_that_of_another():
    store = make_store()
    expired, rescued = make_card(store.merchant, points=50), make_card(store.merchant, points=50)
    expire(WARNED)
    earning.earn(store=store, card_id=rescued.pk, amount_minor=500, at=WARNED + days(1))
    expire(GONE)
    send_all(GONE)

    purge(at=LONG_AFTER)

    assert Message.objects.get().reference == str(expired.pk)


def test_purging_again_changes_nothing(interrupted):
    begin(interrupted, days(8))
    make_answer(1, NOON - days(31))
    make_card(points=50)
    expire(WARNED)
    expire(GONE)
    send_all(GONE)
    first = purge(at=LONG_AFTER)
    before = table_hashes()

    assert first == purged(answered_requests=1, import_lines=2, messages=2)
    assert purge(at=LONG_AFTER) == purged()
    assert table_hashes() == before


def test_the_task_purges_by_the_clock_and_reports_numbers_only():
    make_answer(1, timezone.now() - days(31))
    make_answer(2, timezone.now() - days(29))

    assert tasks.purge() == asdict(purged(answered_requests=1))


def test_one_event_says_what_went(caplog):
    make_answer(1, NOON - days(31))
    purge(at=NOON)

    [event] = [record.msg for record in caplog.records if "loyalty.records_purged" in str(record.msg)]
    assert isinstance(event, dict)
    assert (event["answered_requests"], event["messages"]) == (1, 0)
