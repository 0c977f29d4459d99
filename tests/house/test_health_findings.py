import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder
from django_celery_beat.models import PeriodicTask

from loyalty.models import ExpirationRun, Merchant, StaffMember
from loyalty_site.findings import broker_findings, findings
from loyalty_site.findings.servers import clock_findings, queue_findings
from loyalty_site.metrics import throttled
from loyalty_site.models import JobRun
from notifications.models import Message
from tests.fakes.celery_process import broker
from tests.wallet.rows import make_failing_pass
from wallet.models import Breaker, Credential, SyncRun

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
LAST_NIGHT = NOW.replace(hour=2)


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


@pytest.fixture
def healthy_but_for_expiry():
    """An installation of last year where every job did what it should, but nothing ever expired."""
    MigrationRecorder.Migration.objects.filter(app="loyalty_site").update(applied=ago(days=300))
    PeriodicTask.objects.update(last_run_at=LAST_NIGHT)
    ran("loyalty.check_ledger", LAST_NIGHT, result={"mismatched_cards": 0})
    ran("loyalty_site.heartbeat", ago(minutes=1))
    synced()


@pytest.fixture
def healthy(healthy_but_for_expiry):
    expired(LAST_NIGHT)


def ran(task: str, moment: datetime, **changes: Any) -> JobRun:
    JobRun.objects.filter(task=task).delete()
    fields = {"status": "succeeded", "started_at": moment, "finished_at": moment, "result": {}, **changes}
    return JobRun.objects.create(task=task, task_id=f"{task} {moment}", **fields)


def expired(moment: datetime, **changes: Any) -> ExpirationRun:
    fields = {"as_of": moment, "finished_at": moment, "status": "succeeded", "trigger": "schedule", **changes}
    return ExpirationRun.objects.create(started_at=moment, **fields)


def synced(**changes: Any) -> SyncRun:
    """A sync of a minute ago."""
    moment = ago(minutes=1)
    fields = {"trigger": "schedule", "status": "succeeded", "started_at": moment, "finished_at": moment, **changes}
    return SyncRun.objects.create(**fields)


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


def credential(**changes: Any) -> Credential:
    fields = {
        "kind": Credential.Kind.APPLE,
        "identifier": "pass.com.example.loyalty",
        "version": 3,
        "status": Credential.Status.ACTIVE,
        "valid_from": ago(days=300),
        "valid_until": NOW + timedelta(days=65),
        "sealed_secret": "sealed",
        "imported_at": ago(days=300),
    }
    return Credential.objects.create(**{**fields, **changes})


def intermediate(*, valid_until: datetime, issued: list[Credential]) -> None:
    made = credential(kind="wwdr", identifier="Example G4", sealed_secret="", valid_until=valid_until)
    Credential.objects.filter(pk__in=[one.pk for one in issued]).update(issuer=made)


def found() -> dict[str, str]:
    return {finding.code: finding.text for finding in findings(NOW)}


