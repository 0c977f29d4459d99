"""A replay comes to what a calculation by hand comes to, and refuses files that cannot be trusted."""

import gzip
import json
import logging
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from loyalty.models import Card, Customer, ExpirationRun, Merchant, Transaction
from loyalty.services.ledger_check import check_ledger
from notifications.models import Message
from tests.loyalty import replay_by_hand
from tests.loyalty.replay_by_hand import Bought

SAMPLE = Path(settings.BASE_DIR) / "loyalty_site" / "data" / "cdnow_sample.csv"
MASTER = Path(settings.BASE_DIR) / "tests" / "data" / "cdnow_master.csv.gz"
FIRST = date(2024, 2, 20)
KEYS = ["purchases", "cards", "points_earned", "expired_cards", "expired_points", "warnings"]
KEYS += ["points_outstanding", "cards_with_balance"]


@pytest.fixture(autouse=True)
def quiet_afterwards():
    """The command silences the events of a replay for its process; here the process goes on."""
    yield
    logging.disable(logging.NOTSET)


def replay(path, merchant="shop", **options):
    output = StringIO()
    call_command("replay_purchases", path, merchant=merchant, json=True, stdout=output, **options)
    return json.loads(output.getvalue())


def write(path, purchases, *, newline="\n", amount="amount"):
    lines = [f"customer,date,items,{amount}", *(f"{b.customer},{b.day},1,{b.amount}" for b in purchases)]
    path.write_text(newline.join(lines) + newline, newline="")
    return path


bought = st.builds(
    Bought,
    customer=st.sampled_from("ABCDE"),
    day=st.integers(0, 60).map(lambda number: FIRST + timedelta(days=number)),
    amount=st.integers(0, 20000).map(lambda cents: Decimal(cents) / 100),
)


@pytest.mark.django_db
@hypothesis_settings(
    max_examples=25, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    purchases=st.lists(bought, min_size=1, max_size=25),
    rate=st.integers(0, 30000).map(lambda number: Decimal(number) / 10000),
    expires=st.one_of(st.just(0), st.integers(2, 40)),
    warns=st.integers(0, 39),
    nights=st.one_of(st.none(), st.integers(0, 130)),
)
def test_totals_are_those_worked_out_by_hand(tmp_path, purchases, rate, expires, warns, nights):
    warns = min(warns, max(expires - 1, 0))
    first, last = min(b.day for b in purchases), max(b.day for b in purchases)
    until = first + timedelta(days=nights) if nights is not None else None

    shown = replay(
        write(tmp_path / "log.csv", purchases),
        merchant=f"shop-{Merchant.objects.count()}",
        points_per_unit=rate,
        expiration_days=expires,
        warning_days=warns,
        until=until,
    )

    by_hand = replay_by_hand.totals(
        purchases, rate=rate, expires=expires, warns=warns, until=until or last + timedelta(days=1)
    )
    assert shown == by_hand
    assert list(shown) == KEYS


@pytest.mark.django_db
def test_the_beginning_of_a_real_shop_comes_to_the_same(tmp_path):
    purchases = replay_by_hand.read(SAMPLE)[:600]
    path = write(tmp_path / "log.csv", purchases, amount="amount_usd", newline="\r\n")

    shown = replay(path, expiration_days=90, warning_days=30, points_per_unit=Decimal("1.5"))

    until = max(b.day for b in purchases) + timedelta(days=1)
    assert shown == replay_by_hand.totals(purchases, rate=Decimal("1.5"), expires=90, warns=30, until=until)
    assert shown["expired_cards"] > 50
    assert check_ledger().mismatched_cards == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.django_db
def test_the_whole_shop_comes_to_the_same(tmp_path):
    path = tmp_path / "master.csv"
    path.write_bytes(gzip.decompress(MASTER.read_bytes()))

    shown = replay(path)

    by_hand = replay_by_hand.totals(
        replay_by_hand.read(path), rate=Decimal(1), expires=180, warns=14, until=date(1998, 7, 1)
    )
    assert shown == by_hand
    assert shown["purchases"] == 69659


@pytest.mark.django_db
def test_the_order_of_lines_does_not_matter(tmp_path):
    purchases = [Bought("A", FIRST, Decimal(5)), Bought("A", FIRST + timedelta(days=9), Decimal(7))]

    one = replay(write(tmp_path / "a.csv", purchases), merchant="one", expiration_days=8, warning_days=2)
    other = replay(write(tmp_path / "b.csv", purchases[::-1]), merchant="other", expiration_days=8, warning_days=2)

    assert one == other


@pytest.mark.django_db
def test_purchases_on_the_last_day_count_and_later_ones_do_not(tmp_path):
    purchases = [Bought("A", FIRST + timedelta(days=number), Decimal(10)) for number in range(3)]

    shown = replay(write(tmp_path / "log.csv", purchases), until=FIRST + timedelta(days=1))

    assert (shown["purchases"], shown["points_earned"]) == (2, 20)


@pytest.mark.django_db
def test_all_dates_move_by_whole_days_so_that_the_last_is_the_one_asked_for(tmp_path):
    purchases = [Bought("A", FIRST, Decimal(10)), Bought("A", FIRST + timedelta(days=5), Decimal(10))]

    replay(write(tmp_path / "log.csv", purchases), last_day=date(2025, 6, 30))

    moments = Transaction.objects.filter(type="POINTS_EARNED").order_by("pk").values_list("transaction_at", flat=True)
    assert [moment.isoformat() for moment in moments] == ["2025-06-25T12:00:00+00:00", "2025-06-30T12:00:00+00:00"]


