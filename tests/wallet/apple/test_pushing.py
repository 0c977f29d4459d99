import asyncio
import random
import socket
import threading
import time
from datetime import UTC, datetime

import pytest

from tests.fakes.apns import CUT, GOAWAY, HANG, RESET, Answer, FakeApns, answer
from tests.fakes.pki import DAY, PASS_TYPE, Identity, Pki, make_pki, shared_pki
from tests.wallet.credentials import shared_identity
from wallet.apple.pushing import MOST_AT_ONCE, PushConnection
from wallet.apple.signing import Signer
from wallet.outcomes import DONE, Kind, Outcome

PHONE, OTHER_PHONE = "ab" * 32, "cd" * 32
LATENCY_SECONDS = 0.05


@pytest.fixture
def apns():
    with FakeApns(shared_pki()) as server:
        yield server


def signer_of(identity: Identity, pki: Pki | None = None) -> Signer:
    return Signer(identity.certificate, identity.key, (pki or shared_pki()).intermediate.certificate)


def connection(apns: FakeApns, **changes) -> PushConnection:
    given = {
        "url": apns.url,
        "ca_file": apns.ca_file,
        "signer": signer_of(shared_identity()),
        "topic": PASS_TYPE,
        "push_type": "background",
        "priority": 5,
    }
    return PushConnection(**{**given, **changes})


def push(apns: FakeApns, *tokens: str, **changes) -> list[Outcome]:
    """Outcomes of pushes side by side, over one PushConnection."""

    async def all_of_them() -> list[Outcome]:
        async with connection(apns, **changes) as opened:
            return await asyncio.gather(*(opened.push(token) for token in tokens))

    return asyncio.run(all_of_them())


def probe(apns: FakeApns, **changes) -> Outcome:
    async def ask() -> Outcome:
        async with connection(apns, **changes) as opened:
            return await opened.probe()

    return asyncio.run(ask())


def tokens(count: int) -> list[str]:
    return [f"{number:064x}" for number in range(1, count + 1)]


