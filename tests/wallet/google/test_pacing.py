import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.google import FakeGoogle
from tests.fakes.pki import ISSUER_ID
from tests.wallet.google.conftest import OBJECT
from tests.wallet.google.faces import CLASS_ID, class_body, object_body
from wallet.google.client import GoogleWallet
from wallet.google.pacing import Pace
from wallet.outcomes import DONE, Kind

PER_SECOND = 18
GOOGLES_LIMIT = 20


def client_of(fake: FakeGoogle, account, pace: Pace) -> GoogleWallet:
    return GoogleWallet(url=fake.url, token_url=fake.token_url, account=account, pace=pace)


def objects(count: int) -> list[str]:
    return [f"{OBJECT}-{number}" for number in range(count)]


async def put_all(google: GoogleWallet, ids: list[str]):
    bodies = [(one, object_body(one)) for one in ids]
    return await asyncio.gather(
        *(google.put_object(one, body, class_body=class_body(), notify=False) for one, body in bodies)
    )


async def turns(pace: Pace, count: int) -> list[float]:
    async def turn() -> float:
        await pace.turn()
        return time.monotonic()

    return sorted(await asyncio.gather(*(turn() for _ in range(count))))


def most_in_a_second(moments: list[float]) -> int:
    return max(sum(start <= at < start + 1 for at in moments) for start in moments)


def test_google_gets_no_more_than_20_requests_in_any_second(fake, account):
    async def run():
        async with client_of(fake, account, Pace(PER_SECOND)) as google:
            await google.put_class(CLASS_ID, class_body())
            return await put_all(google, objects(20))

    assert set(asyncio.run(run())) == {DONE}
    assert len(fake.calls) == 2 + 2 * 20  # all are new: each is asked for and inserted
    assert 10 <= fake.most_in_a_second() <= GOOGLES_LIMIT


def test_one_pace_holds_for_all_threads(fake, account):
    pace = Pace(PER_SECOND)

    def worker(number: int):
        async def run():
            async with client_of(fake, account, pace) as google:
                return await asyncio.gather(*(google.probe(issuer_id=ISSUER_ID) for _ in range(12)))

        return asyncio.run(run())

    with ThreadPoolExecutor(3) as pool:
        outcomes = [outcome for done in pool.map(worker, range(3)) for outcome in done]

    assert (set(outcomes), len(fake.calls)) == ({DONE}, 36)
    assert fake.most_in_a_second() <= GOOGLES_LIMIT


def test_a_loop_that_was_held_up_makes_no_burst_afterwards():
    pace = Pace(100)

    async def run():
        waiting = asyncio.ensure_future(turns(pace, 60))
        await asyncio.sleep(0.1)
        time.sleep(0.4)  # as a busy process does
        return await waiting

    moments = asyncio.run(run())
    assert moments[-1] - moments[0] >= 0.9  # with a burst it would be 0.6


def test_turns_are_not_saved_up():
    pace = Pace(20)

    async def run():
        await pace.turn()
        await asyncio.sleep(0.5)
        return await turns(pace, 4)

    moments = asyncio.run(run())
    assert moments[-1] - moments[0] >= 3 / 20


def test_first_come_is_first_served():
    pace, order = Pace(200), []

    async def one(number: int):
        await pace.turn()
        order.append(number)

    async def run():
        await asyncio.gather(*(one(number) for number in range(20)))

    asyncio.run(run())
    assert order == list(range(20))


def test_who_gives_up_waiting_takes_no_turn():
    pace = Pace(10)

    async def run():
        await pace.turn()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pace.turn(), 0.01)
        started = time.monotonic()
        await pace.turn()
        return time.monotonic() - started

    assert asyncio.run(run()) < 0.4  # and not the half second that five turns take


def test_a_pace_outlives_the_loops_that_share_it():
    pace = Pace(50)
    moments = [moment for _ in range(3) for moment in asyncio.run(turns(pace, 4))]

    assert moments[-1] - moments[0] >= 11 / 50


def test_nobody_goes_before_google_said(fake, account):
    fake.when(429, times=1, retry_after="2")
    pace = Pace(PER_SECOND)

    async def run():
        async with client_of(fake, account, pace) as google:
            first = await google.probe(issuer_id=ISSUER_ID)
            return first, await asyncio.gather(*(google.probe(issuer_id=ISSUER_ID) for _ in range(3)))

    first, others = asyncio.run(run())
    refused, *later = fake.calls
    assert (first.kind, first.retry_after_seconds) == (Kind.THROTTLED, 2)
    assert set(others) == {DONE}
    assert later[0].at - refused.at >= 2
    assert later[2].at - later[0].at >= 2 / PER_SECOND * 1.9  # at half the rate


def test_the_longest_wish_counts():
    pace = Pace(PER_SECOND)
    pace.slow_down(30)
    pace.slow_down(2)

    assert 29 < pace.pause_seconds <= 30


def test_without_a_wish_there_is_a_short_pause():
    pace = Pace(PER_SECOND)
    pace.slow_down()

    assert 0.9 < pace.pause_seconds <= 1


def test_refusals_of_the_same_moment_halve_the_rate_once():
    pace = Pace(PER_SECOND)
    for _ in range(10):
        pace.slow_down(1)

    assert pace.rate == PER_SECOND / 2


def test_the_rate_comes_back_slowly_and_no_further():
    pace = Pace(PER_SECOND)
    pace.slow_down()
    for _ in range(250):
        pace.recover()
    assert pace.rate == pytest.approx(PER_SECOND * 3 / 4)

    for _ in range(1000):
        pace.recover()
    assert pace.rate == PER_SECOND


def test_the_rate_never_falls_to_nothing(monkeypatch):
    monkeypatch.setattr("wallet.google.pacing.SHORTEST_PAUSE_SECONDS", 0)
    pace = Pace(PER_SECOND)
    for _ in range(100):
        pace.slow_down()

    assert pace.rate == PER_SECOND / 16


def test_whatever_happens_no_second_has_more_than_its_share():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice, pace = random.Random(seed), Pace(60)

    async def one() -> float:
        await asyncio.sleep(dice.uniform(0, 1.5))
        await pace.turn()
        moment = time.monotonic()
        if dice.random() < 0.1:
            time.sleep(dice.uniform(0, 0.05))
        if dice.random() < 0.01:
            pace.slow_down(dice.uniform(0, 0.2))
        pace.recover()
        return moment

    async def run():
        return await asyncio.gather(*(one() for _ in range(100)))

    assert most_in_a_second(sorted(asyncio.run(run()))) <= 61