@pytest.mark.django_db
def test_rows_are_created_as_of_their_moment_and_runs_in_real_time(tmp_path):
    replay(write(tmp_path / "log.csv", [Bought("A", FIRST, Decimal(10))]))

    assert set(Transaction.objects.values_list("created_at__date", flat=True)) == {FIRST}
    run = ExpirationRun.objects.earliest("pk")
    assert run.as_of.date() == FIRST
    assert run.started_at.date() > FIRST
    assert not ExpirationRun.objects.counting().exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("domain", "statuses"), [("", {"undeliverable"}), ("example.com", {"due"})])
def test_customers_have_an_address_only_when_a_domain_is_given(tmp_path, domain, statuses):
    replay(write(tmp_path / "log.csv", [Bought("A", FIRST, Decimal(10))]), email_domain=domain)

    assert {bool(email) for email in Customer.objects.values_list("email", flat=True)} == {bool(domain)}
    assert set(Message.objects.values_list("status", flat=True)) == statuses


@pytest.mark.django_db
def test_a_purchase_of_nothing_is_a_purchase_and_an_activity(tmp_path):
    purchases = [Bought("A", FIRST, Decimal(10)), Bought("A", FIRST + timedelta(days=8), Decimal(0))]

    shown = replay(
        write(tmp_path / "log.csv", purchases), expiration_days=10, warning_days=1, until=FIRST + timedelta(days=15)
    )

    assert (shown["purchases"], shown["expired_cards"], shown["points_outstanding"]) == (2, 0, 10)


def refused(path, **options):
    with pytest.raises(CommandError) as refusal:
        replay(path, **options)
    assert not Card.objects.exists()
    return refusal.value


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("A,2024-02-30,1,5.00", "line 3: date 2024-02-30 is not a date"),
        ("A,20240229,1,5.00", "line 3: date 20240229 is not a date"),
        ("A,29/02/2024,1,5.00", "line 3: date 29/02/2024 is not a date"),
        ("A,2999-01-01,1,5.00", "line 3: date 2999-01-01 is in the future"),
        ("A,2024-02-29,1,-5.00", "line 3: amount -5.00 is not an amount"),
        ("A,2024-02-29,1,5.005", "line 3: amount 5.005 is not an amount"),
        ("A,2024-02-29,1,NaN", "line 3: amount NaN is not an amount"),
        ("A,2024-02-29,1,1e3", "line 3: amount 1e3 is not an amount"),
        ("A,2024-02-29,1,99999999999", "line 3: amount 99999999999 is not an amount"),
        ("A,2024-02-29,1,", "line 3: amount  is not an amount"),
        (",2024-02-29,1,5.00", "line 3: customer is missing"),
        ("A,2024-02-29,1", "line 3:"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_created(tmp_path, line, reason):
    path = tmp_path / "log.csv"
    path.write_text(f"customer,date,items,amount\nB,2024-02-28,1,1.00\n{line}\n")

    refusal = refused(path)

    assert refusal.returncode == 1
    assert reason in str(refusal)
    assert not Merchant.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"customer,date,amount\n", "no purchases"),
        (b"customer,date\nA,2024-01-01\n", "amount"),
        (b"customer,amount\nA,1\n", "date"),
        (b"customer,date,amount\nA\xff,2024-01-01,1\n", "UTF-8"),
        (b"customer,date,amount,amount_usd\nA,2024-01-01,1,1\n", "amount"),
    ],
)
def test_a_file_of_another_form_is_refused_in_words(tmp_path, content, reason):
    path = tmp_path / "log.csv"
    path.write_bytes(content)

    refusal = refused(path)

    assert refusal.returncode == 1
    assert reason in str(refusal)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"expiration_days": 10, "warning_days": 14}, "10 days"),
        ({"expiration_days": -1}, "1 to 3650"),
        ({"points_per_unit": Decimal("-1")}, "Points per unit"),
        ({"points_per_unit": Decimal("NaN")}, "Points per unit"),
        ({"points_per_unit": Decimal("0.00001")}, "Points per unit"),
        ({"until": FIRST - timedelta(days=1)}, "after the end"),
        ({"merchant": "not a slug"}, "slug"),
    ],
)
def test_a_plan_that_makes_no_sense_is_a_usage_error(tmp_path, options, reason):
    path = write(tmp_path / "log.csv", [Bought("A", FIRST, Decimal(1))])

    refusal = refused(path, **options)

    assert refusal.returncode == 2
    assert reason in str(refusal)


@pytest.mark.django_db
def test_an_existing_merchant_is_never_touched(tmp_path):
    path = write(tmp_path / "log.csv", [Bought("A", FIRST, Decimal(1))])
    replay(path)

    with pytest.raises(CommandError, match="exists already") as refusal:
        replay(path)

    assert refusal.value.returncode == 2
    assert Transaction.objects.filter(type="POINTS_EARNED").count() == 1


@pytest.mark.django_db
def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    assert refused(tmp_path / "nowhere.csv").returncode == 2
    assert refused(tmp_path).returncode == 2
