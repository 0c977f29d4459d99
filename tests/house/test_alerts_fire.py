"""The real thing: web, worker, beat, mail server and Prometheus; alerts fire when something breaks, and end with it.

Nobody waits for minutes: every `for` is two seconds, and where an alert is about age, the rows are made older.
"""

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pgtrigger
import pytest
from django.core.management import call_command
from django.db.models import F
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from loyalty.models import CardBalance, ExpirationRun
from loyalty.tasks import check_ledger, expire_points
from loyalty_site.models import JobRun
from notifications.models import Message
from notifications.services import send_again
from notifications.tasks import send_messages
from tests.factories import days, make_card, make_cards, make_merchant
from tests.fakes import celery_process
from tests.fakes.celery_process import broker, wait_until
from tests.fakes.smtp import FakeSmtp
from tests.fakes.web_process import web
from tests.house import tools
from tests.house.prometheus import RULES
from wallet.models import Credential

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.django_db(transaction=True)]

TOKEN = "for-prometheus-alone"
LONGER_THAN_A_BEAT = timedelta(minutes=5, seconds=1)
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}/*.yml]
scrape_configs:
  - job_name: loyalty
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that has the rules."""

    address: str

    def firing(self) -> set[str]:
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def ask(self, query: str) -> list[float]:
        found = self._get(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return [float(series["value"][1]) for series in found]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}/api/v1/{path}", timeout=10) as answer:  # noqa: S310  loopback
            return json.load(answer)["data"]

    def wait_until_it_fires(self, alert: str) -> None:
        wait_until(lambda: alert in self.firing(), seconds=60)

    def wait_until_it_is_quiet(self, *alerts: str) -> None:
        wait_until(lambda: not set(alerts) & self.firing(), seconds=60)

    def wait_for_two_looks(self) -> None:
        """What is known now has been looked at by every rule."""
        query = 'count_over_time(up{job="loyalty"}[1h])'
        looks = sum(self.ask(query))
        wait_until(lambda: sum(self.ask(query)) >= looks + 2, seconds=30)


@contextmanager
def watching(port: int, folder: Path) -> Iterator[Prometheus]:
    """Prometheus on loopback, with the real rules but for the time that they wait."""
    rules = folder / "rules"
    rules.mkdir()
    for path in RULES.glob("*.yml"):
        hurried = re.sub(r"(?m)^(\s+)for: .*$", r"\1for: 2s", path.read_text())
        (rules / path.name).write_text(hurried)
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=rules, token=TOKEN, port=port))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    places = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={listen}"]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen([tools.tool("prometheus"), *places], stdout=output, stderr=output)
    try:
        found = Prometheus(f"http://{listen}")
        wait_until(
            lambda: has_begun(found), seconds=60, unless=lambda: "" if process.poll() is None else log.read_text()
        )
        yield found
    finally:
        process.terminate()
        process.wait(20)


def has_begun(found: Prometheus) -> bool:
    try:
        return "LoyaltyWatchdog" in found.firing() and bool(found.ask("up == 1"))
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _heartbeats_every_second():
    with broker() as client:
        client.flushdb()
    second = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.filter(task="loyalty_site.heartbeat").update(interval=second, expire_seconds=None)


@pytest.fixture
def watched(tmp_path) -> Iterator[Prometheus]:
    """A web server that Prometheus asks every second."""
    tools.tool("prometheus")
    shared = str(tmp_path / "counted")
    with (
        web(tmp_path, workers=2, METRICS_TOKEN=TOKEN, PROMETHEUS_MULTIPROC_DIR=shared) as site,
        watching(site.port, tmp_path) as found,
    ):
        yield found


def grow_older(age: timedelta) -> None:
    """Let this much time pass for what beat and workers did."""
    JobRun.objects.update(started_at=F("started_at") - age, finished_at=F("finished_at") - age)
    PeriodicTask.objects.exclude(last_run_at=None).update(last_run_at=F("last_run_at") - age)


def has_worked(task: str, *, since: datetime) -> bool:
    return JobRun.objects.filter(task=task, status="succeeded", started_at__gte=since).exists()


def wait_for_a_heartbeat() -> None:
    since = timezone.now()
    wait_until(lambda: has_worked("loyalty_site.heartbeat", since=since), seconds=60)


def test_a_worker_that_is_stopped(watched, tmp_path):
    with celery_process.beat(tmp_path):
        with celery_process.worker(tmp_path):
            wait_for_a_heartbeat()
            watched.wait_until_it_is_quiet("LoyaltyWorkerDown", "LoyaltyBeatDown")
        JobRun.objects.update(finished_at=F("finished_at") - LONGER_THAN_A_BEAT)

        watched.wait_until_it_fires("LoyaltyWorkerDown")
        assert "LoyaltyBeatDown" not in watched.firing()

        with celery_process.worker(tmp_path):
            watched.wait_until_it_is_quiet("LoyaltyWorkerDown")


def test_a_beat_that_is_stopped(watched, tmp_path):
    with celery_process.worker(tmp_path):
        with celery_process.beat(tmp_path):
            wait_for_a_heartbeat()
            watched.wait_until_it_is_quiet("LoyaltyWorkerDown", "LoyaltyBeatDown")
        grow_older(LONGER_THAN_A_BEAT)

        watched.wait_until_it_fires("LoyaltyBeatDown")
        assert "LoyaltyWorkerDown" not in watched.firing()

        with celery_process.beat(tmp_path):
            watched.wait_until_it_is_quiet("LoyaltyBeatDown", "LoyaltyWorkerDown")


def test_a_certificate_that_expires(watched):
    now = timezone.now()
    fields = {"kind": "apple", "identifier": "pass.com.example", "secret_file": "file:key", "imported_at": now}
    old = Credential.objects.create(
        version=1, status="active", valid_from=now - days(365), valid_until=now - timedelta(minutes=1), **fields
    )

    watched.wait_until_it_fires("LoyaltyCertificateExpired")
    assert "LoyaltyCertificateExpiring" not in watched.firing()

    Credential.objects.filter(pk=old.pk).update(status="previous")
    Credential.objects.create(version=2, status="active", valid_from=now, valid_until=now + days(365), **fields)
    watched.wait_until_it_is_quiet("LoyaltyCertificateExpired")


def test_a_mail_server_that_is_down(watched, tmp_path, monkeypatch):
    with FakeSmtp() as server:
        monkeypatch.setenv("EMAIL_URL", f"smtp://{server.host}:{server.port}")
        server.close()
        make_card(at=timezone.now())
        with celery_process.worker(tmp_path):
            send_messages.delay()
            wait_until(lambda: Message.objects.exclude(last_error="").exists())
            Message.objects.update(created_at=timezone.now() - timedelta(minutes=16))

            watched.wait_until_it_fires("LoyaltyOutboxStuck")

            server.open()
            Message.objects.update(next_attempt_at=timezone.now())
            send_messages.delay()
            watched.wait_until_it_is_quiet("LoyaltyOutboxStuck")
            assert len(server.received) == 1


def test_a_mail_server_that_refuses(watched, tmp_path, monkeypatch):
    with FakeSmtp() as server:
        monkeypatch.setenv("EMAIL_URL", f"smtp://{server.host}:{server.port}")
        server.when("rcpt", "550 5.1.1 No such user")
        make_card(at=timezone.now())
        with celery_process.worker(tmp_path):
            send_messages.delay()

            watched.wait_until_it_fires("LoyaltyDeadLetters")
            watched.wait_until_it_fires("LoyaltyEmailFailures")

            server.behave()
            send_again(message_id=Message.objects.get().pk, at=timezone.now())
            send_messages.delay()
            watched.wait_until_it_is_quiet("LoyaltyDeadLetters", "LoyaltyEmailFailures")


def test_a_balance_that_is_corrupted(watched, tmp_path):
    card = make_card(points=100)
    with celery_process.worker(tmp_path):
        check_ledger.delay()
        wait_until(lambda: has_worked("loyalty.check_ledger", since=timezone.now() - days(1)))
        watched.wait_for_two_looks()
        assert "LoyaltyLedgerMismatch" not in watched.firing()

        write_balance(card.pk, 999)
        check_ledger.delay()
        watched.wait_until_it_fires("LoyaltyLedgerMismatch")

        write_balance(card.pk, 100)
        check_ledger.delay()
        watched.wait_until_it_is_quiet("LoyaltyLedgerMismatch")


def write_balance(card_id: int, points: int) -> None:
    with pgtrigger.ignore("loyalty.CardBalance:change_equals_last_row"):
        CardBalance.objects.filter(card=card_id).update(points_balance=points)


def test_an_expiry_that_is_refused(watched, tmp_path, monkeypatch, settings):
    monkeypatch.setenv("LOYALTY_EXPIRY_GUARD_CARDS", "2")
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 2
    merchant = make_merchant(require_expiration_notice=False)
    make_cards(merchant, 3, at=timezone.now() - days(200))
    with celery_process.worker(tmp_path):
        expire_points.delay()
        watched.wait_until_it_fires("LoyaltyExpirationRefused")
        assert "LoyaltyExpirationPartial" not in watched.firing()

        call_command("expire_points", merchant=merchant.slug, confirm=3)
        assert "LoyaltyExpirationRefused" in watched.firing()  # only a whole run proves that all is well
        expire_points.delay()
        watched.wait_until_it_is_quiet("LoyaltyExpirationRefused", "LoyaltyExpirationStale")
    assert [run.status for run in ExpirationRun.objects.order_by("pk")] == ["refused", "succeeded", "succeeded"]


def test_a_healthy_installation_is_quiet(watched, tmp_path):
    """All that fires is the watchdog, once each job has been done."""
    with ExitStack() as stack:
        stack.enter_context(celery_process.worker(tmp_path))
        stack.enter_context(celery_process.beat(tmp_path))
        for task in (check_ledger, expire_points, send_messages):
            task.delay()
        wait_for_a_heartbeat()
        wait_until(lambda: has_worked("loyalty.expire_points", since=timezone.now() - days(1)))
        watched.wait_until_it_is_quiet("LoyaltyBeatDown", "LoyaltyWorkerDown", "LoyaltyMetricsDown")
        watched.wait_for_two_looks()

        assert watched.firing() == {"LoyaltyWatchdog"}
        assert sum(watched.ask("loyalty_scrape_errors")) == 0
        assert watched.ask('loyalty_http_requests_total{route="operations",status="2xx"}')[0] > 2
