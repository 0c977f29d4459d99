"""Many tills at the same moment, over HTTP, on several processes of the real web server."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import pytest
from django.db import connection, transaction

from loyalty.models import Card, CardBalance, IdempotencyKey, Reward, Store, Transaction
from loyalty.services.ledger_check import check_ledger
from tests.factories import NOON, days, make_card, make_cards, make_reward
from tests.fakes.web_process import Answer, WebProcess, web
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till
from tests.loyalty.runs import expire, row_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]
BASE = "/api/v1/store/loyalty/"
# Acceptance asks for 20 rounds; a few of them show most of it within seconds.
rounds = pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.slow)])


@pytest.fixture
def till(db):
    till = Till(staff_pin_policy="optional", kind="hybrid")
    Store.objects.filter(pk=till.store.pk).update(throttle_factor=0)
    return till


@pytest.fixture(scope="module")
def site(tmp_path_factory, django_db_setup):
    with web(tmp_path_factory.mktemp("site"), workers=4, threads=4) as running:
        yield running


def at_once(number: int, ask: Callable[[int], Answer]) -> list[Answer]:
    """Ask `number` times at the same moment."""
    start, answers = threading.Barrier(number), []

    def one(n: int) -> None:
        start.wait(30)
        answers.append(ask(n))

    threads = [threading.Thread(target=one, args=[n]) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(answers) == number
    return answers


def poster(
    site: WebProcess, till: Till, path: str, body: dict[str, Any], key: Callable[[int], str]
) -> Callable[[int], Answer]:
    return lambda n: site.ask("POST", BASE + path, body, {**till.headers, "Idempotency-Key": key(n)})


def keys_of(name: str) -> Callable[[int], str]:
    """A key of its own for each time."""
    return lambda n: f"{name}-{n:04}"


def codes(answers: list[Answer]) -> Counter[tuple[int, str | None]]:
    return Counter((answer.status, answer.json().get("code")) for answer in answers)


@rounds
def test_of_40_redemptions_of_10_from_100_exactly_10_succeed(site, till, rounds):
    cards = make_cards(till.merchant, rounds, points=100)
    for card in cards:
        ask = poster(site, till, f"cards/{card.pk}/redeem", {"points": 10}, keys_of(f"card-{card.pk}"))
        assert codes(at_once(40, ask)) == {(201, None): 10, (409, "insufficient_points"): 30}

    assert set(CardBalance.objects.values_list("points_balance", flat=True)) == {0}
    assert check_ledger().mismatches == []


@rounds
def test_of_a_stock_of_3_exactly_3_are_handed_out(site, till, rounds):
    cards = make_cards(till.merchant, 20, points=1000)
    for number in range(rounds):
        reward = make_reward(till.merchant, points_cost=10, stock=3)

        def ask(n: int, reward: Reward = reward, number: int = number) -> Any:
            path = f"{BASE}cards/{cards[n].pk}/redeem"
            headers = {**till.headers, "Idempotency-Key": f"stock-{number}-{n:04}"}
            return site.ask("POST", path, {"reward_id": reward.pk}, headers)

        assert codes(at_once(20, ask)) == {(201, None): 3, (409, "out_of_stock"): 17}
        reward.refresh_from_db()
        assert reward.stock == 0
    assert check_ledger().mismatches == []


@rounds
def test_a_run_that_several_give_back_at_once_comes_back_once(site, till, rounds):
    office = Office(till.merchant, "support")
    for number in range(rounds):
        cards = make_cards(till.merchant, 5, points=10, at=NOON - days(800 - number * 20))
        warned_at = NOON - days(800 - number * 20) + days(170)
        expire(warned_at, merchant=till.merchant)
        run = row_of(expire(warned_at + days(20), merchant=till.merchant))
        assert run.cards_expired == len(cards)

        def give_back(n: int, path: str = f"{Office.base}expiration-runs/{run.pk}/restore") -> Any:
            return site.ask("POST", path, {"reason": "mistake"}, office.headers)

        answers = at_once(8, give_back)

        assert {answer.status for answer in answers} == {200}
        told = [answer.json() for answer in answers]
        assert sum(one["restored_cards"] for one in told) == len(cards)
        assert sum(len(one["already_restored_card_ids"]) for one in told) == len(cards) * (len(told) - 1)
        assert [one["failed_card_ids"] for one in told] == [[]] * len(told)
        balances = CardBalance.objects.filter(card__in=cards)
        assert set(balances.values_list("points_balance", flat=True)) == {10}
        restored = Transaction.objects.filter(card__in=cards, type="ADMIN_ADJUSTMENT")
        assert restored.count() == len(cards)
    assert check_ledger().mismatches == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("cards/{}/earn", {"amount": "25.00", "receipt_number": "R1"}),
        ("cards/{}/redeem", {"points": 100}),
        ("cards/{}/stamps", {"count": 1}),
        ("cards", {"email": "twin@example.com", "accepts_terms": True}),
    ],
)
def test_20_identical_requests_write_one_row_and_get_one_answer(site, till, path, body):
    card = make_card(till.merchant, points=100)
    before = Transaction.objects.count()

    answers = at_once(20, poster(site, till, path.format(card.pk), body, lambda n: "one-and-the-same"))

    assert {answer.status for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert Transaction.objects.count() == before + 1
    assert IdempotencyKey.objects.count() == 1


def test_one_key_with_two_bodies_at_once_does_one_of_them(site, till):
    card = make_card(till.merchant, points=100)

    def ask(n: int) -> Any:
        headers = {**till.headers, "Idempotency-Key": "one-and-the-same"}
        return site.ask("POST", f"{BASE}cards/{card.pk}/redeem", {"points": 10 + n % 2}, headers)

    answers = at_once(20, ask)

    assert codes(answers) == {(201, None): 10, (422, "idempotency_key_reused"): 10}
    assert Transaction.objects.filter(type="POINTS_REDEEMED").count() == 1


def test_lost_answers_and_killed_servers_leave_one_row_for_each_key(site, till):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    chance = random.Random(seed)
    cards = make_cards(till.merchant, 20, points=1000)
    wanted = [(f"lost-{n:05}", chance.choice(cards), chance.randint(1, 30)) for n in range(200)]

    def ask(key: str, card: Card, points: int) -> Any:
        path, headers = f"{BASE}cards/{card.pk}/redeem", {**till.headers, "Idempotency-Key": key}
        try:
            return site.ask("POST", path, {"points": points}, headers)
        except (OSError, HTTPException):
            return None  # the answer is lost: nobody knows whether it was done

    def some_tills(part: list[tuple[str, Card, int]]) -> None:
        for request in part:
            ask(*request)

    tills = [threading.Thread(target=some_tills, args=[wanted[n::8]]) for n in range(8)]
    for thread in tills:
        thread.start()
    for _ in range(4):
        site.kill_a_worker()
        threading.Event().wait(0.5)
    for thread in tills:
        thread.join(120)

    answers = [ask(*request) or ask(*request) or ask(*request) for request in wanted]
    again = [ask(*request) for request in wanted]

    assert [answer.status for answer in answers if answer] == [201] * len(wanted)
    assert [answer.content for answer in answers if answer] == [answer.content for answer in again if answer]
    rows = Transaction.objects.filter(type="POINTS_REDEEMED")
    assert rows.count() == len(wanted)
    assert set(rows.values_list("idempotency_key", flat=True)) == {key for key, _, _ in wanted}
    assert -sum(rows.values_list("points_delta", flat=True)) == sum(points for _, _, points in wanted)
    assert check_ledger().mismatches == []


def test_a_till_that_waits_too_long_for_a_card_is_told_to_come_back(tmp_path, till):
    card = make_card(till.merchant, points=100)
    with web(tmp_path, workers=1, DATABASE_LOCK_TIMEOUT_MS="300") as site, transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM loyalty_cardbalance WHERE card_id = %s FOR UPDATE", [card.pk])
        ask = poster(site, till, f"cards/{card.pk}/redeem", {"points": 10}, lambda n: "patience")
        refused = ask(0)

    assert (refused.status, refused.json()["code"]) == (409, "card_busy")
    assert refused.headers["Retry-After"] == "1"
