"""Google's own Python client against the fake: they must agree, or the fake is no Google."""

import json
from collections.abc import Iterator
from typing import Any

import google_auth_httplib2
import httplib2
import pytest
from google.auth.exceptions import RefreshError
from google.oauth2.service_account import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError

from tests.fakes.google import FakeGoogle
from tests.fakes.google_schema import description
from tests.fakes.pki import ISSUER_ID
from tests.wallet.credentials import shared_account
from tests.wallet.google.conftest import OBJECT
from tests.wallet.google.faces import CLASS_ID, class_body, object_body
from wallet.outcomes import DONE


@pytest.fixture
def theirs(fake: FakeGoogle) -> Iterator[Any]:
    """Google's client, signing in by google-auth's own exchange."""
    account = {**json.loads(shared_account()), "token_uri": fake.token_url}
    scopes = ["https://www.googleapis.com/auth/wallet_object.issuer"]
    credentials = Credentials.from_service_account_info(account, scopes=scopes)
    http = google_auth_httplib2.AuthorizedHttp(credentials, http=httplib2.Http())
    document = {**description(), "rootUrl": f"{fake.root_url}/", "baseUrl": f"{fake.root_url}/"}
    with build_from_document(document, http=http) as service:
        yield service


def set_only(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def test_our_bodies_go_through_googles_client(theirs):
    made_class = theirs.loyaltyclass().insert(body=class_body()).execute()
    made = theirs.loyaltyobject().insert(body=set_only(object_body(OBJECT))).execute()
    theirs.loyaltyobject().patch(resourceId=OBJECT, body={"loyaltyPoints": {"balance": {"int": 7}}}).execute()
    found = theirs.loyaltyobject().get(resourceId=OBJECT).execute()

    assert (made_class["id"], made["id"]) == (CLASS_ID, OBJECT)
    assert found["loyaltyPoints"] == {"label": "Points", "balance": {"int": 7}}  # merged
    assert found["classId"] == CLASS_ID


def test_googles_client_reads_what_ours_wrote(theirs, ask):
    put = ask(lambda google: google.put_object(OBJECT, object_body(OBJECT), class_body=class_body(), notify=False))

    assert put == DONE
    assert theirs.loyaltyobject().get(resourceId=OBJECT).execute() == set_only(object_body(OBJECT))
    assert theirs.loyaltyclass().get(resourceId=CLASS_ID).execute() == class_body()


def test_our_client_patches_what_googles_inserted(fake, theirs, ask):
    theirs.loyaltyclass().insert(body=class_body()).execute()
    theirs.loyaltyobject().insert(body=set_only(object_body(OBJECT))).execute()
    fake.calls.clear()

    changed = object_body(OBJECT, points=8)
    assert ask(lambda google: google.put_object(OBJECT, changed, class_body=class_body(), notify=False)) == DONE

    assert [(call.method, call.status) for call in fake.calls] == [("PATCH", 200)]
    assert theirs.loyaltyobject().get(resourceId=OBJECT).execute()["loyaltyPoints"]["balance"] == {"int": 8}


def test_lists_are_replaced_as_a_whole(theirs):
    texts = [{"id": "a", "body": "A"}, {"id": "b", "body": "B"}]
    theirs.loyaltyclass().insert(body={**class_body(), "textModulesData": texts}).execute()

    theirs.loyaltyclass().patch(resourceId=CLASS_ID, body={"textModulesData": texts[1:]}).execute()

    assert theirs.loyaltyclass().get(resourceId=CLASS_ID).execute()["textModulesData"] == texts[1:]


@pytest.mark.parametrize(
    ("act", "status", "reason"),
    [
        (lambda s: s.loyaltyobject().get(resourceId=OBJECT), 404, "resourceNotFound"),
        (lambda s: s.loyaltyobject().patch(resourceId=OBJECT, body={}), 404, "resourceNotFound"),
        (lambda s: s.loyaltyobject().insert(body=set_only(object_body(OBJECT))), 404, "classNotFound"),
        (lambda s: s.loyaltyclass().get(resourceId=CLASS_ID), 404, "classNotFound"),
        (lambda s: s.loyaltyclass().insert(body={"id": CLASS_ID}), 400, "invalid"),
        (lambda s: s.loyaltyclass().get(resourceId="bean.card"), 400, "invalidResource"),
        (lambda s: s.loyaltyclass().get(resourceId="3388000000099999999.card"), 403, "permissionDenied"),
    ],
)
def test_refusals_are_read_by_googles_client(theirs, act, status, reason):
    with pytest.raises(HttpError) as refusal:
        act(theirs).execute()

    assert refusal.value.resp.status == status
    assert refusal.value.error_details[0]["reason"] == reason


def test_the_same_id_is_inserted_once(theirs):
    theirs.loyaltyclass().insert(body=class_body()).execute()

    with pytest.raises(HttpError) as refusal:
        theirs.loyaltyclass().insert(body=class_body()).execute()

    assert (refusal.value.resp.status, refusal.value.error_details[0]["reason"]) == (409, "existingResource")


def test_google_auth_signs_in_as_we_do_and_fails_as_we_do(fake, theirs):
    fake.distrust(shared_account())

    with pytest.raises(RefreshError) as refusal:
        theirs.loyaltyclass().get(resourceId=f"{ISSUER_ID}.probe").execute()

    assert refusal.value.retryable is False
    assert refusal.value.args[1]["error"] == "invalid_grant"
