"""The web service answers phones as Apple's table says, in every cell, whatever they send."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

import pytest
from django.core.cache import cache
from django.utils import timezone

from tests.factories import give, make_card
from tests.fakes.phone import MEDIA_TYPE, HeldPass, Phone, ask
from tests.wallet.credentials import make_apple_credential
from tests.wallet.dispatching import dispatch
from wallet.models import Credential, DeviceLog, Pass, Registration
from wallet.services import issuing

pytestmark = pytest.mark.django_db(transaction=True)
PUSH_TOKEN = "ab" * 32


@pytest.fixture
def web_service(live_server, apple_credential, wallet_settings):
    """The address that passes name."""
    cache.clear()  # of what was counted for throttles
    wallet_settings.PUBLIC_URL = live_server.url
    return f"{live_server.url}/wallet/apple"


@pytest.fixture
def card():
    return make_card(points=10, first_name="Ana")


@pytest.fixture
def held(web_service, card):
    """A pass from a link, in a phone."""
    return HeldPass(issuing.hand_out(card=card, at=timezone.now()).content)


@pytest.fixture
def other(web_service):
    """A pass of another card."""
    return HeldPass(issuing.hand_out(card=make_card(points=5), at=timezone.now()).content)


@pytest.fixture
def asker(web_service, held):
    return Asker(web_service, held)


@pytest.fixture
def phone(held):
    """A phone that is registered for the pass."""
    phone = Phone()
    phone.add(held.package)
    return phone


class Asker:
    """Whoever asks in the name of a pass, with one thing wrong or right."""

    def __init__(self, web_service, held, *, device="device-1", pass_type="", serial="", authorization=None):
        self.web_service = web_service
        self.pass_type, self.serial = quote(pass_type or held.pass_type), quote(serial or held.serial)
        self.device = quote(device)
        right = f"ApplePass {held.said['authenticationToken']}"
        self.headers = {"Authorization": right if authorization is None else authorization}

    @property
    def registration(self):
        return f"/v1/devices/{self.device}/registrations/{self.pass_type}/{self.serial}"

    def register(self, body=None):
        sent = {"pushToken": PUSH_TOKEN} if body is None else body
        return ask(self.web_service, "POST", self.registration, body=sent, headers=self.headers)

    def unregister(self):
        return ask(self.web_service, "DELETE", self.registration, headers=self.headers)

    def fetch(self, method="GET", *, since=None):
        path = f"/v1/passes/{self.pass_type}/{self.serial}"
        known = {} if since is None else {"If-Modified-Since": since}
        return ask(self.web_service, method, path, headers={**self.headers, **known})

    def peek(self):
        return self.fetch("HEAD")

    def list(self, query=""):
        path = f"/v1/devices/{self.device}/registrations/{self.pass_type}{query}"
        return ask(self.web_service, "GET", path)


def without_date(answer):
    """What tells one refusal from another."""
    return {name: value for name, value in answer.headers.items() if name != "Date"}


def complain(web_service, body):
    return ask(web_service, "POST", "/v1/log", body=body)


def change(card, points, *, at):
    """The card has other points, and phones are pushed to. Returns the push tokens."""
    give(card, points, at=at)
    return dispatch(at=at)


# --- registering


def test_a_new_phone_is_registered_with_201(asker):
    answer = asker.register()

    assert (answer.status, answer.content) == (201, b"")
    assert list(Registration.objects.values_list("device", "push_token")) == [("device-1", PUSH_TOKEN)]


def test_a_known_phone_gets_200_and_its_new_push_token_counts(asker):
    asker.register()
    first = Registration.objects.get()

    answer = asker.register({"pushToken": "cd" * 32})

    assert answer.status == 200
    renewed = Registration.objects.get()
    assert (renewed.pk, renewed.push_token) == (first.pk, "cd" * 32)
    assert renewed.registered_at > first.registered_at


@pytest.mark.parametrize("push_token", ["a", "0" * 63, PUSH_TOKEN, "aF" * 80, "e" * 200])
def test_a_push_token_is_hex_of_any_length_that_is_kept(asker, push_token):
    assert asker.register({"pushToken": push_token}).status == 201
    assert Registration.objects.get().push_token == push_token


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"pushToken"',
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"pushToken": ' + b"1" * 9_000 + b"}",
        {},
        {"pushtoken": PUSH_TOKEN},
        {"pushToken": None},
        {"pushToken": 1},
        {"pushToken": [PUSH_TOKEN]},
        {"pushToken": ""},
        {"pushToken": "xyz"},
        {"pushToken": "a" * 201},
        {"pushToken": "ab\0"},
        {"pushToken": "\ud800"},
        {"pushToken": PUSH_TOKEN + "\n"},
        {"pushToken": PUSH_TOKEN, "more": "x" * 17_000},
        b" " * 2_000_000,
    ],
    ids=lambda body: str(body)[:30],
)
def test_a_body_without_a_push_token_gets_400(asker, body):
    assert asker.register(body).status == 400
    assert not Registration.objects.exists()


@pytest.mark.parametrize("device", ["d" * 101, "a\0b", "a b", "é", "\n", "d" * 200])
def test_a_device_that_cannot_be_one_gets_400(web_service, held, device):
    asker = Asker(web_service, held, device=device)

    assert [asker.register().status, asker.list().status] == [400, 400]
    assert asker.unregister().status == 200
    assert not Registration.objects.exists()


def test_a_device_of_100_characters_is_one(web_service, held):
    assert Asker(web_service, held, device="d" * 100).register().status == 201


def test_the_fiftieth_phone_is_not_the_last_but_the_first_ones_go(asker, web_service, held, settings):
    settings.LOYALTY_THROTTLES = {**settings.LOYALTY_THROTTLES, "wallet_registrations": 0}

    statuses = {Asker(web_service, held, device=f"device-{number}").register().status for number in range(1, 61)}

    assert statuses == {201}
    kept = Registration.objects.order_by("pk").values_list("device", flat=True)
    assert list(kept) == [f"device-{number}" for number in range(11, 61)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_registrations_are_answered_by_the_contract(web_service, held, settings):
    settings.LOYALTY_THROTTLES = {**settings.LOYALTY_THROTTLES, "wallet_registrations": 0}

    def register(number):
        return Asker(web_service, held, device=f"device-{number}").register().status

    with ThreadPoolExecutor(8) as threads:
        statuses = set(threads.map(register, range(10_000)))

    assert statuses == {201}
    assert register(1) == 201
    assert Registration.objects.count() == 50


def test_who_registers_too_often_is_told_when_to_come_back(asker, settings):
    settings.LOYALTY_THROTTLES = {**settings.LOYALTY_THROTTLES, "wallet_registrations": 3}

    answers = [asker.register() for _ in range(9)]

    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.status for answer in answers} == {200, 201, 429}
    assert len(refused) >= 3
    assert all(1 <= int(answer.headers["Retry-After"]) <= 60 for answer in refused)
    assert Registration.objects.count() == 1


# --- unregistering


def test_a_phone_that_no_longer_wants_to_hear_gets_200(asker):
    asker.register()

    assert asker.unregister().status == 200
    assert not Registration.objects.exists()


def test_unregistering_what_is_not_registered_gets_200_too(asker, phone):
    assert asker.unregister().status == 200
    assert Registration.objects.get().device == phone.device


# --- who may


@pytest.mark.parametrize(
    "wrong",
    [
        {"serial": "00000000-0000-4000-8000-000000000000"},
        {"serial": "a\0b"},
        {"serial": "é"},
        {"serial": "s" * 200},
        {"pass_type": "pass.example.other"},
        {"pass_type": "pass\0"},
        {"authorization": ""},
        {"authorization": "ApplePass"},
        {"authorization": "ApplePass "},
        {"authorization": "ApplePass AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
        {"authorization": "ApplePass \xe9\xe9"},
        {"authorization": "Bearer TOKEN"},
        {"authorization": "TOKEN"},
        {"authorization": "ApplePass TOKEN TOKEN"},
        {"authorization": "ApplePass OTHER"},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_an_unknown_pass_and_a_wrong_token_get_the_same_401(web_service, held, phone, other, wrong):
    if "authorization" in wrong:
        right = str(held.said["authenticationToken"])
        filled = wrong["authorization"].replace("TOKEN", right).replace("OTHER", other.said["authenticationToken"])
        wrong = {"authorization": filled}

    for method in ("register", "unregister", "fetch", "peek"):
        answer = getattr(Asker(web_service, held, **wrong), method)()

        assert (answer.status, answer.content) == (401, b"")
        assert without_date(answer) == without_date(getattr(Asker(web_service, held, serial="unknown"), method)())
    assert Registration.objects.get().device == phone.device


def test_the_scheme_may_be_written_in_any_case(web_service, held):
    token = held.said["authenticationToken"]

    assert Asker(web_service, held, authorization=f"applepass {token}").fetch().status == 200


def test_who_is_not_let_in_learns_nothing_of_what_else_is_wrong(web_service, held):
    assert Asker(web_service, held, authorization="").register(b"{").status == 401


def test_a_google_pass_is_no_pass_here(web_service, held, card):
    Pass.objects.update(platform="google")

    assert Asker(web_service, held).fetch().status == 401


# --- what has changed


def test_all_passes_of_a_phone_are_listed_without_a_password(web_service, phone, other):
    phone.add(other.package)
    asker = Asker(web_service, other, device=phone.device)

    answer = asker.list()

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"serialNumbers": sorted(phone.passes), "lastUpdated": "0"}
    assert isinstance(answer.json()["lastUpdated"], str)


def test_only_what_changed_after_the_tag_is_listed(web_service, phone, card, other):
    phone.add(other.package)
    asker = Asker(web_service, other, device=phone.device)
    tags = [asker.list().json()["lastUpdated"]]

    for points in (1, 2):
        change(card, points, at=timezone.now())
        found = asker.list(f"?passesUpdatedSince={tags[-1]}").json()
        assert found["serialNumbers"] == [serial for serial in phone.passes if serial != other.serial]
        tags.append(found["lastUpdated"])

    assert tags == sorted(tags, key=int)
    assert len(set(tags)) == 3
    assert asker.list(f"?passesUpdatedSince={tags[-1]}").status == 204


def test_nothing_to_tell_is_204(web_service, held, phone):
    nobody = Asker(web_service, held, device="nobody")
    elsewhere = Asker(web_service, held, device=phone.device, pass_type="pass.example.other")
    unreadable = Asker(web_service, held, device=phone.device, pass_type="pass\0")

    for asker in (nobody, elsewhere, unreadable):
        answer = asker.list()
        assert (answer.status, answer.content) == (204, b"")


@pytest.mark.parametrize(
    "tag",
    ["", "yesterday", "-1", "1.5", "1e3", "٣", "9" * 18, "9" * 19, "9" * 4_000, "%00", "%FF", " 5", "5%20", "null"],
    ids=lambda tag: tag[:12],
)
def test_a_tag_that_is_none_of_ours_means_everything(web_service, held, phone, card, tag):
    change(card, 1, at=timezone.now())
    asker = Asker(web_service, held, device=phone.device)

    answer = asker.list(f"?passesUpdatedSince={quote(tag, safe='%')}")

    assert answer.status == 200
    assert answer.json()["serialNumbers"] == [held.serial]
    assert asker.list(f"?passesUpdatedSince={answer.json()['lastUpdated']}").status == 204


def test_a_tag_from_before_a_backup_was_restored_means_everything(web_service, held, phone, card):
    change(card, 1, at=timezone.now())
    asker = Asker(web_service, held, device=phone.device)
    newest = int(asker.list().json()["lastUpdated"])

    assert asker.list(f"?passesUpdatedSince={newest}").status == 204
    assert asker.list(f"?passesUpdatedSince={newest + 1}").json()["lastUpdated"] == str(newest)


# --- the pass


def test_the_newest_pass_comes_with_when_it_was_modified(asker, phone, card):
    change(card, 32, at=timezone.now())
    give(card, 8, at=timezone.now())

    answer = asker.fetch()

    assert (answer.status, answer.headers["Content-Type"]) == (200, MEDIA_TYPE)
    assert HeldPass(answer.content).points == 50
    modified_at = Pass.objects.get().modified_at
    assert parsedate_to_datetime(answer.headers["Last-Modified"]) == modified_at
    assert answer.headers["Last-Modified"] == format_datetime(modified_at, usegmt=True)
    assert answer.headers["Cache-Control"] == "no-store"


def test_head_says_the_same_and_sends_nothing(asker):
    got, looked = asker.fetch(), asker.peek()

    assert (looked.status, looked.content) == (200, b"")
    named = ("Content-Type", "Last-Modified", "Content-Length", "Cache-Control")
    assert [looked.headers[name] for name in named] == [got.headers[name] for name in named]


def test_a_connection_that_asked_by_head_goes_on(live_server, held):
    connection = http.client.HTTPConnection(live_server.url.removeprefix("http://"))
    headers = {"Authorization": f"ApplePass {held.said['authenticationToken']}"}
    path = f"/wallet/apple/v1/passes/{held.pass_type}/{held.serial}"
    found = []
    for method in ("HEAD", "GET", "HEAD"):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        found.append((response.status, bool(response.read())))
    connection.close()

    assert found == [(200, False), (200, True), (200, False)]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_phone_has_is_304(asker, method):
    modified = asker.fetch().headers["Last-Modified"]
    later = format_datetime(parsedate_to_datetime(modified) + timedelta(hours=1), usegmt=True)

    for since in (modified, later):
        answer = asker.fetch(method, since=since)
        assert (answer.status, answer.content, answer.headers["Last-Modified"]) == (304, b"", modified)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("since", ["", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT", "9" * 500, "Sun, 99 Foo"])
def test_what_a_phone_cannot_have_is_200(asker, method, since):
    assert asker.fetch(method, since=since).status == 200


def test_changes_within_one_second_have_different_moments(asker, phone, card):
    noon = timezone.now().replace(microsecond=0)
    moments = [asker.fetch().headers["Last-Modified"]]
    for millisecond in (100, 200, 300):
        change(card, 1, at=noon + timedelta(milliseconds=millisecond))
        answer = asker.fetch(since=moments[-1])
        assert answer.status == 200
        moments.append(answer.headers["Last-Modified"])

    seen = [parsedate_to_datetime(moment) for moment in moments]
    assert seen == sorted(set(seen))


def test_a_clock_that_goes_back_lets_no_moment_go_back(asker, phone, card):
    before = asker.fetch().headers["Last-Modified"]

    change(card, 1, at=timezone.now() - timedelta(hours=3))

    after = asker.fetch(since=before)
    assert after.status == 200
    assert parsedate_to_datetime(after.headers["Last-Modified"]) > parsedate_to_datetime(before)


def test_a_card_out_of_use_is_fetched_as_void(asker, phone, card):
    type(card).objects.filter(pk=card.pk).update(status="closed")

    assert HeldPass(asker.fetch().content).said["voided"] is True


@pytest.mark.parametrize("broken", ["no credential", "expired", "no token key"])
def test_what_cannot_be_signed_is_put_off_and_not_broken(asker, intermediate, pki, settings, broken, caplog):
    if broken == "no token key":
        settings.WALLET_TOKEN_KEYS = ["2:another"]
    else:
        Credential.objects.filter(kind="apple").update(status="retired")
    if broken == "expired":
        over = pki.pass_identity(valid=(-2 * timedelta(days=365), -timedelta(days=1)))
        make_apple_credential(over, issuer=intermediate)

    answer = asker.fetch()

    assert (answer.status, answer.content, answer.headers["Retry-After"]) == (503, b"", "300")
    assert "wallet.phone_put_off" in caplog.text


# --- the log


def test_complaints_are_kept_and_get_200(web_service):
    answer = complain(web_service, {"logs": ["[2026-11-29] Get pass task: error 1", "second"]})

    assert (answer.status, answer.content) == (200, b"")
    assert list(DeviceLog.objects.order_by("pk").values_list("text", flat=True)) == [
        "[2026-11-29] Get pass task: error 1",
        "second",
    ]


def test_complaints_are_kept_in_part_and_without_secrets(web_service, held):
    token = held.said["authenticationToken"]
    device = "0123456789abcdef0123456789abcdef"
    lines = [f"{held.serial} for {device} with {token}", "x\0y\ud800z", "w " * 900, 7, None, ["nested"]]

    assert complain(web_service, {"logs": lines + ["more"] * 30}).status == 200

    kept = list(DeviceLog.objects.order_by("pk").values_list("text", flat=True))
    assert len(kept) == 20
    assert kept[:3] == [f"{held.serial} for … with …", "xy?z", "w " * 500]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", {}, {"logs": "text"}, {"logs": None}, {"logs": ["x" * 17_000]}])
def test_what_is_no_complaint_gets_400(web_service, body):
    assert complain(web_service, body).status == 400
    assert not DeviceLog.objects.exists()


@pytest.mark.parametrize("size", [16 * 1024 + 1, 1024 * 1024 + 1], ids=["16 KiB", "more than Django reads"])
def test_whatever_is_too_large_gets_400_in_words(client, asker, size, caplog):
    for path in ("/v1/log", asker.registration):
        answer = client.post(
            f"/wallet/apple{path}", b" " * size, content_type="application/json", headers=asker.headers
        )

        assert (answer.status_code, answer.content) == (400, b"The body is larger than 16 KiB.\n")
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_complaints_without_end_are_not_kept(web_service, settings):
    settings.LOYALTY_THROTTLES = {**settings.LOYALTY_THROTTLES, "wallet_log": 2}

    statuses = [complain(web_service, {"logs": ["again"]}).status for _ in range(8)]

    assert set(statuses) == {200, 429}
    assert DeviceLog.objects.count() == statuses.count(200)


# --- what is not in the table


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/v1/devices/d/registrations/p/s", 405),
        ("GET", "/v1/devices/d/registrations/p/s", 405),
        ("POST", "/v1/devices/d/registrations/p", 405),
        ("POST", "/v1/passes/p/s", 405),
        ("GET", "/v1/log", 405),
        ("GET", "/v1/passes/p", 404),
        ("GET", "/v1/devices//registrations/p", 404),
        ("GET", "/v1/devices/a%2Fb/registrations/p", 404),
        ("GET", "/v2/passes/p/s", 404),
        ("GET", "/v1", 404),
    ],
)
def test_what_phones_never_ask_is_refused(web_service, method, path, status):
    assert ask(web_service, method, path).status == status
