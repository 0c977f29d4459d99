"""Stages of point-expiration.md."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from loyalty.models import Card, CardBalance, ExpirationRun, Merchant
from loyalty.services import expiring, guarding
from tests.factories import make_cards, make_merchant
from tests.fakes.celery_process import wait_until
from tests.house.runbook_stages.staging import IDLE, NEARLY_IDLE, Stage, a_worker, expire, ran, stage, well
from tests.loyalty.test_commands import spoil

EXPIRY = "point-expiration.md"


@stage(EXPIRY)
def a_shop(scene: Stage) -> Merchant:
    """Three cards whose points are due tonight, and one whose customer is to be warned."""
    merchant = make_merchant()
    due = make_cards(merchant, 3, at=scene.at - IDLE)
    make_cards(merchant, 1, at=scene.at - NEARLY_IDLE)
    warn(due, scene)
    scene.values |= {
        "MERCHANT": merchant.slug,
        "CARD": str(due[0].pk),
        "DATE": str((scene.at + timedelta(days=14)).date()),
    }
    return merchant


def warn(cards: list[Any], scene: Stage) -> None:
    promised = (scene.at - timedelta(days=2)).date()
    CardBalance.objects.filter(card__in=cards).update(
        last_expiration_warning_at=scene.at - timedelta(days=20), expiration_warned_for=promised
    )


@stage(EXPIRY, "Look first")
def a_night_with_nothing_to_do(scene: Stage) -> None:
    expire()
    a_shop(scene)


@stage(EXPIRY, "Run it by hand")
def a_shop_and_a_worker(scene: Stage) -> None:
    a_shop(scene)
    a_worker(scene)
    asked = count(1)
    scene.before_next = lambda: wait_for_runs(next(asked))


def wait_for_runs(number: int) -> None:
    done = ExpirationRun.objects.filter(trigger="schedule", status="succeeded")
    wait_until(lambda: done.count() == number, seconds=30)


@stage(EXPIRY, "LoyaltyExpirationStale")
def a_run_that_failed(scene: Stage) -> None:
    night = datetime(2026, 3, 10, 2, tzinfo=UTC)
    PeriodicTask.objects.filter(task="loyalty.expire_points").update(last_run_at=night)
    ran("loyalty.expire_points", scene.at, status="failed", error="OperationalError: the connection is closed")


@stage(EXPIRY, "LoyaltyExpirationPartial")
def a_card_that_fails(scene: Stage) -> None:
    a_shop(scene)
    poisoned, expire_chunk = int(scene.values["CARD"]), expiring.expire

    def poison(card_ids: Any, *rest: Any) -> Any:
        if poisoned in card_ids:
            raise RuntimeError("a card that nobody foresaw")
        return expire_chunk(card_ids, *rest)

    scene.monkeypatch.setattr(expiring, "expire", poison)
    scene.values["RUN"] = str(expire(trigger=ExpirationRun.Trigger.SCHEDULE).run_id)


@stage(EXPIRY, "A balance that was changed")
def a_card_with_a_point_too_many(scene: Stage) -> None:
    a_shop(scene)
    spoil(Card.objects.get(pk=scene.values["CARD"]))
    expire(trigger=ExpirationRun.Trigger.SCHEDULE)


@stage(EXPIRY, "A time zone that does not exist")
def a_merchant_on_mars(scene: Stage) -> None:
    merchant = a_shop(scene)
    type(merchant).objects.update(timezone="Mars/X")
    scene.values["RUN"] = str(expire(trigger=ExpirationRun.Trigger.SCHEDULE).run_id)


@stage(EXPIRY, "LoyaltyExpirationRefused")
def more_than_the_guard_allows(scene: Stage) -> None:
    merchant = a_shop_without_warnings(scene)
    type(merchant.program).objects.update(require_expiration_notice=False)
    scene.settings.LOYALTY_EXPIRY_GUARD_CARDS = 1
    expire(trigger=ExpirationRun.Trigger.SCHEDULE)


@stage(EXPIRY, "The plain rule")
def a_dormant_base(scene: Stage) -> None:
    merchant = make_merchant()
    make_cards(merchant, 4, at=scene.at - IDLE)
    scene.values["MERCHANT"] = merchant.slug


def a_shop_without_warnings(scene: Stage) -> Merchant:
    merchant = a_shop(scene)
    CardBalance.objects.update(last_expiration_warning_at=None, expiration_warned_for=None)
    return merchant


@stage(EXPIRY, "The wrong clock")
def a_clock_that_is_ahead(scene: Stage) -> None:
    a_shop(scene)
    clock = timezone.now() - timedelta(minutes=9)
    scene.monkeypatch.setattr(guarding, "database_clock", lambda: clock)


@stage(EXPIRY, "Points expired by mistake, one card", "Points expired by mistake, a whole run")
def points_are_gone(scene: Stage) -> None:
    a_shop(scene)
    scene.values["RUN"] = str(expire().run_id)


@stage(EXPIRY, "What customers were told")
def a_mail_that_waits(scene: Stage) -> None:
    scene.settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    merchant = make_merchant()
    make_cards(merchant, 1, at=scene.at - NEARLY_IDLE)
    expire()


@stage(EXPIRY, "Check it worked")
def all_is_well(scene: Stage) -> None:
    a_shop(scene)
    well(scene)
