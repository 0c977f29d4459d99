"""Stages of workers.md, and of the index."""

from datetime import timedelta
from itertools import chain, repeat
from threading import Thread
from typing import Any

import psycopg
from django.db import connection
from django_celery_beat.models import PeriodicTask

from loyalty.models import ExpirationRun, StaffMember
from loyalty_site.metrics import rollups, throttled
from loyalty_site.models import JobRun
from loyalty_site.tasks import heartbeat
from notifications.models import Message
from tests.factories import make_cards, make_merchant, make_store
from tests.fakes.celery_process import database_url, wait_until
from tests.fakes.web_process import web
from tests.house.runbook_stages.staging import NEARLY_IDLE, Stage, a_worker, expire, ran, stage, well
from wallet.models import SyncRun

TOKEN = "a-token-of-the-tests-and-of-nothing-else"
WORKERS = "workers.md"


@stage(WORKERS)
def an_installation(scene: Stage) -> None:
    """Jobs that were sent and done just now."""
    well(scene)


@stage(WORKERS, "Look first")
def a_heartbeat_that_stopped(scene: Stage) -> None:
    well(scene)
    JobRun.objects.filter(task="loyalty_site.heartbeat").delete()
    ran("loyalty_site.heartbeat", scene.at - timedelta(minutes=20))


@stage(WORKERS, "LoyaltyBeatDown")
def a_beat_that_hangs(scene: Stage) -> None:
    well(scene)
    PeriodicTask.objects.update(last_run_at=scene.at - timedelta(minutes=7))


@stage(WORKERS, "The broker is down")
def no_broker(scene: Stage) -> None:
    """It is back, empty, when the reader asks with the third command whether all is well."""
    well(scene)
    addresses = chain(["redis://127.0.0.1:1/0"] * 2, repeat(scene.settings.CELERY_BROKER_URL))
    scene.between = lambda: setattr(scene.settings, "CELERY_BROKER_URL", next(addresses))


@stage(WORKERS, "LoyaltyQueueBacklog")
def tasks_that_wait(scene: Stage) -> None:
    for _ in range(3):
        heartbeat.delay()


@stage(WORKERS, "A job is switched off")
def entries_that_are_missing(scene: Stage) -> None:
    PeriodicTask.objects.filter(task="loyalty.expire_points").update(enabled=False)
    PeriodicTask.objects.filter(task="loyalty.purge").delete()


@stage(WORKERS, "LoyaltyJobFailing")
def a_job_that_fails(scene: Stage) -> None:
    ran("loyalty.purge", scene.at, status="failed", error="OperationalError: no space left")


@stage(WORKERS, "LoyaltyOutboxStuck")
def a_mail_server_that_is_away(scene: Stage) -> None:
    scene.settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    scene.settings.EMAIL_HOST, scene.settings.EMAIL_PORT = "127.0.0.1", 1
    make_cards(make_merchant(), 1, at=scene.at - NEARLY_IDLE)
    expire()


@stage(WORKERS, "LoyaltyDeadLetters", "LoyaltyEmailFailures")
def a_message_that_was_given_up(scene: Stage) -> None:
    well(scene)
    make_cards(make_merchant(), 1, at=scene.at - NEARLY_IDLE)
    expire()
    Message.objects.update(status=Message.Status.DEAD, last_error="550 5.7.1 your sender is blocked")


@stage(WORKERS, "LoyaltyPinLockouts")
def staff_who_are_locked_out(scene: Stage) -> None:
    merchant = make_merchant()
    for number in range(3):
        StaffMember.objects.create(
            merchant=merchant, display_name=f"Till {number}", locked_until=scene.at + timedelta(minutes=5)
        )
    scene.values["MERCHANT"] = merchant.slug


@stage(WORKERS, "LoyaltyHighChurn", "LoyaltyLowEnrollment")
def a_merchant_without_new_cards(scene: Stage) -> None:
    merchant = make_merchant()
    type(merchant).objects.update(created_at=scene.at - timedelta(days=8))
    ran("loyalty_site.roll_up", scene.at, result=rollups.roll_up(at=scene.at))
    scene.values["MERCHANT"] = merchant.slug


@stage(WORKERS, "LoyaltyApiErrorBudgetFastBurn", "LoyaltyMetricsDown")
def a_web_server(scene: Stage) -> None:
    token = scene.folder / "metrics_token"
    token.write_text(f"{TOKEN}\n")
    scene.values["/etc/loyalty/secrets/metrics_token"] = str(token)
    site = scene.stack.enter_context(web(scene.folder, workers=1, METRICS_TOKEN=TOKEN))
    scene.values["http://127.0.0.1:8000"] = site.address


@stage(WORKERS, "LoyaltyTimestampInFuture")
def rows_of_the_future(scene: Stage) -> None:
    well(scene)
    ahead = scene.at + timedelta(days=1)
    ran("loyalty.purge", ahead)
    PeriodicTask.objects.filter(task="loyalty.purge").update(last_run_at=ahead)
    whole = {"started_at": ahead, "finished_at": ahead, "status": "succeeded", "trigger": "schedule"}
    ExpirationRun.objects.create(**whole, as_of=ahead)
    SyncRun.objects.create(**whole)


stage(WORKERS, "LoyaltyWorkerDown")(a_worker)


@stage(WORKERS, "LoyaltyApiSlow")
def a_session_that_holds_a_card(scene: Stage) -> None:
    """Among web processes that wait for requests, and a till that waits for the card."""
    (card,) = make_cards(make_merchant(), 1, at=scene.at)
    idle = [session(scene) for _ in range(8)]
    for one in idle:
        one.execute("SELECT 1")
        one.commit()
    holder, till = session(scene), session(scene)
    hold = f"SELECT points_balance FROM loyalty_cardbalance WHERE card_id = {card.pk} FOR UPDATE"
    holder.execute(hold)
    waiting = Thread(target=till.execute, args=[hold])
    waiting.start()
    scene.stack.callback(waiting.join)
    scene.stack.callback(holder.close)
    wait_until(lambda: waits_for(till) == [holder.info.backend_pid])
    scene.values["PID"] = str(holder.info.backend_pid)


def session(scene: Stage) -> "psycopg.Connection[Any]":
    connected = psycopg.connect(database_url())
    scene.stack.callback(connected.close)
    return connected


def waits_for(waiting: "psycopg.Connection[Any]") -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_blocking_pids(%s)", [waiting.info.backend_pid])
        return list(cursor.fetchone()[0])


@stage(WORKERS, "LoyaltyRateLimitSpike")
def a_till_in_a_loop(scene: Stage) -> None:
    store = make_store()
    scene.values["MERCHANT"] = store.merchant.slug
    for _ in range(120):
        throttled.note(store.pk, scene.at)


@stage("README.md")
def nothing_wrong(scene: Stage) -> None:
    well(scene)