class TestAPush:
    def test_reaches_apple_as_apple_wants_it(self, apns):
        assert push(apns, PHONE, push_type="alert", priority=10) == [DONE]

        [arrived] = apns.pushes
        assert (arrived.token, arrived.topic) == (PHONE, PASS_TYPE)
        assert (arrived.push_type, arrived.priority, arrived.body) == ("alert", "10", b"{}")
        assert apns.taken == [PHONE]

    @pytest.mark.parametrize(
        ("said", "kind", "code"),
        [
            (answer(200), Kind.DONE, ""),
            (answer(400, "BadDeviceToken"), Kind.GONE, "BadDeviceToken"),
            (answer(400, "DeviceTokenNotForTopic"), Kind.GONE, "DeviceTokenNotForTopic"),
            (answer(410, "Unregistered"), Kind.GONE, "Unregistered"),
            (answer(410, "ExpiredToken"), Kind.GONE, "ExpiredToken"),
            (answer(403, "BadCertificate"), Kind.CREDENTIAL, "BadCertificate"),
            (answer(403, "BadCertificateEnvironment"), Kind.CREDENTIAL, "BadCertificateEnvironment"),
            (answer(403), Kind.CREDENTIAL, "http_403"),
            (answer(400, "TopicDisallowed"), Kind.CREDENTIAL, "TopicDisallowed"),
            (answer(400, "BadTopic"), Kind.CREDENTIAL, "BadTopic"),
            (answer(400, "MissingTopic"), Kind.CREDENTIAL, "MissingTopic"),
            (answer(429, "TooManyRequests"), Kind.THROTTLED, "TooManyRequests"),
            (answer(500, "InternalServerError"), Kind.TROUBLE, "InternalServerError"),
            (answer(503, "ServiceUnavailable"), Kind.TROUBLE, "ServiceUnavailable"),
            (answer(503, "Shutdown"), Kind.TROUBLE, "Shutdown"),
            (answer(502), Kind.TROUBLE, "http_502"),
            (answer(400, "IdleTimeout"), Kind.TROUBLE, "IdleTimeout"),
            (answer(404, "BadPath"), Kind.FINAL, "BadPath"),
            (answer(405, "MethodNotAllowed"), Kind.FINAL, "MethodNotAllowed"),
            (answer(413, "PayloadTooLarge"), Kind.FINAL, "PayloadTooLarge"),
            (answer(400, "PayloadEmpty"), Kind.FINAL, "PayloadEmpty"),
            (answer(400), Kind.FINAL, "http_400"),
        ],
    )
    def test_ends_as_the_table_of_retries_says(self, apns, said, kind, code):
        apns.when(said)

        [outcome] = push(apns, PHONE)

        assert (outcome.kind, outcome.code) == (kind, code)
        assert PHONE not in outcome.reason
        assert len(apns.pushes) == 1

    def test_learns_since_when_a_phone_is_gone(self, apns):
        gone_at = datetime(2026, 3, 2, 12, 0, 0, 123000, tzinfo=UTC)
        apns.when(answer(410, "Unregistered", gone_at=gone_at))

        assert push(apns, PHONE)[0].gone_at == gone_at

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b'{"reason": null}', b'{"timestamp": "x"}', b'{"timestamp": 1e300}']
    )
    @pytest.mark.parametrize("status", [410, 503])
    def test_understands_answers_in_another_form(self, apns, status, body):
        apns.when(Answer(status, body))

        [outcome] = push(apns, PHONE)

        assert (outcome.code, outcome.gone_at) == (f"http_{status}", None)

    @pytest.mark.parametrize(("asked", "waits"), [(None, 60), (5, 60), (300, 300)])
    def test_that_was_one_too_many_waits_a_minute_or_what_apple_asks_for(self, apns, asked, waits):
        apns.when(answer(429, "TooManyRequests", retry_after_seconds=asked))

        assert push(apns, PHONE)[0].retry_after_seconds == waits

    def test_fails_alone(self, apns):
        apns.when(answer(503, "ServiceUnavailable"), token=OTHER_PHONE, times=1)

        assert [outcome.kind for outcome in push(apns, PHONE, OTHER_PHONE)] == [Kind.DONE, Kind.TROUBLE]
        assert push(apns, OTHER_PHONE) == [DONE]

    def test_with_a_token_that_is_none_stays_a_path_of_apple_s(self, apns):
        [outcome] = push(apns, "../../3/device/x?y#z")

        assert outcome.kind is Kind.GONE
        assert apns.pushes[0].token == "..%2F..%2F3%2Fdevice%2Fx%3Fy%23z"


class TestAProbe:
    def test_is_well_when_apple_knows_no_such_phone(self, apns):
        assert probe(apns) == DONE
        assert [arrived.token for arrived in apns.pushes] == ["0" * 64]

    def test_says_what_is_wrong(self, apns):
        assert probe(apns, topic="pass.other").code == "TopicDisallowed"

        apns.when(answer(403, "BadCertificate"))
        assert probe(apns).kind is Kind.CREDENTIAL

        apns.close()
        assert probe(apns).kind is Kind.TROUBLE


