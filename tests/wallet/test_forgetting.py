"""Phones of erased customers are forgotten once they were told, and so is what was heard long ago."""

from dataclasses import asdict
from datetime import timedelta

import pytest

from loyalty.models import Card
from loyalty.services.privacy import erase_customer
from tests.factories import NOON, days, make_card
from tests.wallet import dispatching
from tests.wallet.rows import make_pass
from wallet import tasks
from wallet.models import CallbackNonce, DeviceLog, Pass, Registration
from wallet.services import forgetting
from wallet.services.forgetting import ForgettingReport, forget

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
NOTHING = ForgettingReport(registrations=0, passes=0, device_logs=0, callbacks=0)


def in_phone(wallet_pass, device="phone-1"):
    Registration.objects.create(wallet_pass=wallet_pass, device=device, push_token="ab" * 32, registered_at=NOON)
    return wallet_pass


def erase(card):
    merchant = card.program.merchant
    erase_customer(merchant=merchant, customer_id=card.customer_id, reason="letter 17", actor="ana", at=NOON)


@pytest.fixture
def card():
    return make_card(points=10, first_name="Canariafirst")


def test_a_day_after_an_erasure_no_phone_is_known(card, apple_credential):
    wallet_pass = in_phone(make_pass(card))
    in_phone(make_pass(make_card()))
    erase(card)
    assert dispatching.dispatch(at=NOON + HOUR) == {"ab" * 32}

    report = forget(at=NOON + days(1) + HOUR)

    assert report == ForgettingReport(registrations=1, passes=1, device_logs=0, callbacks=0)
    assert Pass.objects.get(pk=wallet_pass.pk).status == "removed"
    assert Registration.objects.get().wallet_pass.card_id != card.pk
    assert forget(at=NOON + days(2)) == NOTHING


def test_within_a_day_phones_still_hear(card, apple_credential):
    in_phone(make_pass(card))
    erase(card)

    assert forget(at=NOON + days(1)) == NOTHING
    assert dispatching.dispatch(at=NOON + days(1)) == {"ab" * 32}


def test_a_pass_whose_platform_was_not_told_is_not_given_up(card):
    wallet_pass = in_phone(make_pass(card))
    erase(card)

    report = forget(at=NOON + days(5))

    assert (report.registrations, report.passes) == (1, 0)
    assert Pass.objects.due(NOON + days(5)).get() == wallet_pass


def test_a_pass_that_nobody_ever_got_is_given_up(card):
    make_pass(card, status="pending", synced_version=0, content_hash="")
    erase(card)

    assert forget(at=NOON + days(5)).passes == 1


def test_google_hears_of_erased_customers_whose_pass_nobody_keeps(card):
    wallet_pass = make_pass(card, platform="google", saved=False)
    erase(card)
    assert not Pass.objects.due(NOON).exists()

    forget(at=NOON + HOUR)

    assert Pass.objects.due(NOON + HOUR).get() == wallet_pass


def test_passes_of_cards_that_are_only_closed_stay(card):
    in_phone(make_pass(card))
    Card.objects.filter(pk=card.pk).update(status="closed")

    assert forget(at=NOON + days(400)) == NOTHING


@pytest.mark.parametrize(("model", "kept_for"), [(DeviceLog, days(30)), (CallbackNonce, days(7))])
def test_what_was_heard_long_ago_goes(model, kept_for, monkeypatch):
    monkeypatch.setattr(forgetting, "ROWS_PER_COMMIT", 2)
    name = "text" if model is DeviceLog else "nonce"
    for number in range(5):
        model.objects.create(**{name: f"old {number}"}, received_at=NOON)
    model.objects.create(**{name: "new"}, received_at=NOON + HOUR)

    report = forget(at=NOON + kept_for + timedelta(seconds=1))

    assert report.device_logs + report.callbacks == 5
    assert getattr(model.objects.get(), name) == "new"


def test_the_task_does_the_same(card):
    assert tasks.purge() == asdict(NOTHING)
