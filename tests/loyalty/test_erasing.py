"""After an erasure nothing in the database or the log tells who the customer was, and every total is as before."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest

from loyalty.errors import (
    AlreadyEnrolled,
    AlreadyErased,
    CardNotActive,
    CardNotFound,
    CustomerNotFound,
    IdempotencyKeyExpired,
    IdempotencyKeyReused,
    InvalidInput,
    ReasonRequired,
)
from loyalty.models import (
    Card,
    CardImportRow,
    Customer,
    ExemptionChange,
    IdempotencyKey,
    ReceiptClaim,
    Transaction,
)
from loyalty.services import adjustments, earning, enrolment, merging, restoring
from loyalty.services.enrolment import Person
from loyalty.services.explaining import explain
from loyalty.services.ledger_check import check_ledger
from loyalty.services.merchants import find_card
from loyalty.services.once import AnsweredBefore
from loyalty.services.privacy import erase_customer, export_customer, find_customer, preview_erasure
from notifications import services as notifications
from notifications.models import Message
from tests.factories import NOON, balance_of, days, make_card, make_merchant
from tests.loyalty.personal import EMAIL, EXTERNAL_ID, FIRST_KEY, PHONE, SECOND_KEY, found, live, request_of, totals
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db
LATER = NOON + days(1)
REASON = "asked for by letter 17"


@pytest.fixture
def life():
    return live()


def erase(life, **words):
    asked = {"merchant": life.merchant, "customer_id": life.customer.pk, "reason": REASON, "actor": "ana", "at": LATER}
    return erase_customer(**{**asked, **words})


def test_no_trace_of_the_person_is_left_anywhere(life, caplog, capfd):
    assert set(found(life.traces)) == set(life.traces)

    erase(life)

    printed = capfd.readouterr()
    logged = caplog.text + printed.out + printed.err
    assert found(life.traces) == {}
    assert [name for name, trace in life.traces.items() if trace.lower() in logged.lower()] == []
    assert "loyalty.customer_erased" in logged


def test_every_column_of_the_customer_is_emptied_or_known_to_name_nobody(life):
    erase(life)

    left = Customer.objects.filter(pk=life.customer.pk).values().get()
    assert {name for name, value in left.items() if value} == {"id", "merchant_id", "created_at", "erased_at"}
    assert left["erased_at"] == LATER


def test_totals_stay_but_for_the_close_out(life):
    before = totals()

    erase(life)

    rows, points, stamps = before["ADMIN_ADJUSTMENT"]
    closed_out = {"ADMIN_ADJUSTMENT": (rows + 1, points - 34, stamps - 3), "CARD_DEACTIVATED": (2, 0, 0)}
    assert totals() == {**before, **closed_out}
    assert check_ledger().mismatches == []


def test_each_card_ends_with_who_erased_it_and_why(life):
    version = balance_of(life.card).version

    report = erase(life)

    for card in (life.card, life.old_card):
        last = Transaction.objects.filter(card=card).latest("seq")
        assert (last.type, last.reason, last.actor, last.created_at) == ("CARD_DEACTIVATED", REASON, "ana", LATER)
    close_out = Transaction.objects.get(card=life.card, type="ADMIN_ADJUSTMENT", reason=REASON)
    assert (close_out.points_delta, close_out.stamps_delta, close_out.points_balance_after) == (-34, -3, 0)
    balance = balance_of(life.card)
    assert (balance.points_balance, balance.stamp_count, balance.version) == (0, 0, version + 2)
    assert balance.last_activity_at == NOON
    assert (report.card_ids, report.points, report.stamps) == ([life.old_card.pk, life.card.pk], 34, 3)


def test_what_was_sold_stays_and_notes_are_overwritten_only_where_there_were_some(life):
    columns = ("type", "points_delta", "amount_minor", "receipt_number", "actor", "store_id", "idempotency_key")
    rows = Transaction.objects.filter(card=life.card).order_by("seq")
    before = list(rows.values_list(*columns))

    erase(life)

    assert list(rows.values_list(*columns))[: len(before)] == before
    assert list(rows.values_list("reason", "details", "client_address", "client_agent")[: len(before)]) == [
        ("", {}, "", ""),
        ("", {}, "erased", "erased"),
        ("", {}, "erased", "erased"),
        ("erased", {}, "", ""),
        ("", "erased", "", ""),
        ("erased", "erased", "", ""),
    ]
    assert ReceiptClaim.objects.get().receipt_number == "R1"


def test_the_other_half_of_a_merge_loses_its_reason_and_nothing_else(life):
    stranger = make_card(life.merchant)
    adjustments.adjust(merchant=life.merchant, card_id=stranger.pk, points=1, reason="kind", actor="ana", at=NOON)

    report = erase(life)

    others = Transaction.objects.exclude(card__customer=life.customer).exclude(reason="").order_by("pk")
    assert list(others.values_list("type", "reason", "details")) == [
        ("MERGE_OUT", "erased", {"merged_into": life.card.pk}),
        ("ADMIN_ADJUSTMENT", "kind", {}),
    ]
    assert report.merged_customer_ids == [life.friend.customer_id]
    assert Customer.objects.get(pk=life.friend.customer_id).email == life.friend.customer.email


def test_other_merges_of_the_card_that_somebody_became_keep_their_reason(life):
    third = make_card(life.merchant)
    words = {"merchant": life.merchant, "target_id": life.card.pk, "reason": "moved house", "actor": "ana", "at": NOON}
    merging.merge_cards(source_id=third.pk, **words)

    erase(life, customer_id=life.friend.customer_id)

    kept = Transaction.objects.filter(type__in=["MERGE_IN", "MERGE_OUT"]).exclude(reason="erased")
    assert sorted(kept.values_list("type", "reason", "card")) == [
        ("MERGE_IN", "moved house", life.card.pk),
        ("MERGE_OUT", "moved house", third.pk),
    ]


def test_cards_of_the_same_customer_that_were_merged_are_erased_and_name_nobody_else(life):
    Card.objects.filter(pk=life.friend.pk).update(status="closed", merged_into=None)
    Card.objects.filter(pk=life.old_card.pk).update(status="merged", merged_into=life.card)

    report = erase(life)

    assert report.merged_customer_ids == []
    assert set(Card.objects.filter(customer=life.customer).values_list("status", "merged_into")) == {("erased", None)}


def test_who_was_merged_away_is_erased_and_the_card_that_they_became_stays(life):
    report = erase(life, customer_id=life.friend.customer_id)

    life.friend.refresh_from_db()
    assert (life.friend.status, life.friend.merged_into) == ("erased", None)
    assert report.merged_customer_ids == [life.customer.pk]
    assert balance_of(life.card).points_balance == 34
    assert "reason of a merge" not in found(life.traces)
    assert "reason of an adjustment" in found(life.traces)


def test_the_old_number_and_qr_token_lead_nowhere(life):
    erase(life)

    for card in (life.card, life.old_card):
        with pytest.raises(CardNotFound):
            find_card(card.card_number)
    assert not Card.objects.filter(qr_token__in=[life.card.qr_token, life.old_card.qr_token]).exists()
    assert set(Card.objects.filter(customer=life.customer).values_list("status", flat=True)) == {"erased"}


def test_an_exemption_ends_and_its_history_names_no_reason_but_this_one(life):
    erase(life)

    life.card.refresh_from_db()
    assert (life.card.expiration_exempt, life.card.expiration_exempt_reason) == (False, "")
    changes = ExemptionChange.objects.order_by("pk").values_list("exempt", "reason", "actor")
    assert list(changes) == [(True, "erased", "ana"), (False, REASON, "ana")]


def test_messages_are_emptied_and_nothing_more_is_sent(life):
    again = Message.objects.get(status="sent", reference=str(life.card.pk))
    notifications.send_again(message_id=again.pk, at=LATER)

    report = erase(life)

    about = Message.objects.filter(reference__in=[str(life.card.pk), str(life.old_card.pk)])
    assert set(about.values_list("recipient", flat=True)) == {"erased"}
    assert [message.context for message in about] == [{}] * 3 == [{}] * report.messages
    assert notifications.send_messages(at=LATER + days(1)).sent == 0
    assert Message.objects.get(reference=str(life.friend.pk)).recipient == life.friend.customer.email


def test_a_repeated_request_hears_that_its_answer_is_not_kept(life):
    erase(life)

    with pytest.raises(IdempotencyKeyExpired):
        enrolment.enrol(
            merchant=life.merchant, person=Person(email=EMAIL), at=LATER, request=request_of(life.merchant, FIRST_KEY)
        )
    with pytest.raises(IdempotencyKeyExpired):
        earning.earn(
            store=life.store,
            card_id=life.card.pk,
            amount_minor=5000,
            at=LATER,
            request=request_of(life.merchant, SECOND_KEY),
        )
    assert not IdempotencyKey.objects.exists()


def test_waiting_lines_of_other_people_and_merchants_stay(life):
    report = erase(life)

    assert report.import_lines == 3
    assert list(CardImportRow.objects.values_list("email", flat=True)) == ["ben@example.com"]


def test_the_person_may_enrol_again_as_somebody_new(life):
    erase(life)

    card = enrolment.enrol(
        merchant=life.merchant, person=Person(email=EMAIL, phone=PHONE, external_id=EXTERNAL_ID), at=LATER
    )

    assert card.customer_id != life.customer.pk
    assert card.balance.points_balance == 0
    with pytest.raises(AlreadyEnrolled):
        enrolment.enrol(merchant=life.merchant, person=Person(email=EMAIL), at=LATER)


def test_nothing_can_be_done_with_an_erased_card(life):
    erase(life)
    words = {"merchant": life.merchant, "card_id": life.card.pk, "reason": "back", "actor": "ana", "at": LATER}
    refused: list[Callable[[], object]] = [
        lambda: earning.earn(store=life.store, card_id=life.card.pk, amount_minor=500, at=LATER),
        lambda: adjustments.adjust(points=5, **words),
        lambda: restoring.restore_points(points=5, **words),
        lambda: adjustments.exempt_from_expiry(**words),
    ]

    for act in refused:
        with pytest.raises(CardNotActive):
            act()
    assert balance_of(life.card).points_balance == 0


def test_the_story_of_an_erased_card_is_told_without_what_was_erased(life):
    card = make_card(life.merchant, points=30)
    give_back = {"merchant": life.merchant, "card_id": card.pk, "points": 30, "reason": "sorry", "actor": "ana"}
    expire(NOON + days(170))
    expire(NOON + days(190))
    restoring.restore_points(at=NOON + days(191), **give_back)
    erase(life, customer_id=card.customer_id, at=NOON + days(192))

    told = explain(merchant=life.merchant, card_id=card.pk, at=NOON + days(193))

    assert [movement.sentence for movement in told.movements] == [
        f"Card deactivated. {REASON}",
        f"ana adjusted the balance by -30 points: {REASON}",
        "ana adjusted the balance by +30 points: erased",
        "Points expired.",
        "Balance imported.",
        "Card created.",
    ]


def test_an_erased_card_is_neither_warned_nor_expired(life):
    card = make_card(life.merchant, points=30)
    warnings = expire(NOON + days(170)).tally.warnings
    erase(life, customer_id=card.customer_id, at=NOON + days(171))

    later = expire(NOON + days(400)).tally

    assert (warnings, later.warnings, later.cards_expired) == (1, 0, 0)


def test_what_is_left_can_be_exported(life):
    erase(life)

    document = export_customer(merchant=life.merchant, customer_id=life.customer.pk, at=LATER)

    assert document["customer"]["email"] == ""
    assert (document["import_lines"], document["answered_requests"]) == ([], [])
    text = json.dumps(document).lower()
    assert [name for name, trace in life.traces.items() if trace.lower() in text] == []


def test_a_preview_tells_the_same_and_writes_nothing(life):
    before = table_hashes()
    told = preview_erasure(merchant=life.merchant, customer_id=life.customer.pk)
    unchanged = table_hashes() == before

    assert unchanged
    assert told == erase(life)
    assert (told.points, told.stamps, told.messages, told.answered_requests, told.import_lines) == (34, 3, 3, 3, 3)


def test_a_repeated_request_to_erase_gets_the_answer_of_the_first(life):
    request = request_of(life.merchant, "key-of-the-erasure")
    report = erase(life, request=request)

    with pytest.raises(AnsweredBefore) as again:
        erase(life, request=request)
    with pytest.raises(IdempotencyKeyReused):
        erase(life, customer_id=life.friend.customer_id, request=replace(request, fingerprint="other"))

    assert again.value.answer == asdict(report)
    assert Customer.objects.get(pk=life.friend.customer_id).erased_at is None


def test_a_customer_is_erased_once(life):
    erase(life)
    before = table_hashes()

    for act in (erase, lambda life: preview_erasure(merchant=life.merchant, customer_id=life.customer.pk)):
        with pytest.raises(AlreadyErased):
            act(life)
    assert table_hashes() == before


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ({"reason": " "}, ReasonRequired),
        ({"reason": "x" * 501}, InvalidInput),
        ({"customer_id": 10**12}, CustomerNotFound),
    ],
)
def test_a_refused_erasure_changes_nothing(words, refusal, life):
    before = table_hashes()

    with pytest.raises(refusal):
        erase(life, **words)
    assert table_hashes() == before


def test_a_customer_of_another_merchant_is_unknown(life):
    other = make_merchant()
    before = table_hashes()

    with pytest.raises(CustomerNotFound):
        erase(life, merchant=other)
    with pytest.raises(CustomerNotFound):
        preview_erasure(merchant=other, customer_id=life.customer.pk)
    assert table_hashes() == before


def test_a_customer_without_a_card_is_erased(life):
    customer = Customer.objects.create(merchant=life.merchant, email="lone@example.com", created_at=NOON)

    report = erase(life, customer_id=customer.pk)

    assert (report.card_ids, report.points) == ([], 0)
    with pytest.raises(CustomerNotFound):
        find_customer(merchant=life.merchant, name="lone@example.com")
