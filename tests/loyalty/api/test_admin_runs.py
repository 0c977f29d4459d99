"""Expiration runs in the hands of back offices, over HTTP."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.models import CardBalance, ExpirationRun, Merchant, Transaction
from loyalty.services.ledger_check import check_ledger
from tests.factories import balance_of, days, make_card, make_cards, make_merchant
from tests.loyalty.api.offices import Office
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def merchant():
    return make_merchant()


@pytest.fixture
def office(merchant):
    return Office(merchant, role="manager")


def refused(answer, status: int, code: str, pointer: str | None = None) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    problem: dict[str, Any] = answer.json()
    return problem


def without_id(answer) -> dict[str, Any]:
    return {**answer.json(), "request_id": ""}


def make_due(merchant: Merchant, number: int = 3, points: int = 10) -> None:
    """Cards whose customers were warned and whose points go with the next run."""
    now = timezone.now()
    make_cards(merchant, number, points=points, at=now - days(200))
    expire(now - days(30), merchant=merchant)


def lose(*merchants: Merchant) -> int:
    """A run over all merchants that takes the points of three cards of each. Returns its id."""
    for merchant in merchants:
        make_due(merchant)
    run_id = expire(timezone.now()).run_id
    assert run_id is not None
    return run_id


def points_of(merchant: Merchant) -> int:
    return sum(CardBalance.objects.filter(program__merchant=merchant).values_list("points_balance", flat=True))


# --- starting


def test_a_manager_expires_what_is_due_once(office, merchant):
    make_due(merchant)
    make_cards(merchant, 2, points=5, at=timezone.now() - days(170))
    make_due(other := make_merchant())

    first = office.post("expiration-runs", {"merchant_id": merchant.pk}, key="tonight-1")
    again = office.post("expiration-runs", {"merchant_id": merchant.pk}, key="tonight-1")

    assert (first.status_code, again.content, again.headers["Idempotency-Replayed"]) == (201, first.content, "true")
    run = ExpirationRun.objects.get(trigger="api")
    assert first.json() == {
        "run_id": run.pk,
        "status": "succeeded",
        "programs": 1,
        "cards_expired": 3,
        "points_expired": 30,
        "warnings": 2,
        "skipped_locked": 0,
        "skipped_exempt": 0,
        "failed": 0,
        "failed_card_ids": [],
        "warned_past_limit": {"cards": 0, "points": 0, "first_day": None, "last_day": None},
        "refusals": [],
        "errors": [],
        "sentence": "Expired 3 cards, 30 points, 2 warnings",
    }
    assert (run.merchant, run.initiated_by, run.as_of) == (merchant, office.user.username, run.started_at)
    assert (points_of(merchant), points_of(other)) == (10, 30)


def wait_for_waiting(number: int) -> None:
    """Until so many connections wait for a lock."""
    deadline = time.monotonic() + 20
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0] >= number:
                return
            time.sleep(0.02)
    raise AssertionError("they did not wait")


def test_two_requests_with_one_key_at_the_same_moment_get_one_answer(office, merchant):
    make_due(merchant, number=4)

    def start(_: int) -> Any:
        try:
            return office.post("expiration-runs", {"merchant_id": merchant.pk}, key="tonight-1")
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic(), connection.cursor() as cursor:
            # Both have found no answer and begin their run, before either can answer.
            cursor.execute("LOCK TABLE loyalty_expirationrun IN SHARE MODE")
            twins = [pool.submit(start, number) for number in range(2)]
            wait_for_waiting(2)
        answers = [twin.result(timeout=30) for twin in twins]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert Transaction.objects.filter(type="POINTS_EXPIRED").count() == 4
    assert points_of(merchant) == 0


def test_a_refused_run_names_the_number_to_confirm(office, merchant, settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 2
    merchant.program.require_expiration_notice = False
    merchant.program.save()
    make_cards(merchant, 3, points=10, at=timezone.now() - days(200))
    body = {"merchant_id": merchant.pk}

    stopped = office.post("expiration-runs", body).json()
    [refusal] = stopped["refusals"]
    done = office.post("expiration-runs", {**body, "confirmed_cards": refusal["cards"]}).json()

    assert (stopped["status"], stopped["cards_expired"]) == ("refused", 0)
    assert (refusal["merchant"], refusal["cards"]) == (merchant.slug, 3)
    assert (done["status"], done["cards_expired"]) == ("succeeded", 3)


def test_points_go_without_a_notice_only_with_a_reason(office, merchant):
    make_cards(merchant, 3, points=10, at=timezone.now() - days(200))
    body = {"merchant_id": merchant.pk, "without_notice": True}

    refused(office.post("expiration-runs", body), 400, "reason_required")
    done = office.post("expiration-runs", {**body, "reason": "The shop closes"})

    assert (done.status_code, done.json()["cards_expired"]) == (201, 3)
    assert ExpirationRun.objects.get().reason == "The shop closes"


def test_only_a_platform_admin_runs_over_all_merchants(office, merchant):
    make_due(merchant)
    make_due(make_merchant())
    for path in ("expiration-runs", "expiration-runs/preview"):
        refused(office.post(path, {"merchant_id": None}), 403, "permission_denied")
        refused(office.post(path, {}), 400, "invalid_request", "/merchant_id")

    assert Office().post("expiration-runs/preview", {"merchant_id": None}).json()["cards_expired"] == 6
    assert Office().post("expiration-runs", {"merchant_id": None}).json()["cards_expired"] == 6


@pytest.mark.parametrize("option", [{"confirmed_cards": 5}, {"without_notice": True, "reason": "Costs"}])
def test_what_is_confirmed_is_confirmed_for_one_merchant(option):
    refused(Office().post("expiration-runs", {"merchant_id": None, **option}), 400, "invalid_input", "/merchant_id")
    assert not ExpirationRun.objects.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("merchant_id", 0),
        ("merchant_id", "1"),
        ("merchant_id", 10**30),
        ("confirmed_cards", -1),
        ("confirmed_cards", 10**12),
        ("without_notice", "yes"),
        ("reason", "x" * 501),
        ("reason", "a\x00b"),
        ("as_of", "2026-01-01T00:00:00Z"),
    ],
)
def test_a_run_of_another_form_is_refused_by_name(office, merchant, name, value):
    body = {"merchant_id": merchant.pk, name: value}

    refused(office.post("expiration-runs", body), 400, "invalid_request", f"/{name}")
    assert not ExpirationRun.objects.exists()


# --- trying out


def test_a_preview_tells_what_a_run_would_do_and_writes_nothing(office, merchant):
    make_due(merchant)
    make_cards(merchant, 1, points=7, at=timezone.now() - days(300))
    before = table_hashes()

    answer = office.post("expiration-runs/preview", {"merchant_id": merchant.pk})

    told = answer.json()
    assert (answer.status_code, told["run_id"], told["status"]) == (200, None, "preview")
    assert (told["cards_expired"], told["points_expired"], told["warnings"]) == (3, 30, 1)
    last_day = (timezone.now() + days(14)).date().isoformat()
    assert told["warned_past_limit"] == {"cards": 1, "points": 7, "first_day": last_day, "last_day": last_day}
    after = table_hashes()
    assert {t for t in after if after[t] != before[t]} <= {"loyalty_userapikey"}  # when the key was last used


def test_a_preview_looks_at_another_moment(office, merchant):
    make_due(merchant)
    body = {"merchant_id": merchant.pk, "as_of": (timezone.now() - days(29)).isoformat()}

    assert office.post("expiration-runs/preview", body).json()["cards_expired"] == 0


@pytest.mark.parametrize("as_of", ["1980-01-01T00:00:00Z", "2199-12-31T23:59:59Z"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
def test_a_preview_knows_the_ends_of_the_calendar(as_of, zone):
    merchant = make_merchant(timezone=zone, points_expiration_days=3650, expiration_warning_days=365)
    make_cards(merchant, 1)
    body = {"merchant_id": merchant.pk, "as_of": as_of}

    assert Office().post("expiration-runs/preview", body).status_code == 200


# --- looking


def test_the_list_shows_the_runs_of_the_users_merchants(office, merchant):
    other = make_merchant()
    of_all = lose(merchant, other)
    own = ExpirationRun.objects.filter(merchant=merchant).latest("pk").pk
    foreign = ExpirationRun.objects.filter(merchant=other).latest("pk").pk

    def shown(asker: Office, **query) -> list[int]:
        return [row["id"] for row in asker.get("expiration-runs", **query).json()["results"]]

    assert shown(office) == shown(office, merchant_id=merchant.pk) == [own]
    assert shown(Office()) == [of_all, foreign, own]
    assert shown(Office(), status="failed") == []
    refused(office.get("expiration-runs", merchant_id=other.pk), 404, "merchant_not_found")
    for run_id in (of_all, foreign, 987_654_321):
        assert without_id(office.get(f"expiration-runs/{run_id}"))["code"] == "run_not_found"
    assert Office().get(f"expiration-runs/{of_all}").json()["merchant_id"] is None


def test_a_run_tells_what_it_did(office, merchant):
    make_due(merchant)
    run_id = office.post("expiration-runs", {"merchant_id": merchant.pk}).json()["run_id"]
    ExpirationRun.objects.filter(pk=run_id).update(failed_card_ids=list(range(1, 1501)), failed=1500)

    told = office.get(f"expiration-runs/{run_id}").json()

    assert (told["status"], told["trigger"], told["cards_expired"], told["failed"]) == ("succeeded", "api", 3, 1500)
    assert told["failed_card_ids"] == list(range(1, 1001))
    assert "failed_card_ids" not in office.get("expiration-runs").json()["results"][0]


def test_a_merchant_sees_what_each_run_took_from_its_cards_alone(office, merchant):
    other = make_merchant()
    of_all = lose(merchant, other)
    warned_in = ExpirationRun.objects.filter(merchant=merchant).latest("pk").pk

    rows = office.get(f"merchants/{merchant.pk}/expirations").json()["results"]

    assert [(row["run_id"], row["is_over_all_merchants"]) for row in rows] == [(of_all, True), (warned_in, False)]
    assert [(row["cards_expired"], row["points_expired"]) for row in rows] == [(3, 30), (0, 0)]
    assert ExpirationRun.objects.get(pk=of_all).cards_expired == 6
    refused(office.get(f"merchants/{other.pk}/expirations"), 404, "merchant_not_found")


@pytest.mark.parametrize("path", ["expiration-runs", "merchants/{}/expirations"])
def test_a_long_list_takes_no_more_statements(office, merchant, path):
    address = path.format(merchant.pk)
    office.get(address)

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert office.get(address).json()["results"]
        return len(captured)

    expire(timezone.now(), merchant=merchant)
    one = statements()
    for _ in range(4):
        expire(timezone.now(), merchant=merchant)
    assert statements() == one


# --- giving back


def test_support_gives_a_run_back_once(merchant):
    make_due(merchant)
    run_id = expire(timezone.now(), merchant=merchant).run_id
    support = Office(merchant, role="support")
    path, body = f"expiration-runs/{run_id}/restore", {"reason": "Wrong policy"}

    first = support.post(path, body, key="restore-1")
    again = support.post(path, body, key="restore-1")
    once_more = support.post(path, body).json()

    assert (first.status_code, again.content) == (200, first.content)
    card_ids = sorted(Transaction.objects.filter(expiration_run=run_id).values_list("card_id", flat=True))
    assert first.json() == {
        "run_id": run_id,
        "restored_cards": 3,
        "restored_points": 30,
        "already_restored": 0,
        "already_restored_card_ids": [],
        "skipped": 0,
        "skipped_card_ids": [],
        "failed": 0,
        "failed_card_ids": [],
    }
    assert (once_more["restored_cards"], once_more["already_restored"]) == (0, 3)
    assert sorted(once_more["already_restored_card_ids"]) == card_ids
    row = Transaction.objects.filter(type="ADMIN_ADJUSTMENT").latest("pk")
    assert (row.actor, row.reason, points_of(merchant)) == (support.user.username, "Wrong policy", 30)


def test_of_a_run_over_all_a_manager_gives_back_what_is_the_merchants(office, merchant):
    other = make_merchant()
    run_id = lose(merchant, other)
    path = f"expiration-runs/{run_id}/restore"

    refused(office.post(path, {"reason": "Wrong policy"}), 404, "run_not_found")
    refused(office.post(path, {"reason": "Wrong policy", "merchant_id": other.pk}), 404, "merchant_not_found")
    assert (points_of(merchant), points_of(other)) == (0, 0)
    given = office.post(path, {"reason": "Wrong policy", "merchant_id": merchant.pk}).json()

    assert (given["restored_cards"], given["restored_points"]) == (3, 30)
    assert (points_of(merchant), points_of(other)) == (30, 0)


def test_a_platform_admin_gives_everything_back(merchant):
    other = make_merchant()
    run_id = lose(merchant, other)

    given = Office().post(f"expiration-runs/{run_id}/restore", {"reason": "Wrong policy"}).json()

    assert (given["restored_cards"], points_of(merchant), points_of(other)) == (6, 30, 30)


def test_the_same_run_given_back_by_many_at_once_is_given_back_once(merchant):
    other = make_merchant()
    run_id = lose(merchant, other)
    offices = [Office(merchant, role="support"), Office(other, role="manager"), Office(), Office(merchant, "manager")]
    bodies: list[dict[str, Any]] = [
        {"reason": "A", "merchant_id": merchant.pk},
        {"reason": "B", "merchant_id": other.pk},
        {"reason": "C"},
        {"reason": "D", "merchant_id": merchant.pk},
    ]
    answers: list[Any] = []

    in_parallel(lambda n: answers.append(offices[n].post(f"expiration-runs/{run_id}/restore", bodies[n]).json()), 4)

    assert sum(answer["restored_cards"] for answer in answers) == 6
    assert (points_of(merchant), points_of(other)) == (30, 30)
    assert check_ledger().mismatches == []


def test_a_run_of_another_merchant_is_answered_like_an_unknown_one(office, merchant):
    make_due(other := make_merchant())
    foreign = expire(timezone.now(), merchant=other).run_id

    for body in ({"reason": "R"}, {"reason": "R", "merchant_id": merchant.pk}):
        answers = [without_id(office.post(f"expiration-runs/{pk}/restore", body)) for pk in (foreign, 987_654_321)]
        assert answers[0] == answers[1]
        assert answers[0]["code"] == "run_not_found"
    refused(
        Office().post(f"expiration-runs/{foreign}/restore", {"reason": "R", "merchant_id": merchant.pk}),
        *(404, "run_not_found"),
    )
    assert points_of(other) == 0


def test_a_run_that_works_is_not_given_back_yet(office, merchant):
    run = ExpirationRun.objects.create(
        trigger="api", as_of=timezone.now(), started_at=timezone.now(), merchant=merchant
    )

    refused(office.post(f"expiration-runs/{run.pk}/restore", {"reason": "R"}), 409, "run_not_finished")


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": 5}])
def test_giving_back_needs_a_reason(office, merchant, body):
    run_id = expire(timezone.now(), merchant=merchant).run_id

    refused(office.post(f"expiration-runs/{run_id}/restore", body), 400, "invalid_request", "/reason")


def test_closed_cards_are_skipped_and_named(office, merchant):
    card = make_card(merchant, points=10, at=timezone.now() - days(200))
    expire(timezone.now() - timedelta(days=30), merchant=merchant)
    run_id = expire(timezone.now(), merchant=merchant).run_id
    card.status = "closed"
    card.save()

    given = office.post(f"expiration-runs/{run_id}/restore", {"reason": "R"}).json()

    assert (given["restored_cards"], given["skipped"], given["skipped_card_ids"]) == (0, 1, [card.pk])
    assert balance_of(card).points_balance == 0


def test_support_starts_nothing(merchant):
    support = Office(merchant, role="support")

    refused(support.post("expiration-runs", {"merchant_id": merchant.pk}), 403, "permission_denied")
    assert support.post("expiration-runs/preview", {"merchant_id": merchant.pk}).status_code == 200
    assert support.get("expiration-runs").status_code == 200
    assert support.get(f"merchants/{merchant.pk}/expirations").status_code == 200