class TestTheCertificate:
    @pytest.mark.parametrize("valid", [(-9 * DAY, -DAY), (DAY, 9 * DAY)])
    def test_that_is_not_valid_is_not_shown_to_apple(self, apns, valid):
        expired = signer_of(shared_pki().pass_identity(valid=valid))

        outcomes = push(apns, PHONE, OTHER_PHONE, signer=expired)

        assert {(outcome.kind, outcome.code) for outcome in outcomes} == {(Kind.CREDENTIAL, "certificate_expired")}
        assert apns.connections == len(apns.pushes) == 0

    def test_of_a_foreign_issuer_is_told_from_a_bad_line(self, apns):
        foreign = make_pki()

        outcomes = push(apns, *tokens(50), signer=signer_of(foreign.pass_identity(), foreign))

        assert {(outcome.kind, outcome.code) for outcome in outcomes} == {(Kind.CREDENTIAL, "certificate_refused")}
        assert apns.pushes == []

    def test_of_the_server_is_checked(self, apns, tmp_path):
        ca_file = tmp_path / "other.pem"
        ca_file.write_bytes(make_pki().root.certificate_pem)

        [outcome] = push(apns, PHONE, ca_file=str(ca_file))

        assert (outcome.kind, outcome.code) == (Kind.TROUBLE, "server_untrusted")
        assert "Look at APPLE_PUSH_CA_FILE" in outcome.reason

    def test_leaves_no_key_behind_on_the_disk(self, apns, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        push(apns, PHONE)

        assert list(tmp_path.iterdir()) == []


class TestAConnection:
    def test_serves_all_pushes_side_by_side(self, apns):
        apns.delay_seconds = LATENCY_SECONDS
        began = time.monotonic()

        outcomes = push(apns, *tokens(1000))

        per_second = 1000 / (time.monotonic() - began)
        print(
            f"{per_second:.0f} pushes/s at {LATENCY_SECONDS * 1000:.0f} ms latency over {apns.connections} connection"
        )
        assert set(outcomes) == {DONE}
        assert sorted(apns.taken) == tokens(1000)
        assert apns.connections == 1
        assert per_second >= 200

    def test_has_a_hundred_pushes_on_their_way_at_most(self, apns):
        apns.when(HANG)

        async def on_their_way() -> int:
            async with connection(apns, timeout_seconds=60) as opened:
                waiting = [asyncio.create_task(opened.push(token)) for token in tokens(MOST_AT_ONCE + 20)]
                while len(apns.pushes) < MOST_AT_ONCE:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                for task in waiting:
                    task.cancel()
                return len(apns.pushes)

        assert asyncio.run(on_their_way()) == MOST_AT_ONCE

    def test_keeps_to_what_the_server_allows(self):
        with FakeApns(shared_pki(), streams_at_once=3, delay_seconds=0.01) as apns:
            assert set(push(apns, *tokens(30))) == {DONE}
            assert apns.connections == 1

    def test_that_apple_closes_in_between_opens_again_and_nothing_is_lost(self, apns):
        apns.delay_seconds = LATENCY_SECONDS
        apns.when(GOAWAY, after=150, times=1)
        apns.when(GOAWAY, after=400, times=1)

        outcomes = push(apns, *tokens(600))

        assert set(outcomes) == {DONE}
        assert set(apns.taken) == set(tokens(600))
        assert apns.connections == 3

    @pytest.mark.parametrize("fault", [CUT, RESET, GOAWAY])
    def test_that_fails_once_is_tried_again(self, apns, fault):
        apns.when(fault, times=1)

        assert push(apns, PHONE) == [DONE]
        assert len(apns.pushes) == 2

    @pytest.mark.parametrize("fault", [CUT, RESET, GOAWAY])
    def test_that_fails_always_is_trouble_after_two_times(self, apns, fault):
        apns.when(fault)

        [outcome] = push(apns, PHONE)

        assert (outcome.kind, outcome.code) == (Kind.TROUBLE, "connection")
        assert len(apns.pushes) == 2

    def test_survives_whatever_a_server_does_on_two_connections_at_most(self, apns):
        seed = random.randrange(10**6)
        print(f"seed {seed}")
        chance = random.Random(seed)
        for _ in range(60):
            fault = chance.choice([GOAWAY, GOAWAY, CUT, RESET, RESET, HANG, answer(503, "ServiceUnavailable")])
            apns.when(fault, after=chance.randrange(1200), times=1)
        apns.delay_seconds = 0.01

        async def until_all_are_told() -> int:
            left, rounds = set(tokens(600)), 0
            async with connection(apns, timeout_seconds=0.5) as opened:
                while left:
                    outcomes = await asyncio.gather(*(opened.push(token) for token in left))
                    assert {outcome.kind for outcome in outcomes} <= {Kind.DONE, Kind.TROUBLE}
                    left = {token for token, told in zip(left, outcomes, strict=True) if told is not DONE}
                    rounds += 1
            return rounds

        assert asyncio.run(until_all_are_told()) <= 20
        assert set(apns.taken) == set(tokens(600))
        assert apns.most_at_once <= 2

    def test_waits_for_one_answer_no_longer_than_it_should_and_goes_on_with_others(self, apns):
        apns.when(HANG, token=PHONE)
        apns.delay_seconds = 0.1

        async def meanwhile() -> tuple[Outcome, list[Outcome]]:
            async with connection(apns, timeout_seconds=0.5) as opened:
                hanging = asyncio.create_task(opened.push(PHONE))
                others = [await opened.push(OTHER_PHONE) for _ in range(8)]
                return await hanging, others

        hanging, others = asyncio.run(meanwhile())

        assert (hanging.kind, hanging.code) == (Kind.TROUBLE, "timeout")
        assert hanging.reason == "Apple did not answer within 0.5 s."
        assert set(others) == {DONE}
        assert apns.connections == 1

    def test_that_is_silent_is_given_up(self, apns):
        apns.when(HANG, after=1, times=1)

        async def three_times() -> list[Outcome]:
            async with connection(apns, timeout_seconds=0.3) as opened:
                return [await opened.push(PHONE) for _ in range(3)]

        assert [outcome.code for outcome in asyncio.run(three_times())] == ["", "timeout", ""]
        assert apns.connections == 2

    def test_that_cannot_be_had_is_trouble_for_all_who_wait(self, apns):
        apns.close()

        outcomes = push(apns, *tokens(50))

        assert {(outcome.kind, outcome.code) for outcome in outcomes} == {(Kind.TROUBLE, "connection")}
        assert outcomes[0].reason.startswith("The connection to Apple ended (")

    def test_is_had_again_when_the_server_is_back(self, apns):
        async def before_and_after() -> list[Outcome]:
            async with connection(apns) as opened:
                first = await opened.push(PHONE)
                await asyncio.to_thread(apns.close)
                second = await opened.push(PHONE)
                await asyncio.to_thread(apns.open)
                return [first, second, await opened.push(PHONE)]

        assert [outcome.kind for outcome in asyncio.run(before_and_after())] == [Kind.DONE, Kind.TROUBLE, Kind.DONE]

    def test_to_somebody_who_says_nothing_is_given_up(self, apns):
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"https://localhost:{mute.getsockname()[1]}"

            outcomes = push(apns, *tokens(5), url=url, timeout_seconds=0.3)

        assert {outcome.code for outcome in outcomes} == {"timeout"}

    def test_to_somebody_who_speaks_no_http_2_is_trouble(self):
        with FakeApns(shared_pki(), protocol="http/1.1") as apns:
            assert push(apns, PHONE)[0].code == "connection"

    def test_that_is_closed_while_it_opens_leaves_nothing_behind(self, apns):
        async def leave_at_once() -> None:
            async with connection(apns) as opened:
                task = asyncio.create_task(opened.push(PHONE))
                await asyncio.sleep(0)
                task.cancel()

        asyncio.run(leave_at_once())

    def test_that_nobody_used_needs_no_server(self, apns):
        assert push(apns) == []
        assert apns.connections == 0


class TestTheFake:
    def test_lets_phones_react_and_waits_for_them(self, apns):
        seen, apart = [], threading.Event()

        def react(arrived) -> None:
            apart.wait(5)
            seen.append(arrived.token)

        apns.on_push = react
        push(apns, PHONE, OTHER_PHONE)
        apart.set()
        apns.settle()

        assert sorted(seen) == [PHONE, OTHER_PHONE]

    def test_tells_what_went_wrong_with_a_phone(self):
        def fail(arrived) -> None:
            raise LookupError("no such pass")

        apns = FakeApns(shared_pki())
        apns.on_push = fail

        with pytest.raises(LookupError, match="no such pass"), apns:
            push(apns, PHONE)

    def test_keeps_its_port(self, apns):
        port = apns.port
        apns.close()
        apns.open()

        assert apns.port == port
        assert push(apns, PHONE) == [DONE]
