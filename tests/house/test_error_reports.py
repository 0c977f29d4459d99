"""What goes to a Sentry: where it happened, and nothing of what was worked on."""

import json
import subprocess
import sys
import uuid

import brotli  # type: ignore[import-untyped]  # comes with whitenoise

from tests.fakes.celery_process import ROOT, environment
from tests.fakes.http_sink import http_sink

FAIL = """
import django, logging
django.setup()
import sentry_sdk
from django.conf import settings
from django.test import Client
from loyalty_site import health

settings.WHITENOISE_AUTOREFRESH = True
def fail(request):
    name_of_a_customer = "canary-local ana@example.org"
    logging.getLogger("a.library").error("canary-log ana@example.org")
    raise LookupError("canary-text ana@example.org")
health.healthz.__wrapped__ = fail
from django.urls import path
from loyalty_site import urls
urls.urlpatterns.append(path("canary-free/fails", fail))
headers = {"host": "localhost", "user-agent": "canary-agent", "cookie": "s=canary-cookie"}
client = Client(raise_request_exception=False)
answer = client.post("/canary-free/fails?q=canary-query", {"name": "canary-body"}, headers=headers)
assert answer.status_code == 500, answer.status_code
sentry_sdk.flush(10)
"""
START = "import django, sys; django.setup(); print('sentry_sdk' in sys.modules)"


def run(code: str, **changes: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_error_is_reported_by_its_class_its_place_and_its_request(db):
    with http_sink() as sink:
        run(FAIL, SENTRY_DSN=f"http://key@127.0.0.1:{sink.port}/1")

    [report] = sink.asked
    assert report.headers["Content-Encoding"] == "br"
    sent = brotli.decompress(report.body)
    _, _, event = [json.loads(line) for line in sent.splitlines()[:3]]
    [error] = event["exception"]["values"]
    assert (error["type"], error["stacktrace"]["frames"][-1]["function"]) == ("LookupError", "fail")
    assert event["transaction"] == "/canary-free/fails"
    assert set(event["tags"]) == {"request_id"}
    assert str(uuid.UUID(event["tags"]["request_id"])) == event["tags"]["request_id"]
    assert set(event) <= {
        *("event_id", "timestamp", "platform", "level", "release", "environment", "sdk", "modules"),
        *("transaction", "exception", "tags"),
    }
    for secret in ("canary-local", "canary-log", "canary-text", "canary-agent", "canary-cookie", "canary-query"):
        assert secret.encode() not in sent
    assert b"canary-body" not in sent
    assert b"ana@example.org" not in sent


def test_without_an_address_the_client_is_not_even_loaded(db):
    assert run(START) == "False\n"
