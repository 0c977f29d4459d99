"""A dead-man switch hears of jobs that did their work, and of no others; and no job fails because of it."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import transaction

from loyalty_site import pinging
from loyalty_site.models import JobRun
from loyalty_site.tasks import heartbeat
from tests.fakes import celery_process
from tests.fakes.celery_process import broker, wait_until
from tests.fakes.http_sink import Sink, http_sink

EXPIRY = "loyalty.expire_points"


@pytest.fixture
def sink(settings):
    with http_sink() as found:
        expiry, ledger = f"{found.address}/expiry?key=a=b", f"{found.address}/ledger"
        settings.JOB_PING_URLS = [f"{EXPIRY}={expiry}", f"loyalty.check_ledger={ledger}"]
        yield found


def succeeded(task: str, result: Any) -> None:
    pinging.job_succeeded(sender=SimpleNamespace(name=task), result=result)


def paths(sink: Sink) -> list[str]:
    return [asked.path for asked in sink.asked]


@pytest.mark.parametrize(
    ("task", "result", "asked"),
    [
        (EXPIRY, {"status": "succeeded"}, ["/expiry?key=a=b"]),
        (EXPIRY, {"status": "partial"}, ["/expiry?key=a=b"]),
        (EXPIRY, {"status": "refused"}, []),
        (EXPIRY, {"status": "failed"}, []),
        ("loyalty.check_ledger", {"mismatched_cards": 0}, ["/ledger"]),
        ("loyalty.check_ledger", {"mismatched_cards": 2}, []),
        ("loyalty.purge", {}, []),
    ],
)
def test_a_job_that_did_its_work_is_told_at_its_own_address(sink, task, result, asked):
    succeeded(task, result)

    assert paths(sink) == asked


@pytest.mark.django_db
def test_nobody_is_told_while_a_transaction_is_open(sink):
    with transaction.atomic():
        succeeded(EXPIRY, {"status": "succeeded"})

    assert paths(sink) == []


@pytest.mark.parametrize("status", [404, 500])
def test_a_switch_that_refuses_is_a_warning_without_its_address(sink, status):
    sink.status = status

    with structlog.testing.capture_logs() as logs:
        pinging.ping(EXPIRY, f"{sink.address}/secret")

    assert logs == [
        {"event": "loyalty_site.ping_failed", "log_level": "warning", "job": EXPIRY, "reason": "HTTPError"},
    ]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/", "http://no such host/", "http://[::", "nothing"])
def test_a_switch_that_is_away_is_a_warning(address):
    with structlog.testing.capture_logs() as logs:
        pinging.ping(EXPIRY, address)

    assert [log["event"] for log in logs] == ["loyalty_site.ping_failed"]


def test_a_switch_that_hangs_is_left_alone(sink, monkeypatch):
    monkeypatch.setattr(pinging, "SECONDS", 0.2)
    sink.gate.clear()
    began = time.monotonic()

    with structlog.testing.capture_logs() as logs:
        pinging.ping(EXPIRY, sink.address)

    assert [log["reason"] for log in logs] == ["TimeoutError"]
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "entry",
    ["loyalty.expire=https://ping.example.com", "https://ping.example.com/1", "loyalty.purge", "loyalty.purge=ftp://x"],
)
def test_a_pair_that_nobody_understands_stops_the_start(settings, entry):
    settings.JOB_PING_URLS = [entry]

    with pytest.raises(SystemCheckError) as refused:
        call_command("check")

    assert "loyalty.E004" in str(refused.value)
    assert "ping.example.com" not in str(refused.value)


@pytest.mark.django_db(transaction=True)
def test_a_real_worker_pings_after_the_job_is_written_down(tmp_path, monkeypatch):
    with broker() as client:
        client.flushdb()
    with http_sink(status=500) as sink:
        monkeypatch.setenv("JOB_PING_URLS", f"loyalty_site.heartbeat={sink.address}/beat")
        with celery_process.worker(tmp_path) as worker:
            heartbeat.delay()
            worker.wait_until_it_says("loyalty_site.ping_failed")

        assert paths(sink) == ["/beat"]
        wait_until(lambda: JobRun.objects.filter(status="succeeded").exists())
