from datetime import date
from uuid import UUID

import pytest

from loyalty.models import Program
from tests.fakes.google_schema import problems
from tests.fakes.pki import ISSUER_ID
from tests.wallet.google.conftest import OBJECT
from tests.wallet.google.faces import CALLBACK_URL, CLASS_ID, LOGO_URL, class_body, look, object_body
from wallet.content import State, content_hash
from wallet.google import bodies

FACES = [
    {},
    {"locale": "de", "use_by": date(2026, 3, 9)},
    {"state": State.SUSPENDED},
    {"state": State.ENDED, "first_name": ""},
    {"look": look(shows_stamps=True)},
    {"look": look(shows_points=False, shows_stamps=True)},
    {"look": look(barcode=Program.Barcode.CODE128)},
    {"points": 2**31 - 1},
    {"first_name": "Zoë 日本 👩‍👩‍👧"},
]
LOOKS = [
    {},
    {"shows_stamps": True},
    {"terms_text": "", "terms_url": "", "privacy_url": "", "support_email": ""},
    {"stamps_reward": "", "shows_stamps": True},
]


@pytest.mark.parametrize("changes", FACES)
def test_every_object_is_as_google_describes_it(changes):
    assert problems("LoyaltyObject", object_body(OBJECT, **changes)) == []


@pytest.mark.parametrize("changes", LOOKS)
def test_every_class_is_as_google_describes_it(changes):
    assert problems("LoyaltyClass", class_body(**changes)) == []


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"colour": "red"}, "LoyaltyObject.colour is unknown"),
        ({"state": "active"}, "LoyaltyObject.state cannot be active"),
        ({"loyaltyPoints": {"balance": {"int": "7"}}}, "LoyaltyObject.loyaltyPoints.balance.int is no integer"),
        ({"loyaltyPoints": {"balance": {"int": True}}}, "LoyaltyObject.loyaltyPoints.balance.int is no integer"),
        ({"loyaltyPoints": {"balance": {"int": 2**31}}}, "LoyaltyObject.loyaltyPoints.balance.int has more"),
        ({"textModulesData": [{"title": ""}]}, "LoyaltyObject.textModulesData[0].title is unknown"),
    ],
)
def test_the_schema_finds_what_google_would_refuse(broken, problem):
    [found] = problems("LoyaltyObject", {**object_body(OBJECT), **broken})

    assert found.startswith(problem)


def test_ids_are_the_issuers_and_ours():
    uuid = UUID("00000000-0000-4000-8000-000000000001")

    assert bodies.class_id(ISSUER_ID, 7) == "3388000000012345678.program-7"
    assert bodies.object_id(ISSUER_ID, uuid) == "3388000000012345678.00000000-0000-4000-8000-000000000001"


def test_an_object_shows_the_card():
    assert object_body(OBJECT) == {
        "id": OBJECT,
        "classId": CLASS_ID,
        "state": "ACTIVE",
        "accountId": "123456789015",
        "accountName": "Ana",
        "barcode": {"type": "QR_CODE", "value": "q1w2e3r4t5z6u7i8o9p0aa", "alternateText": "123456789015"},
        "loyaltyPoints": {"label": "Points", "balance": {"int": 120}},
        "secondaryLoyaltyPoints": None,
        "textModulesData": [],
    }


@pytest.mark.parametrize(
    ("state", "shown"), [(State.IN_USE, "ACTIVE"), (State.SUSPENDED, "INACTIVE"), (State.ENDED, "EXPIRED")]
)
def test_what_a_card_is_good_for_is_its_state(state, shown):
    assert object_body(OBJECT, state=state)["state"] == shown


