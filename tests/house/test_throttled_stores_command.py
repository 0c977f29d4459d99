"""`manage.py throttled_stores`, as operators use it."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from loyalty_site.metrics import throttled
from tests.factories import make_store
from tests.fakes.celery_process import broker

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_broker():
    with broker() as client:
        client.flushdb()


def told() -> list[str]:
    output = StringIO()
    call_command("throttled_stores", stdout=output)
    return output.getvalue().splitlines()


def test_the_store_with_most_of_them_comes_first():
    busy, idle = make_store(), make_store()
    with broker() as client:
        for store, answers in ((idle, 3), (busy, 120)):
            client.zadd(throttled._key(int(timezone.now().timestamp()) // 60), {str(store.pk): answers})

    assert told() == [
        f"store {busy.pk}, {busy.merchant.slug}/{busy.code}: 120 answers 429 in a minute",
        f"store {idle.pk}, {idle.merchant.slug}/{idle.code}: 3 answers 429 in a minute",
    ]


def test_none_is_said_to_be_none():
    assert told() == ["No store got an answer 429 in this minute or the last."]


def test_a_store_that_is_gone_is_named_by_its_number():
    throttled.note(17, timezone.now())

    assert told() == ["store 17, deleted: 1 answers 429 in a minute"]


def test_a_broker_that_is_away_is_said_to_be(settings):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"

    with pytest.raises(CommandError, match="The broker does not answer") as error:
        told()
    assert error.value.returncode == 1
