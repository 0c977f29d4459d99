"""What /metrics says about an installation, and what it never says."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loyalty.api.problems import PROBLEMS
from loyalty.models import ExpirationRun, StaffMember, TransactionType
from loyalty.services import earning
from loyalty_site import jobs
from loyalty_site.metrics import collecting, counters, middleware, rollups, throttled
from loyalty_site.metrics.collecting import STATES, StateCollector
from loyalty_site.metrics.declaring import TASKS, State
from loyalty_site.models import JobRun
from loyalty_site.schedules import ROLLUP, STOCK
from loyalty_site.tasks import heartbeat
from notifications.models import Message
from tests.factories import give, make_card, make_cards, make_merchant, make_store
from tests.fakes.celery_process import ROOT, broker, environment
from tests.loyalty.api.tills import Till
from wallet.models import Breaker, Credential, Pass, SyncRun

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TOKEN = "for-prometheus-alone"
MOST_SERIES = 650
Read = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def seconds(moment: datetime) -> float:
    return moment.timestamp()


def parsed(text: str) -> Read:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(at: datetime = NOW) -> Read:
    registry = CollectorRegistry()
    registry.register(StateCollector(at))
    return parsed(generate_latest(registry).decode())


def value(name: str, found: Read | None = None, **labels: str) -> float | None:
    """A series of the state, None when there is none."""
    return (read() if found is None else found).get((name, frozenset(labels.items())))


def ran(task: str, moment: datetime, **changes: Any) -> JobRun:
    fields = {"status": "succeeded", "started_at": moment, "finished_at": moment, "result": {}, **changes}
    return JobRun.objects.create(task=task, task_id=f"{task} {moment}", **fields)


def expired(moment: datetime, **changes: Any) -> ExpirationRun:
    fields = {"as_of": moment, "finished_at": moment, "status": "succeeded", "trigger": "schedule", **changes}
    return ExpirationRun.objects.create(started_at=moment, **fields)


def message(**changes: Any) -> Message:
    fields = {
        "kind": Message.Kind.POINTS_EXPIRED,
        "scope": "1",
        "reference": "1",
        "recipient": "anna@example.org",
        "locale": "en",
        "context": {},
        "dedupe_key": f"key {Message.objects.count()}",
        "status": Message.Status.DUE,
        "attempts": 0,
        "resends": 0,
        "created_at": NOW,
        "next_attempt_at": NOW,
    }
    return Message.objects.create(**{**fields, **changes})


def credential(kind: str = "apple", **changes: Any) -> Credential:
    fields = {
        "kind": kind,
        "identifier": f"pass.com.example.{kind}",
        "version": Credential.objects.count() + 1,
        "status": "active",
        "valid_from": ago(days=100),
        "valid_until": None,
        "secret_file": "" if kind == "wwdr" else "file:key",
        "imported_at": NOW,
    }
    return Credential.objects.create(**{**fields, **changes})


def synced(moment: datetime, **changes: Any) -> SyncRun:
    fields = {"status": "succeeded", "finished_at": moment + timedelta(seconds=3), "trigger": "schedule", **changes}
    return SyncRun.objects.create(started_at=moment, **fields)


class TestTheDoor:
    @pytest.fixture(autouse=True)
    def _token(self, settings):
        settings.METRICS_TOKEN = TOKEN

    def test_opens_for_the_token(self, client):
        answer = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})

        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain; version=")
        assert value("loyalty_scrape_errors", parsed(answer.text), part="jobs") == 0

    def test_does_not_exist_without_a_token_in_the_settings(self, client, settings):
        settings.METRICS_TOKEN = ""

        assert client.get("/metrics", headers={"authorization": "Bearer "}).status_code == 404

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \u00e9"])
    def test_stays_shut_for_anything_else(self, client, header):
        answer = client.get("/metrics", headers={"authorization": header} if header else {})

        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
        assert "loyalty_" not in answer.text

    def test_is_not_sent_to_https_and_takes_no_writes(self, client, settings):
        settings.SECURE_SSL_REDIRECT = True

        assert client.get("/metrics").status_code == 401
        assert client.post("/metrics").status_code == 405


class TestNames:
    def test_begin_with_loyalty_and_end_in_base_units(self):
        names = [state.name for state in STATES] + [metric._name for metric in counters.COUNTED]

        assert len(names) == len(set(names))
        assert not [name for name in names if not re.fullmatch(r"loyalty_[a-z0-9_]+", name)]
        assert not [name for name in names if re.search(r"_(ms|minutes|hours|days|percent)$", name)]

    def test_make_a_bounded_number_of_series(self):
        assert sum(state.series for state in STATES) + counted_series() <= MOST_SERIES

    def test_refuse_a_value_that_was_not_declared(self):
        state = State("loyalty_test", "A test.", {"part": ("one",)})

        with pytest.raises(ValueError, match="no series"):
            state.read(1, part="ana@example.com")
        with pytest.raises(ValueError, match="no series"):
            state.read(1)

    def test_of_labels_come_from_enumerations(self):
        labels = {label for state in STATES for label in state.labels} | {
            label for metric in counters.COUNTED for label in metric._labelnames
        }

        assert labels == {
            "task", "part", "of", "status", "type", "result", "platform", "kind", "queue", "route", "code",
        }  # fmt: skip


def counted_series() -> int:
    """As many as there can be: every value that the code may give a label."""
    histogram = len(counters.SECONDS) + 3  # +Inf, sum and count
    return (
        len(counters.ROUTES) * len(counters.STATUS_CLASSES)
        + len(counters.ROUTES) * histogram
        + len(PROBLEMS)
        + 1
        + len(TASKS) * len(counters.JOB_RESULTS)
        + len(counters.DELIVERY_RESULTS)
    )


class TestJobs:
    def test_tell_when_each_last_succeeded_and_how_long_it_took(self):
        ran("loyalty.check_ledger", ago(hours=30))
        ran("loyalty.check_ledger", ago(hours=3), finished_at=ago(hours=2))
        ran("loyalty.check_ledger", ago(hours=1), status="failed")

        task = "loyalty.check_ledger"
        assert value("loyalty_job_last_success_timestamp_seconds", task=task) == seconds(ago(hours=2))
        assert value("loyalty_job_last_duration_seconds", task=task) == 3600
        assert value("loyalty_job_last_run_failed", task=task) == 1

    def test_of_staff_with_other_names_are_not_told(self):
        ran("someone.elses_task", NOW)
        PeriodicTask.objects.filter(task="loyalty.purge").update(task="someone.elses_task")

        assert not [labels for _, labels in read() if ("task", "someone.elses_task") in labels]

    def test_that_are_switched_off_are_not_scheduled(self):
        PeriodicTask.objects.filter(task="loyalty.purge").update(enabled=False)
        PeriodicTask.objects.filter(task="loyalty.check_ledger").update(date_changed=ago(days=3))

        found = read()
        name = "loyalty_job_scheduled_timestamp_seconds"
        assert value(name, found, task="loyalty.purge") is None
        assert value(name, found, task="loyalty.check_ledger") == seconds(ago(days=3))

    def test_are_sent_by_a_beat(self):
        PeriodicTask.objects.update(last_run_at=None)
        assert value("loyalty_beat_last_sent_timestamp_seconds") is None
        PeriodicTask.objects.filter(task="loyalty.purge").update(last_run_at=ago(hours=9))
        PeriodicTask.objects.filter(task="loyalty_site.heartbeat").update(last_run_at=ago(minutes=1))

        assert value("loyalty_beat_last_sent_timestamp_seconds") == seconds(ago(minutes=1))

    def test_from_the_future_are_counted(self):
        later = NOW + timedelta(minutes=6)
        ran("loyalty_site.heartbeat", later)
        expired(later)
        synced(later)
        PeriodicTask.objects.filter(task="loyalty.purge").update(last_run_at=later)

        found = read()
        kinds = ["job_runs", "expiration_runs", "sync_runs", "schedule_entries"]
        assert [value("loyalty_timestamps_in_future", found, of=kind) for kind in kinds] == [1, 1, 1, 1]
        assert value("loyalty_timestamps_in_future", read(later), of="job_runs") == 0


class TestExpiry:
    task = "loyalty.expire_points"

    def test_succeeds_by_whole_runs_only(self):
        expired(ago(hours=30))
        expired(ago(hours=20), merchant=make_merchant())
        expired(ago(hours=10), as_of=ago(days=9))
        expired(ago(hours=5), status="failed")
        expired(ago(hours=2), status="refused")
        ran(self.task, ago(hours=1))

        assert value("loyalty_job_last_success_timestamp_seconds", task=self.task) == seconds(ago(hours=30))

    def test_counts_a_run_that_left_cards_out(self):
        expired(ago(hours=2), status="partial", failed=3)

        found = read()
        assert value("loyalty_job_last_success_timestamp_seconds", found, task=self.task) == seconds(ago(hours=2))
        assert value("loyalty_expiration_last_run_failed_cards", found) == 3

    def test_tells_how_the_last_run_ended_and_what_it_did(self):
        expired(ago(hours=26))
        fields = {"cards_expired": 7, "points_expired": 900, "warnings": 12, "finished_at": ago(minutes=59)}
        expired(ago(hours=1), status="refused", **fields)
        expired(ago(minutes=5), status="running", finished_at=None)

        found = read()
        statuses = {status: value("loyalty_expiration_last_run", found, status=status) for status in STATUSES}
        assert statuses == {"succeeded": 0, "partial": 0, "failed": 0, "refused": 1}
        assert value("loyalty_expiration_last_run_expired_cards", found) == 7
        assert value("loyalty_expiration_last_run_expired_points", found) == 900
        assert value("loyalty_expiration_last_run_warnings", found) == 12
        assert value("loyalty_expiration_last_run_duration_seconds", found) == 60

    def test_that_never_ran_tells_nothing(self):
        assert not [name for name, _ in read() if name.startswith("loyalty_expiration_")]


STATUSES = ("succeeded", "partial", "failed", "refused")


class TestTheLedger:
    def test_tells_what_the_last_check_found(self):
        assert value("loyalty_ledger_mismatched_cards") is None
        ran("loyalty.check_ledger", NOW, result={"mismatched_cards": 3})

        assert value("loyalty_ledger_mismatched_cards") == 3

    def test_is_not_counted_before_stock_was_taken(self):
        make_card(points=5)

        assert value("loyalty_ledger_transactions_total", type="BALANCE_IMPORTED") is None

    def test_is_counted_on_from_where_it_was_counted_last(self):
        card = make_card(points=5)
        for _ in range(2):
            ran(STOCK, NOW + timedelta(seconds=JobRun.objects.count()), result=rollups.take_stock())
            give(card, 1, at=NOW)

        found = read()
        counted = {
            kind: value("loyalty_ledger_transactions_total", found, type=kind) for kind in TransactionType.values
        }
        assert {kind: rows for kind, rows in counted.items() if rows} == {"CARD_CREATED": 1, "BALANCE_IMPORTED": 3}

    def test_reads_no_more_rows_than_a_scrape_may(self, monkeypatch):
        make_cards(make_merchant(), 5)

        assert sum(rollups.rows_by_type(after=0, at_most=4).rows.values()) == 4
        assert sum(rollups.rows_by_type(after=0, at_most=None).rows.values()) == 10


class TestMessages:
    @pytest.mark.parametrize(
        ("changes", "age"),
        [
            ({"next_attempt_at": ago(minutes=16), "attempts": 2, "created_at": ago(days=1)}, 960),
            ({"next_attempt_at": NOW + timedelta(minutes=1), "created_at": ago(minutes=20)}, 1200),
            ({"next_attempt_at": NOW + timedelta(minutes=1), "created_at": ago(minutes=20), "attempts": 1}, 0),
            ({"status": "leased", "lease_until": NOW, "next_attempt_at": ago(minutes=3), "attempts": 1}, 180),
            ({"status": "sent", "sent_at": NOW, "next_attempt_at": ago(hours=3), "created_at": ago(hours=3)}, 0),
        ],
        ids=["due", "put off by the mail server", "tried again later", "being sent", "sent"],
    )
    def test_that_are_due_have_an_age(self, changes, age):
        message(**changes)

        assert value("loyalty_outbox_oldest_due_age_seconds") == age

    def test_settled_in_a_day_are_counted(self):
        message(status="sent", sent_at=ago(hours=23), created_at=ago(days=2))
        message(status="sent", sent_at=ago(hours=25))
        message(status="dead", next_attempt_at=ago(hours=23))
        message(status="dead", next_attempt_at=ago(hours=25))
        message()

        found = read()
        assert value("loyalty_messages_settled", found, result="sent") == 1
        assert value("loyalty_messages_settled", found, result="dead") == 1
        assert value("loyalty_dead_letter_newest_timestamp_seconds", found, of="message") == seconds(ago(hours=23))
        assert value("loyalty_dead_letters", found, of="message") == 2

    def test_that_were_cancelled_are_no_dead_letters(self):
        message(status="cancelled", cancelled_at=NOW)

        found = read()
        assert value("loyalty_dead_letter_newest_timestamp_seconds", found, of="message") is None
        assert value("loyalty_dead_letters", found, of="message") == 0


class TestTheWallet:
    def test_tells_when_credentials_in_use_expire_with_their_intermediates(self):
        wwdr = credential("wwdr", valid_until=ago(days=-20))
        credential("wwdr", identifier="Of the same name, and has issued nothing", valid_until=ago(days=-10))
        credential(valid_until=ago(days=-40), issuer=wwdr)
        credential(identifier="pass.com.example.other", valid_until=ago(days=-30))
        credential(status="retired", identifier="pass.com.example.old", valid_until=ago(days=5))

        found = read()
        name = "loyalty_wallet_certificate_expiry_timestamp_seconds"
        assert value(name, found, kind="apple") == seconds(ago(days=-30))
        assert value(name, found, kind="wwdr") == seconds(ago(days=-20))
        assert value(name, found, kind="google") is None
        assert value("loyalty_wallet_platform_on", found, platform="apple") == 1
        assert value("loyalty_wallet_platform_on", found, platform="google") == 0

    def test_tells_how_old_the_key_for_google_is(self):
        credential("google", valid_from=ago(days=91))

        assert value("loyalty_wallet_google_key_created_timestamp_seconds") == seconds(ago(days=91))

    def test_tells_since_when_a_breaker_is_open(self):
        Breaker.objects.create(platform="apple", identifier="a", opened_at=ago(minutes=20))
        Breaker.objects.create(platform="apple", identifier="b", opened_at=ago(minutes=10))
        Breaker.objects.create(platform="google", identifier="c")

        found = read()
        name = "loyalty_wallet_breaker_opened_timestamp_seconds"
        assert value(name, found, platform="apple") == seconds(ago(minutes=20))
        assert value(name, found, platform="google") is None

    def test_adds_up_the_runs_of_an_hour_and_tells_the_last(self):
        synced(ago(minutes=61), examined=1000, pushed=1000)
        synced(ago(minutes=59), examined=10, pushed=4, unchanged=1, deferred=2, retrying=1, dead=2, status="partial")
        synced(ago(minutes=2), examined=5, pushed=5)
        synced(ago(minutes=1), status="skipped")
        synced(ago(seconds=30), status="failed")

        found = read()
        hour = {name: value("loyalty_wallet_synced_passes", found, result=name) for name in ("examined", "dead")}
        assert hour == {"examined": 15, "dead": 2}
        assert value("loyalty_wallet_last_sync_passes", found, result="examined") == 0
        last = value("loyalty_job_last_success_timestamp_seconds", found, task="wallet.sync_passes")
        assert last == seconds(ago(minutes=2)) + 3

    def test_tells_how_many_passes_were_behind(self):
        card = make_card(points=5)
        fields = {"modified_at": NOW, "created_at": NOW, "issued_under": "pass.com.example"}
        Pass.objects.create(card=card, platform="apple", identifier="1", status="active", **fields)
        ran(STOCK, NOW, result=rollups.take_stock())

        found = read()
        assert value("loyalty_wallet_passes_behind", found, platform="apple") == 1
        assert value("loyalty_wallet_passes_behind", found, platform="google") == 0

    def test_tells_when_a_pass_was_given_up(self):
        fields = {"modified_at": NOW, "created_at": NOW, "issued_under": "x", "platform": "apple", "identifier": "1"}
        Pass.objects.create(card=make_card(), dead_at=ago(minutes=9), last_error_code="bad", **fields)

        found = read()
        assert value("loyalty_dead_letter_newest_timestamp_seconds", found, of="pass") == seconds(ago(minutes=9))
        assert value("loyalty_dead_letters", found, of="pass") == 1


class TestStaff:
    def test_who_are_locked_out_are_counted(self):
        one, two = make_merchant(), make_merchant()
        for merchant in (one, one, two):
            StaffMember.objects.create(merchant=merchant, display_name="Ana", locked_until=ago(minutes=-5))
        StaffMember.objects.create(merchant=one, display_name="Ben", locked_until=ago(minutes=5))

        found = read()
        assert value("loyalty_pin_locked_staff", found) == 3
        assert value("loyalty_pin_locked_staff_highest", found) == 2

    def test_nobody_is_locked_out_most_of_the_time(self):
        assert value("loyalty_pin_locked_staff_highest") == 0


class TestTheBusiness:
    def figures(self) -> Read:
        ran(ROLLUP, NOW, result=rollups.roll_up(at=NOW))
        return read()

    def test_has_no_figures_before_the_first_night(self):
        assert value("loyalty_cards_active") is None

    def test_has_cards_at_risk_among_all_that_are_active(self):
        merchant = make_merchant()
        make_cards(merchant, 3, at=ago(days=61))
        make_cards(merchant, 2, at=ago(days=59))
        make_cards(make_merchant(is_active=False), 1, at=ago(days=61))

        found = self.figures()
        assert value("loyalty_cards_active", found) == 5
        assert value("loyalty_cards_at_risk", found) == 3

    def test_counts_merchants_whom_nobody_new_comes_to(self):
        quiet, busy, new = make_merchant(), make_merchant(), make_merchant()
        for merchant in (quiet, busy):
            type(merchant).objects.filter(pk=merchant.pk).update(created_at=ago(days=8))
        type(new).objects.filter(pk=new.pk).update(created_at=ago(days=6))
        make_cards(quiet, 4, at=ago(days=6.9))
        make_cards(quiet, 9, at=ago(days=7.1))
        make_cards(busy, 5, at=ago(days=6.9))

        assert value("loyalty_merchants_with_few_new_cards", self.figures()) == 1
        assert rollups.roll_up(at=NOW)["quiet_merchant_slugs"] == [quiet.slug]

    def test_has_ratios_of_what_is_used(self):
        store = make_store()
        at = ago(days=40)
        card = make_card(store.merchant, at=at)
        earning.earn(store=store, card_id=card.pk, amount_minor=10_000, receipt_number="1", request=None, at=at)

        found = self.figures()
        assert value("loyalty_redemption_ratio", found) == 0
        assert value("loyalty_stamp_completion_ratio", found) is None
        assert value("loyalty_retention_month3_ratio", found) is None

    def test_has_the_cards_that_come_back_in_their_third_month(self):
        store = make_store()
        enrolled, back = datetime(2025, 11, 5, tzinfo=UTC), datetime(2026, 2, 20, tzinfo=UTC)
        cards = [make_card(store.merchant, at=enrolled) for _ in range(4)]
        earning.earn(store=store, card_id=cards[0].pk, amount_minor=900, receipt_number="1", request=None, at=back)

        assert value("loyalty_retention_month3_ratio", self.figures()) == 0.25


class TestTheBroker:
    @pytest.fixture(autouse=True)
    def _empty(self):
        throttled._client.cache_clear()
        with broker() as client:
            client.flushdb()
            yield
            client.flushdb()

    def test_tells_what_waits(self):
        heartbeat.delay()

        found = read()
        assert [value("loyalty_queue_length", found, queue=queue) for queue in ("default", "wallet")] == [1, 0]

    def test_tells_how_often_the_worst_store_was_throttled(self):
        for store, moment, times in ((1, NOW, 3), (2, NOW - timedelta(minutes=1), 7), (3, ago(minutes=3), 9)):
            for _ in range(times):
                throttled.note(store, moment)

        assert value("loyalty_throttled_answers_highest") == 7

    def test_tells_of_a_till_that_asks_too_often(self, settings):
        settings.LOYALTY_THROTTLES = {**settings.LOYALTY_THROTTLES, "lookup": 2}
        till = Till()
        answers = [till.get("cards/1").status_code for _ in range(5)]

        assert value("loyalty_throttled_answers_highest", read(timezone.now())) == answers.count(429) > 0

    def test_that_is_away_hides_nothing_else(self, settings):
        settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
        throttled._client.cache_clear()
        throttled.note(1, NOW)

        found = read()
        throttled._client.cache_clear()
        assert value("loyalty_scrape_errors", found, part="broker") == 1
        assert value("loyalty_queue_length", found, queue="default") is None
        assert value("loyalty_scrape_errors", found, part="jobs") == 0


class TestTrouble:
    @pytest.mark.parametrize("part", collecting.IN_DATABASE)
    def test_in_one_part_hides_no_other(self, part, monkeypatch):
        def broken(at: datetime) -> Any:
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM loyalty_card")
            yield None

        monkeypatch.setitem(collecting.IN_DATABASE, part, broken)

        found = read()
        wrong = {dict(labels)["part"] for (name, labels), broken in found.items() if "errors" in name and broken}
        assert wrong == {part}
        assert len({name for name, _ in found}) > 5

    def test_of_a_statement_that_takes_too_long_ends_it(self, monkeypatch):
        def slow(at: datetime) -> Any:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(5)")
            yield None

        monkeypatch.setattr(collecting, "LONGEST_STATEMENT_MS", 50)
        monkeypatch.setitem(collecting.IN_DATABASE, "jobs", slow)

        found = read()
        assert value("loyalty_scrape_errors", found, part="jobs") == 1
        assert value("loyalty_scrape_errors", found, part="wallet") == 0


def test_a_scrape_asks_as_much_of_a_full_database_as_of_an_empty_one():
    with CaptureQueriesContext(connection) as empty:
        read()
    fill()
    with CaptureQueriesContext(connection) as full:
        read()

    assert len(full) <= len(empty) + 1  # counting the ledger on needs stock that was taken
    assert len(full) < 60


def fill() -> None:
    make_cards(make_merchant(), 20)
    for minutes in range(5):
        ran("loyalty.check_ledger", ago(minutes=minutes), result={"mismatched_cards": 0})
        expired(ago(minutes=minutes))
        synced(ago(minutes=minutes))
        message(status="dead", next_attempt_at=ago(minutes=minutes))
        credential(identifier=str(minutes))
    ran(STOCK, NOW, result=rollups.take_stock())
    ran(ROLLUP, NOW, result=rollups.roll_up(at=NOW))


def test_nothing_that_names_anybody_is_told():
    merchant = make_merchant()
    make_card(merchant, email="ana@example.com", first_name="Ana")
    message(recipient="ana@example.com")
    fill()

    registry = CollectorRegistry()
    registry.register(StateCollector(NOW))
    text = generate_latest(registry).decode()
    assert merchant.slug not in text
    assert merchant.name not in text
    assert "example.com" not in text


class TestCounters:
    @pytest.fixture
    def before(self):
        return self.all()

    def all(self) -> Read:
        registry = CollectorRegistry()
        counters.register(registry)
        return parsed(generate_latest(registry).decode())

    def grown(self, before: Read) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        grown = {key: now - before.get(key, 0) for key, now in self.all().items()}
        return {key: more for key, more in grown.items() if more and "duration" not in key[0]}

    def test_count_requests_by_part_of_the_site_and_class_of_status(self, client, before):
        client.get("/healthz")
        client.get("/no/such/page")
        client.get("/api/v1/store/loyalty/program")

        assert self.grown(before) == {
            ("loyalty_http_requests_total", frozenset({("route", "operations"), ("status", "2xx")})): 1,
            ("loyalty_http_requests_total", frozenset({("route", "other"), ("status", "4xx")})): 1,
            ("loyalty_http_requests_total", frozenset({("route", "store"), ("status", "4xx")})): 1,
            ("loyalty_refusals_total", frozenset({("code", "not_authenticated")})): 1,
        }

    def test_measure_how_long_requests_take(self, client, before):
        client.get("/healthz")

        name = "loyalty_http_request_duration_seconds_count"
        labels = frozenset({("route", "operations")})
        assert self.all()[name, labels] == before.get((name, labels), 0) + 1

    def test_count_an_address_that_nothing_serves_as_a_refusal(self, client, before):
        client.get("/api/v1/store/nothing")

        assert self.grown(before)["loyalty_refusals_total", frozenset({("code", "not_found")})] == 1

    def test_count_jobs_and_deliveries(self, before):
        report = {"sent": 3, "retried": 1, "dead": 0, "deferred": 2, "cancelled": 0, "out_of_time": False}
        jobs._finish("notifications.send_messages", "1", JobRun.Status.SUCCEEDED, result=report)
        jobs._finish("loyalty.purge", "2", JobRun.Status.FAILED, error="no")
        jobs._finish("someone.elses_task", "3", JobRun.Status.FAILED, error="no")

        grown = self.grown(before)
        assert {(name, *sorted(dict(labels).values())): more for (name, labels), more in grown.items()} == {
            ("loyalty_job_runs_total", "notifications.send_messages", "succeeded"): 1,
            ("loyalty_job_runs_total", "failed", "loyalty.purge"): 1,
            ("loyalty_deliveries_total", "sent"): 3,
            ("loyalty_deliveries_total", "retried"): 1,
            ("loyalty_deliveries_total", "deferred"): 2,
        }

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/api/v1/store/loyalty/cards/17/earn", "store"),
            ("/api/v1/admin/loyalty/cards", "admin_api"),
            ("/admin/login/", "admin"),
            ("/docs/problems", "docs"),
            ("/metrics", "operations"),
            ("/static/a.css", "other"),
            ("/../api/v1/store/", "other"),
        ],
    )
    def test_know_the_parts_of_the_site(self, path, route):
        assert middleware.route_of(path) == route
        assert route in counters.ROUTES


COUNT_IN_TWO_PROCESSES = """
import django, os
django.setup()
from loyalty_site.metrics import counters
counters.count_request("store", 200, 0.01)
if os.fork() == 0:
    counters.count_request("store", 500, 0.01)
    counters.count_request("store", 200, 0.01)
    os._exit(0)