@pytest.mark.parametrize(
    ("kind", "points", "stamps"),
    [
        ({"shows_points": True, "shows_stamps": False}, {"int": 120}, None),
        ({"shows_points": False, "shows_stamps": True}, None, {"string": "3/10"}),
        ({"shows_points": True, "shows_stamps": True}, {"int": 120}, {"string": "3/10"}),
    ],
)
def test_a_program_shows_what_it_counts(kind, points, stamps):
    body = object_body(OBJECT, look=look(**kind))

    assert (body["loyaltyPoints"] or {}).get("balance") == points
    assert (body["secondaryLoyaltyPoints"] or {}).get("balance") == stamps


@pytest.mark.parametrize(
    ("barcode", "qr_token", "shown"),
    [
        (Program.Barcode.QR, "token", ("QR_CODE", "token")),
        (Program.Barcode.QR, "", ("CODE_128", "123456789015")),
        (Program.Barcode.CODE128, "token", ("CODE_128", "123456789015")),
    ],
)
def test_the_barcode_is_what_the_program_says_as_long_as_there_is_one(barcode, qr_token, shown):
    code = object_body(OBJECT, look=look(barcode=barcode), qr_token=qr_token)["barcode"]

    assert (code["type"], code["value"]) == shown
    assert code["alternateText"] == "123456789015"  # what a cashier types when nothing scans


@pytest.mark.parametrize(
    ("locale", "day"), [("en", "March 9, 2026"), ("fr", "9 mars 2026"), ("de", "9. März 2026"), ("lb", "9. Mäerz 2026")]
)
def test_a_warned_customer_reads_until_when_points_are_good(locale, day):
    [text] = object_body(OBJECT, locale=locale, use_by=date(2026, 3, 9))["textModulesData"]

    assert (text["id"], text["body"]) == ("use_by", day)


def test_the_words_are_the_customers(monkeypatch):
    from django.utils.translation import get_language

    monkeypatch.setattr(bodies, "gettext", lambda text: f"{text} ({get_language()})")

    assert object_body(OBJECT, locale="de")["loyaltyPoints"]["label"] == "Points (de)"
    header = class_body()["textModulesData"][0]["localizedHeader"]
    assert header["defaultValue"] == {"language": "en", "value": "Terms"}
    assert {"language": "lb", "value": "Terms (lb)"} in header["translatedValues"]


def test_a_class_shows_the_program():
    body = class_body()

    assert (body["issuerName"], body["programName"], body["id"]) == ("Café Amélie", "Bean card", CLASS_ID)
    assert body["programLogo"]["sourceUri"] == {"uri": LOGO_URL}
    assert body["hexBackgroundColor"] == "#1d3557"
    assert body["reviewStatus"] == "UNDER_REVIEW"
    assert body["callbackOptions"] == {"url": CALLBACK_URL}
    assert [(text["id"], text["body"]) for text in body["textModulesData"]] == [("terms", "One card each.")]
    assert {link["id"]: link["uri"] for link in body["linksModuleData"]["uris"]} == {
        "terms": "https://cafe.example/terms",
        "privacy": "https://cafe.example/privacy",
        "support": "mailto:help@cafe.example",
    }


def test_a_reward_for_stamps_is_told():
    texts = class_body(shows_stamps=True)["textModulesData"]

    assert (texts[0]["id"], texts[0]["body"]) == ("reward", "A coffee")


def test_what_a_program_says_no_more_is_an_empty_list():
    body = class_body(terms_text="", terms_url="", privacy_url="", support_email="")

    assert (body["textModulesData"], body["linksModuleData"]) == ([], {"uris": []})


def test_without_an_address_for_callbacks_there_are_none():
    body = bodies.class_body(look(), class_id=CLASS_ID, logo_url=LOGO_URL, callback_url="")

    assert "callbackOptions" not in body


def test_a_pass_tells_no_more_of_a_person_than_the_first_name_and_figures():
    told = str(object_body(OBJECT, first_name="Ana"))

    assert "Ana" in told
    assert "@" not in told


def test_the_same_face_has_the_same_hash():
    assert content_hash(object_body(OBJECT)) == content_hash(object_body(OBJECT))
    assert content_hash(object_body(OBJECT)) != content_hash(object_body(OBJECT, points=121))
