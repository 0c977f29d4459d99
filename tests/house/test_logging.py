import json
import os
import subprocess
import sys
import uuid
from typing import Any

import pytest
import structlog

from loyalty_site.tasks import heartbeat
from tests.fakes import celery_process
from tests.fakes.celery_process import ROOT, broker

SPEAK = """
import django, logging, structlog
django.setup()
structlog.get_logger().info("loyalty.points_earned", card_id=17)
structlog.get_logger().debug("loyalty.balance_read")
logging.getLogger("a.library").warning("two\\nlines")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("loyalty.expiration_card_failed", card_id=17)
"""
ASK = """
import django
django.setup()
from django.conf import settings
from django.test import Client
settings.WHITENOISE_AUTOREFRESH = True
headers = {"host": "localhost", "x-request-id": "till-4711", "user-agent": "a-till-of-ana"}
Client().get("/healthz?q=ana@example.com", headers=headers)
"""

OPEN = """
import django
django.setup()
from django.conf import settings
from django.test import Client
settings.WHITENOISE_AUTOREFRESH = True
for path in ("apple/get/open-4711", "google/get/open-4711?q=1", f"apple/v1/devices/{'open-4711' * 20}/registrations/p"):
    assert Client().get(f"/wallet/{path}", headers={"host": "localhost"}).status_code in (400, 404)
"""

FAIL = """
import django, structlog
django.setup()
def send(recipient):
    raise RuntimeError("no such card")
try:
    send("@".join(("ana", "example.com")))
except RuntimeError:
    structlog.get_logger().exception("loyalty.expiration_card_failed", card_id=17)
"""

SCAN = """
import django
django.setup()
from django.conf import settings
from django.test import Client
settings.WHITENOISE_AUTOREFRESH = True
assert Client().get("/admin/", headers={"host": "evil.test"}).status_code == 400
"""

CALL = """
import django, http.server, httpx2, threading
django.setup()
class Quiet(http.server.BaseHTTPRequestHandler):
    log_message = lambda *args: None
with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
    threading.Thread(target=server.handle_request).start()
    httpx2.get(f"http://127.0.0.1:{server.server_port}/3/device/push-token-4711")
"""


def said(program: str, **variables: str) -> list[str]:
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "loyalty_site.settings", "LOG_FORMAT": "json", **variables}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def events(lines: list[str]) -> dict[str, dict[str, Any]]:
    return {event["event"]: event for event in map(json.loads, lines)}


def test_production_logs_one_json_object_a_line():
    said_events = events(said(SPEAK))

    assert list(said_events) == ["loyalty.points_earned", "two\nlines", "loyalty.expiration_card_failed"]
    earned = said_events["loyalty.points_earned"]
    assert (earned["level"], earned["card_id"]) == ("info", 17)
    assert earned["ts"].endswith("Z")
    assert said_events["two\nlines"]["level"] == "warning"
    assert "ZeroDivisionError" in said_events["loyalty.expiration_card_failed"]["exception"]


def test_the_level_decides_what_is_said():
    assert list(events(said(SPEAK, LOG_LEVEL="ERROR"))) == ["loyalty.expiration_card_failed"]
    assert "loyalty.balance_read" in events(said(SPEAK, LOG_LEVEL="DEBUG"))


def test_development_logs_for_people():
    [first, *_] = said(SPEAK, LOG_FORMAT="console")

    assert "loyalty.points_earned" in first
    assert "card_id=17" in first
    assert not first.startswith("{")


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_error_is_logged_without_what_its_variables_held(form):
    lines = said(FAIL, LOG_FORMAT=form)

    assert "RuntimeError: no such card" in "".join(lines)
    assert "ana@example.com" not in "".join(lines)
    assert len(lines) < 10


def test_all_lines_of_a_request_carry_one_id_that_the_caller_cannot_choose():
    said_events = events(said(ASK, LOG_LEVEL="DEBUG"))

    started, finished = said_events["request_started"], said_events["request_finished"]
    assert started["request_id"] == finished["request_id"]
    assert str(uuid.UUID(started["request_id"])) == started["request_id"]


def test_the_line_of_a_request_names_nobody():
    [line] = said(ASK)

    assert json.loads(line)["request"] == "GET /healthz"
    assert "ana" not in line
    assert "127.0.0.1" not in line


def test_who_asks_by_a_name_that_is_not_ours_is_a_warning_of_one_sentence():
    refusals = [event for event in map(json.loads, said(SCAN)) if "evil.test" in event["event"]]

    assert [(event["level"], "exception" in event) for event in refusals] == [("warning", False)]
    assert not [line for line in said(SCAN, LOG_FORMAT="console") if "Traceback" in line]
    assert "evil.test" not in "".join(said(SCAN, LOG_LEVEL="ERROR"))


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_the_addresses_that_we_call_are_not_logged(level):
    assert "push-token-4711" not in "".join(said(CALL, LOG_LEVEL=level))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("form", ["json", "console"])
def test_an_address_that_opens_something_is_logged_without_what_opens_it(form):
    lines = "".join(said(OPEN, LOG_LEVEL="DEBUG", LOG_FORMAT=form))

    assert "open-4711" not in lines
    for address in ("Not Found: /wallet/apple/get/...", "GET /wallet/google/get/...", "devices/.../registrations/p"):
        assert address in lines


def test_a_request_carries_its_id_into_the_tasks_it_causes(tmp_path):
    with broker() as client:
        client.flushdb()
    with structlog.contextvars.bound_contextvars(request_id="till-4711"):
        task_id = heartbeat.delay().id

    with celery_process.worker(tmp_path) as worker:
        worker.wait_until_it_says("task_succeeded")

    [succeeded] = [event for event in worker.events() if event["event"] == "task_succeeded"]
    assert (succeeded["request_id"], succeeded["task_id"]) == ("till-4711", task_id)
