"""Credentials in the admin: how long they last, switching between versions, and no secret on any page."""

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.factories import NOON, days, make_merchant
from tests.fakes.pki import ISSUER_ID
from tests.wallet.credentials import make_google_credential, shared_account
from tests.wallet.rows import make_breaker, make_credential
from wallet.admin.credentials import lifetime, urgency
from wallet.models import Credential

pytestmark = pytest.mark.django_db
Status = Credential.Status


def page(name: str, *args) -> str:
    return reverse(f"admin:wallet_credential_{name}", args=args)


def buttons(client, credential) -> list[str]:
    return [button["label"] for button in client.get(page("change", credential.pk)).context["buttons"]]


def statuses() -> dict[int, str]:
    return dict(Credential.objects.filter(kind="google").values_list("version", "status"))


@pytest.mark.parametrize(
    ("days_left", "status", "words", "colour"),
    [
        (400, "active", "400 days left", ""),
        (44, "active", "44 days left", "soon"),
        (13, "active", "13 days left", "failed"),
        (1, "staged", "1 day left", "failed"),
        (-1, "active", "expired on March 1, 2026", "failed"),
        (-1, "retired", "expired on March 1, 2026", ""),
        (None, "active", "no end, 30 days old", ""),
    ],
)
def test_how_long_a_credential_lasts_is_told_in_words_and_colour(days_left, status, words, colour):
    until = None if days_left is None else NOON + days(days_left)
    credential = make_credential(valid_from=NOON - days(30), valid_until=until, status=status)

    assert (lifetime(credential, NOON), urgency(credential, NOON)) == (words, colour)


def test_a_key_of_google_is_to_be_changed_after_90_days():
    assert urgency(make_credential(valid_from=NOON - days(90)), NOON) == "soon"


def test_which_buttons_there_are_depends_on_the_status(admin_client):
    active = make_credential(identifier="one")
    assert buttons(admin_client, active) == ["Revoke"]
    previous = make_credential(identifier="one", version=2, status=Status.PREVIOUS)

    assert buttons(admin_client, active) == ["Roll back", "Revoke"]
    assert buttons(admin_client, previous) == ["Activate", "Revoke"]
    assert buttons(admin_client, make_credential(status=Status.REVOKED)) == []
    assert buttons(admin_client, make_credential(kind=Credential.Kind.WWDR)) == []


def test_a_version_is_activated_after_the_platform_took_it(admin_client, google):
    staged = make_google_credential(shared_account(), status=Status.STAGED)
    make_breaker()

    asked = admin_client.get(page("activate", staged.pk)).content.decode()
    assert "Comes into use: version 2, no end" in asked
    assert "Goes, and is kept to roll back to: version 1" in asked
    assert statuses() == {1: "active", 2: "staged"}
    answer = admin_client.post(page("activate", staged.pk), follow=True)

    assert f"In use everywhere from now on: Google service account key {ISSUER_ID}, version 2." in (
        answer.content.decode()
    )
    assert statuses() == {1: "previous", 2: "active"}
    assert "go on" in answer.content.decode()


def test_a_version_that_the_platform_does_not_take_is_not_activated_and_the_page_says_why(admin_client, google):
    staged = make_google_credential(shared_account(2), status=Status.STAGED)

    answer = admin_client.post(page("activate", staged.pk))

    assert "was not activated" in answer.content.decode()
    assert statuses() == {1: "active", 2: "staged"}


def test_rolling_back_makes_two_versions_change_places(admin_client, google):
    active = Credential.objects.get(kind="google")
    make_google_credential(shared_account(), status=Status.PREVIOUS)

    asked = admin_client.get(page("roll_back", active.pk)).content.decode()
    assert "Comes into use: version 2" in asked
    answer = admin_client.post(page("roll_back", active.pk), follow=True)

    assert "In use again everywhere" in answer.content.decode()
    assert statuses() == {1: "previous", 2: "active"}


def test_a_version_is_revoked(admin_client):
    credential = make_credential()

    asked = admin_client.get(page("revoke", credential.pk)).content.decode()
    assert "nothing is issued or told under it until another version is activated" in asked
    admin_client.post(page("revoke", credential.pk))

    credential.refresh_from_db()
    assert credential.status == Status.REVOKED


def test_the_list_and_the_page_say_since_when_calls_rest_and_why(admin_client):
    credential = make_credential(identifier=ISSUER_ID)
    make_breaker()

    listed = admin_client.get(page("changelist")).content.decode()
    shown = admin_client.get(page("change", credential.pk)).content.decode()

    assert "rest since 2026-03-02 12:00" in listed
    assert "permission_denied: The account is no user of the issuer." in shown


def test_a_probe_that_failed_is_shown(admin_client):
    credential = make_credential(checked_at=timezone.now(), check_error="The key is disabled.")

    assert "last try failed" in admin_client.get(page("changelist")).content.decode()
    assert "The key is disabled." in admin_client.get(page("change", credential.pk)).content.decode()


def test_no_page_shows_a_secret(admin_client, apple_credential, google_credential):
    in_a_file = make_credential(sealed_secret="", secret_file="/run/secrets/google.json")
    sealed = [credential.sealed_secret for credential in (apple_credential, google_credential)]

    pages = [page("changelist")]
    for credential in (apple_credential, google_credential, in_a_file):
        pages += [page(name, credential.pk) for name in ("change", "history", "activate", "roll_back", "revoke")]
    for address in pages:
        text = admin_client.get(address).content.decode()
        assert "PRIVATE KEY" not in text
        assert "BEGIN CERTIFICATE" not in text
        assert not any(secret in text for secret in sealed)
    assert "in the file /run/secrets/google.json" in admin_client.get(page("change", in_a_file.pk)).content.decode()


def test_credentials_are_shown_to_platform_admins_alone_whatever_others_permissions_are(client_for, google_credential):
    client = client_for("wallet.view_credential", "wallet.activate_credential", managing=[make_merchant()])

    assert client.get(page("changelist")).status_code == 403
    assert client.get(page("change", google_credential.pk)).status_code in (302, 403)
    for name in ("activate", "roll_back", "revoke"):
        assert client.post(page(name, google_credential.pk)).status_code in (403, 404)
    assert statuses() == {1: "active"}