os.wait()
"""
COUNT_WITHOUT_A_FOLDER = """
import django, shutil, os
django.setup()
from loyalty_site.metrics import counters
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
counters.count_request("store", 200, 0.01)
counters.count_refusal("not_found")
print("went on")
"""
TELL = """
import django
django.setup()
from prometheus_client import CollectorRegistry, generate_latest
from loyalty_site.metrics import counters
registry = CollectorRegistry()
counters.register(registry)
print(generate_latest(registry).decode())
"""


def said(program: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_all_processes_of_a_host_count_together(tmp_path):
    (tmp_path / "counts").mkdir()
    folder = str(tmp_path / "counts")
    said(COUNT_IN_TWO_PROCESSES, PROMETHEUS_MULTIPROC_DIR=folder)
    said(COUNT_IN_TWO_PROCESSES, PROMETHEUS_MULTIPROC_DIR=folder)

    found = parsed(said(TELL, PROMETHEUS_MULTIPROC_DIR=folder))
    assert value("loyalty_http_requests_total", found, route="store", status="2xx") == 4
    assert value("loyalty_http_requests_total", found, route="store", status="5xx") == 2
    assert not [name for name, _ in found if name.endswith("_created")]


def test_a_folder_that_is_gone_stops_nothing(tmp_path):
    (tmp_path / "gone").mkdir()

    assert said(COUNT_WITHOUT_A_FOLDER, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "gone")) == "went on\n"


def test_an_empty_folder_name_leaves_no_files_behind(tmp_path):
    before = set(os.listdir(ROOT))

    assert parsed(said(TELL, PROMETHEUS_MULTIPROC_DIR="")) == {}
    said(COUNT_IN_TWO_PROCESSES, PROMETHEUS_MULTIPROC_DIR="")
    assert {name for name in set(os.listdir(ROOT)) - before if name.endswith(".db")} == set()