@pytest.mark.usefixtures("healthy")
class TestAHealthyInstallation:
    def test_has_no_finding(self):
        message(next_attempt_at=ago(minutes=14), created_at=ago(minutes=14))
        message(status=Message.Status.DEAD, next_attempt_at=ago(hours=25), created_at=ago(days=2))

        assert found() == {}

    @pytest.mark.parametrize(
        ("status", "says"), [("refused", "refused"), ("partial", "left cards out"), ("failed", "ended before its time")]
    )
    def test_reports_how_the_last_run_ended(self, status, says):
        run = expired(ago(hours=1), status=status, failed=2, failed_card_ids=[17, 18], error="A reason.\nAnd another.")

        text = found()[f"expiration_{status}"]
        assert text.startswith(f"Expiration run {run.pk} ")
        assert says in text
        assert text.endswith("Cards: 17, 18. A reason. And another.")

    def test_forgets_a_refused_run_after_one_that_succeeded(self):
        expired(ago(hours=3), status="refused")
        expired(ago(hours=1))

        assert found() == {}

    @pytest.mark.parametrize(("hours", "codes"), [(25.5, set()), (26.5, {"ledger_check_stale"})])
    def test_expects_a_ledger_check_every_26_hours(self, hours, codes):
        ran("loyalty.check_ledger", ago(hours=hours), result={"mismatched_cards": 0})

        answer = found()
        assert set(answer) == codes
        assert all("run manage.py jobs --run loyalty.check_ledger." in text for text in answer.values())

    def test_reports_cards_that_disagree_with_the_ledger(self):
        ran("loyalty.check_ledger", LAST_NIGHT, result={"mismatched_cards": 3})

        assert "found 3 cards" in found()["ledger_mismatch"]

    def test_does_not_take_a_failed_check_for_a_check(self):
        ran("loyalty.check_ledger", LAST_NIGHT, status="failed", error="OperationalError: gone")

        assert set(found()) == {"ledger_check_stale", "job_failing"}

    @pytest.mark.parametrize(("minutes", "codes"), [(4.9, set()), (5.1, {"heartbeat_stale"})])
    def test_expects_a_heartbeat_every_five_minutes(self, minutes, codes):
        ran("loyalty_site.heartbeat", ago(minutes=minutes))

        assert set(found()) == codes

    @pytest.mark.parametrize(
        "changes",
        [
            {"next_attempt_at": ago(minutes=16)},
            {"next_attempt_at": ago(minutes=16), "attempts": 2},
            {"created_at": ago(minutes=16), "next_attempt_at": NOW + timedelta(minutes=1)},
            {"status": "leased", "lease_until": NOW, "next_attempt_at": ago(minutes=16)},
        ],
        ids=["never tried", "not tried again", "put off by the mail server", "held by a sender"],
    )
    def test_reports_mail_that_waits_too_long(self, changes):
        message(**changes)

        assert "1 messages have been waiting" in found()["messages_stuck"]

    def test_says_why_mail_waits_and_names_nobody(self):
        message(next_attempt_at=ago(minutes=30), last_error="an older reason")
        message(next_attempt_at=ago(minutes=16), last_error="451 4.3.0 <anna@bakery.test>:\nLater, anna@bakery.test")
        message(next_attempt_at=ago(minutes=15), last_error="of one that is not stuck")

        assert "15 minutes. The newest reason: 451 4.3.0 ...: Later, .... Check" in found()["messages_stuck"]

    @pytest.mark.parametrize(
        "changes",
        [
            {"created_at": ago(hours=3), "attempts": 2, "next_attempt_at": NOW + timedelta(hours=1)},
            {"created_at": ago(days=3), "resends": 1},
            {"created_at": ago(days=3), "next_attempt_at": ago(days=3), "status": "cancelled", "cancelled_at": NOW},
        ],
        ids=["tried again later", "sent again by hand", "cancelled"],
    )
    def test_lets_mail_wait_that_may(self, changes):
        message(**changes)

        assert found() == {}

    def test_reports_mail_that_was_given_up_today(self):
        message(status=Message.Status.DEAD, next_attempt_at=ago(hours=23), created_at=ago(days=2))

        assert "1 messages were given up" in found()["messages_dead"]

    def test_reports_an_expiry_that_is_switched_off(self):
        PeriodicTask.objects.filter(task="loyalty.expire_points").update(enabled=False)

        assert set(found()) == {"expiration_switched_off"}

    def test_accepts_an_expiry_entry_by_another_name(self):
        PeriodicTask.objects.filter(task="loyalty.expire_points").update(name="after the cash-up")

        assert found() == {}

    def test_reports_a_public_address_that_lets_nobody_in(self, settings):
        settings.PUBLIC_URL, settings.ALLOWED_HOSTS = "https://points.bakery.test", ["points.bakery.example"]

        assert found()["public_host_refused"].startswith("ALLOWED_HOSTS does not name points.bakery.test, ")

    @pytest.mark.parametrize("allowed", ["points.bakery.test", ".bakery.test", "*"])
    def test_takes_a_host_that_is_let_in_by_any_name(self, settings, allowed):
        settings.PUBLIC_URL, settings.ALLOWED_HOSTS = "https://points.bakery.test", [allowed]

        assert found() == {}

    def test_reports_times_in_the_future(self):
        later = NOW + timedelta(minutes=6)
        expired(later)
        ran("loyalty_site.heartbeat", later)
        PeriodicTask.objects.filter(task="loyalty.expire_points").update(last_run_at=later)

        texts = [finding.text for finding in clock_findings(NOW)]
        assert [text.split(" have ")[0] for text in texts] == [
            "1 job runs",
            "1 expiration runs",
            "1 schedule entries",
        ]

    def test_forgives_a_clock_that_is_a_little_ahead(self):
        PeriodicTask.objects.update(last_run_at=NOW + timedelta(minutes=4))

        assert found() == {}

    @pytest.mark.parametrize(
        ("left", "code"),
        [
            (timedelta(days=14), None),
            (timedelta(days=13, hours=23), "credential_expires_soon"),
            (timedelta(days=3), "credential_expires_soon"),
            (timedelta(days=2, hours=23), "credential_expires_now"),
            (-timedelta(days=1), "credential_expires_now"),
        ],
    )
    def test_reports_a_certificate_near_its_end(self, left, code):
        credential(valid_until=NOW + left)

        assert set(found()) == ({code} if code else set())

    def test_says_when_it_expires_and_what_to_do(self):
        certificate = credential(valid_until=ago(days=1))
        intermediate(valid_until=NOW + timedelta(days=5), issued=[certificate])

        answer = found()
        assert answer["credential_expires_now"].startswith(f"{certificate} expired on 2026-03-09; then no pass can be")
        assert "expires on 2026-03-15" in answer["credential_expires_soon"]
        assert "manage.py wallet_credentials import" in answer["credential_expires_soon"]

    def test_leaves_an_intermediate_alone_that_issued_nothing_in_use(self):
        intermediate(valid_until=ago(days=1), issued=[credential(status="previous")])

        assert found() == {}

    @pytest.mark.parametrize("status", ["staged", "previous", "retired", "revoked"])
    def test_leaves_credentials_alone_that_are_not_in_use(self, status):
        credential(status=status, valid_until=ago(days=1), check_error="Apple answered 403 BadCertificate.")

        assert found() == {}

    def test_reports_a_credential_that_its_platform_does_not_take(self):
        failing = credential(check_error="Apple answered 403 BadCertificate.")

        assert found()["credential_fails"] == (
            f"{failing} failed its last check: Apple answered 403 BadCertificate. "
            "Afterwards run manage.py wallet_credentials check."
        )

    def test_reports_calls_that_are_stopped(self):
        Breaker.objects.create(platform="google", identifier="3388", opened_at=ago(hours=2), reason="It is down.")
        Breaker.objects.create(platform="apple", identifier="pass.com.example.loyalty")

        assert found()["wallet_breaker_open"].startswith(
            "No pass of Google Wallet 3388 has been brought up to date since 2026-03-10 10:00 UTC: It is down. "
        )

    @pytest.mark.parametrize(("minutes", "is_told"), [(59, False), (61, True)])
    def test_reports_a_job_that_has_failed_for_an_hour(self, minutes, is_told):
        ran("loyalty.purge", ago(minutes=minutes), status="failed", error="OperationalError: gone")

        assert found().get("job_failing", "").startswith("loyalty.purge has been failing since 2026-03-10") is is_told

    def test_counts_a_failing_job_from_its_first_failure_after_a_success(self):
        ran("loyalty.purge", ago(hours=4))
        for number, hours in enumerate((3, 0.1)):
            moment = ago(hours=hours)
            JobRun.objects.create(
                task="loyalty.purge", task_id=f"{number}", status="failed", started_at=moment, finished_at=moment
            )

        assert "since 2026-03-10 09:00 UTC" in found()["job_failing"]

    def test_forgets_failures_before_a_success(self):
        moment = ago(hours=3)
        ran("loyalty.purge", moment, status="failed")
        JobRun.objects.create(
            task="loyalty.purge", task_id="1", status="succeeded", started_at=NOW, finished_at=ago(minutes=5)
        )

        assert found() == {}

    @pytest.mark.parametrize(("waiting", "codes"), [(50, set()), (51, {"queue_backlog"})])
    def test_reports_a_queue_that_grows(self, waiting, codes):
        with broker() as client:
            client.delete("wallet")
            client.rpush("wallet", *range(waiting))
            try:
                assert set(found()) == codes
            finally:
                client.delete("wallet")

    @pytest.mark.parametrize(("answers", "codes"), [(100, set()), (101, {"store_throttled"})])
    def test_reports_a_store_that_is_held_up(self, answers, codes):
        key = throttled._key(int(NOW.timestamp()) // 60)
        with broker() as client:
            client.zadd(key, {"7": answers})
            try:
                assert set(found()) == codes
            finally:
                client.delete(key)

    def test_says_nothing_of_queues_when_the_broker_is_away(self, settings):
        settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"

        assert list(queue_findings(NOW)) == []

    def test_reports_staff_of_one_merchant_who_are_locked_out(self):
        merchants = [
            Merchant.objects.create(name=slug, slug=slug, currency="EUR", country="LU") for slug in ("bakery", "cafe")
        ]
        for number, merchant in enumerate((*merchants, *merchants, merchants[0])):
            StaffMember.objects.create(
                merchant=merchant, display_name=f"Ana {number}", locked_until=NOW + timedelta(minutes=5)
            )

        assert found()["pins_locked"].startswith("3 staff members of bakery are locked out")
        assert "cafe" not in found()["pins_locked"]

    def test_reports_passes_that_were_given_up_today(self):
        credential()
        make_failing_pass(dead_at=ago(hours=23))

        assert found()["passes_dead"].startswith("1 passes were given up in the last 24 hours.")

    def test_forgets_passes_that_were_given_up_before(self):
        credential()
        make_failing_pass(dead_at=ago(hours=25))

        assert "passes_dead" not in found()

    @pytest.mark.parametrize(("hours", "codes"), [(2.9, set()), (3.1, {"wallet_sync_stale"})])
    def test_expects_syncs_while_a_platform_is_on(self, hours, codes):
        SyncRun.objects.update(started_at=ago(hours=hours), finished_at=ago(hours=hours))
        assert found() == {}

        credential()
        assert set(found()) == codes

    @pytest.mark.parametrize(("failed", "codes"), [(5, set()), (6, {"wallet_sync_failures"})])
    def test_reports_passes_that_fail(self, failed, codes):
        credential()
        synced(examined=100, pushed=100 - failed, retrying=failed, status="partial")

        assert set(found()) == codes

    @pytest.mark.parametrize(("days", "codes"), [(90, set()), (91, {"google_key_old"})])
    def test_reports_a_key_of_google_that_is_to_be_replaced(self, days, codes):
        credential(kind="google", identifier="3388", valid_from=ago(days=days), valid_until=None)

        assert set(found()) == codes

    def test_says_so_and_exits_0(self):
        assert check_health() == (0, "Healthy.\n")
        assert json.loads(check_health("--json")[1]) == {"healthy": True, "findings": []}

    def test_exits_1_with_a_line_for_each_finding(self):
        PeriodicTask.objects.filter(task="loyalty.expire_points").update(enabled=False)
        ran("loyalty_site.heartbeat", ago(minutes=6))

        code, output = check_health()

        assert code == 1
        assert [line.split(": ")[0] for line in output.splitlines()] == ["heartbeat_stale", "expiration_switched_off"]

    def test_tells_machines_the_same_in_json(self):
        PeriodicTask.objects.filter(task="loyalty.expire_points").update(enabled=False)

        code, output = check_health("--json")

        answer = json.loads(output)
        assert (code, answer["healthy"]) == (1, False)
        assert [finding["code"] for finding in answer["findings"]] == ["expiration_switched_off"]
        assert "Switch it on in the admin" in answer["findings"][0]["text"]


@pytest.mark.usefixtures("healthy_but_for_expiry")
class TestExpiry:
    @pytest.mark.parametrize(("hours", "codes"), [(25.5, set()), (26.5, {"expiration_stale"})])
    def test_is_expected_every_26_hours(self, hours, codes):
        expired(ago(hours=hours))

        assert set(found()) == codes

    @pytest.mark.parametrize(
        "changes",
        [
            {"status": "failed"},
            {"status": "refused"},
            {"as_of": LAST_NIGHT - timedelta(days=3)},
            {"status": "running", "finished_at": None},
        ],
        ids=["failed", "refused", "as of another day", "still running"],
    )
    def test_counts_when_the_whole_run_ended_well(self, changes):
        expired(LAST_NIGHT, **changes)

        assert "expiration_stale" in found()

    def test_of_one_merchant_does_not_count(self):
        expired(
            LAST_NIGHT, merchant=Merchant.objects.create(name="Bakery", slug="bakery", currency="EUR", country="LU")
        )

        assert set(found()) == {"expiration_stale"}


def check_health(*arguments: str) -> tuple[int, str]:
    output = StringIO()
    with time_machine.travel(NOW, tick=False):
        try:
            call_command("check_health", *arguments, stdout=output)
        except SystemExit as exit_:
            return int(str(exit_.code)), output.getvalue()
    return 0, output.getvalue()


@pytest.mark.parametrize(
    ("age", "codes"),
    [
        (timedelta(minutes=4), set()),
        (timedelta(minutes=6), {"heartbeat_stale"}),
        (timedelta(hours=27), {"heartbeat_stale", "expiration_stale", "ledger_check_stale"}),
    ],
    ids=["four minutes", "six minutes", "a day and more"],
)
def test_a_new_installation_has_time_to_run_its_jobs(age, codes):
    MigrationRecorder.Migration.objects.filter(app="loyalty_site").update(applied=NOW - age)

    answer = found()

    assert set(answer) == codes
    assert all("since the installation" in text for text in answer.values())


def test_a_missing_migration_hides_the_rest():
    MigrationRecorder.Migration.objects.filter(app="notifications").delete()

    assert set(found()) == {"migrations_missing"}
    assert "migrate" in found()["migrations_missing"]


@pytest.mark.usefixtures("healthy")
def test_a_broker_that_answers_is_no_finding():
    with broker() as client:
        assert client.ping()

    assert list(broker_findings()) == []
