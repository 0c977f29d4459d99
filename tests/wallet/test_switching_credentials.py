"""Which version of a credential is used, and what keeps a bad one from being used."""

from datetime import timedelta

import pytest

from loyalty.errors import NothingToChange
from tests.factories import NOON, make_merchant
from tests.fakes.apns import answer
from tests.fakes.pki import DAY, ISSUER_ID, PASS_TYPE, shared_pki
from tests.wallet.credentials import (
    make_apple_credential,
    make_google_credential,
    shared_account,
    shared_identity,
)
from tests.wallet.syncing import cards_in_phones, change, points_at_google, sync
from wallet.errors import CredentialNotFound, CredentialNotUsable
from wallet.models import Breaker, Credential, Platform
from wallet.services import opening
from wallet.services.credentials import activate, import_wwdr, revoke, rollback

pytestmark = pytest.mark.usefixtures("db", "wallet_settings")
ACTOR = "Ana (command line)"


@pytest.fixture
def staged(apple_credential, intermediate) -> Credential:
    """The second version, which is to take over."""
    return make_apple_credential(shared_identity(2), issuer=intermediate, status="staged")


def statuses() -> list[str]:
    """Of Apple's versions, the first version first."""
    rows = Credential.objects.filter(kind="apple", identifier=PASS_TYPE)
    return list(rows.order_by("version").values_list("status", flat=True))


def use(credential: Credential, *, at=NOON) -> Credential:
    return activate(credential_id=credential.pk, actor=ACTOR, at=at)


def go_back(*, kind: str = "apple", identifier: str = PASS_TYPE) -> Credential:
    return rollback(kind=kind, identifier=identifier, actor=ACTOR, at=NOON)


def test_the_first_one_switches_its_platform_on(apns, apple_credential):
    Credential.objects.filter(pk=apple_credential.pk).update(status="staged")
    assert not opening.is_on("apple")

    use(apple_credential)

    assert opening.is_on("apple")
    apple_credential.refresh_from_db()
    assert (apple_credential.status, apple_credential.activated_at) == ("active", NOON)
    assert apple_credential.activated_by == ACTOR


def test_the_one_before_is_kept_to_go_back_to(apns, apple_credential, staged):
    use(staged)

    assert statuses() == ["previous", "active"]
    assert opening.signer(PASS_TYPE) is opening.signer_of(staged)


def test_only_the_last_one_before_is_kept_at_hand(apns, intermediate, staged):
    use(staged)
    third = make_apple_credential(shared_identity(3), issuer=intermediate, status="staged")

    use(third)

    assert statuses() == ["retired", "previous", "active"]


def test_going_back_changes_places_and_going_back_again_too(apns, apple_credential, staged):
    use(staged)

    assert go_back() == apple_credential
    assert statuses() == ["active", "previous"]
    assert opening.signer(PASS_TYPE) is opening.signer_of(apple_credential)
    assert go_back() == staged
    assert statuses() == ["previous", "active"]


def test_a_retired_one_may_come_back_by_its_number(apns, apple_credential, intermediate, staged):
    use(staged)
    use(make_apple_credential(shared_identity(3), issuer=intermediate, status="staged"))

    use(apple_credential)

    assert statuses() == ["active", "retired", "previous"]


def test_there_is_nothing_to_go_back_to_at_first(apns, apple_credential):
    with pytest.raises(CredentialNotUsable, match=f"There is no previous version of {PASS_TYPE}"):
        go_back()


def test_apple_is_asked_before_by_a_push_to_nobody(apns, staged):
    use(staged)

    assert [(push.token, push.topic, push.status) for push in apns.pushes] == [("0" * 64, PASS_TYPE, 400)]


def test_google_is_asked_before_for_a_token_of_the_new_key(google, google_credential):
    staged = make_google_credential(shared_account(2), status="staged")
    with pytest.raises(CredentialNotUsable, match="Google gave no access token"):
        use(staged)
    assert opening.account(ISSUER_ID).key_id == google_credential.serial
    google.trust(shared_account(2))

    use(staged)

    assert opening.account(ISSUER_ID).key_id == staged.serial
    assert go_back(kind="google", identifier=ISSUER_ID) == google_credential


def test_one_that_the_platform_does_not_take_stays_where_it_is(apns, apple_credential, staged):
    apns.when(answer(403, "BadCertificate"))

    with pytest.raises(CredentialNotUsable) as refusal:
        use(staged)

    assert refusal.value.sentence == f"{staged} was not activated. Apple answered 403 BadCertificate."
    assert refusal.value.details == {"credential_id": staged.pk, "code": "BadCertificate"}
    assert statuses() == ["active", "staged"]
    assert opening.signer(PASS_TYPE) is opening.signer_of(apple_credential)


def test_nothing_is_switched_while_nothing_says_who_is_apple(apns, staged, settings):
    settings.APPLE_PUSH_CA_FILE = "/nowhere/authorities.pem"

    with pytest.raises(CredentialNotUsable, match=r"was not activated\. APPLE_PUSH_CA_FILE names /nowhere"):
        use(staged)

    assert statuses() == ["active", "staged"]


def test_nothing_is_switched_while_the_platform_cannot_be_asked(apns, staged):
    apns.close()

    with pytest.raises(CredentialNotUsable, match="The connection to Apple"):
        use(staged)

    assert statuses() == ["active", "staged"]


def test_an_expired_one_is_refused_without_asking_anybody(apns, apple_credential, staged):
    at = staged.valid_until + timedelta(seconds=1)

    with pytest.raises(CredentialNotUsable, match=f"It expired on {staged.valid_until:%Y-%m-%d}"):
        use(staged, at=at)

    assert apns.pushes == []
    assert statuses() == ["active", "staged"]


def test_going_back_to_an_expired_one_is_refused(apns, intermediate):
    expired = shared_pki().pass_identity(at=NOON, valid=(-366 * DAY, -DAY))
    make_apple_credential(expired, issuer=intermediate, status="previous")

    with pytest.raises(CredentialNotUsable, match="It expired on 2026-03-01"):
        go_back()

    assert statuses() == ["active", "previous"]


def test_one_that_is_not_valid_yet_is_refused(apns, intermediate):
    early = shared_pki().pass_identity(at=NOON, valid=(DAY, 365 * DAY))

    with pytest.raises(CredentialNotUsable, match="It is valid from 2026-03-03 12:00 UTC only"):
        use(make_apple_credential(early, issuer=intermediate, status="staged"))


def test_one_whose_key_cannot_be_read_is_refused(apns, staged):
    Credential.objects.filter(pk=staged.pk).update(sealed_secret="", secret_file="/nowhere/key.pem")

    with pytest.raises(CredentialNotUsable, match=r"The file /nowhere/key\.pem is missing"):
        use(staged)


def test_the_active_one_cannot_be_activated_again(apns, apple_credential):
    with pytest.raises(NothingToChange, match="is active already"):
        use(apple_credential)


def test_an_intermediate_needs_no_activation(intermediate):
    with pytest.raises(CredentialNotUsable, match="needs no activation"):
        use(intermediate)


@pytest.mark.parametrize(
    "act", [lambda: activate(credential_id=0, actor=ACTOR, at=NOON), lambda: revoke(credential_id=0)]
)
def test_an_unknown_number_is_refused(act):
    with pytest.raises(CredentialNotFound, match="There is no credential 0"):
        act()


def test_calls_that_had_been_stopped_go_on(apns, staged):
    stopped = {"opened_at": NOON, "code": "certificate_expired", "reason": "It expired.", "next_probe_at": NOON}
    for platform, identifier in (("apple", PASS_TYPE), ("apple", "pass.example.other"), ("google", PASS_TYPE)):
        Breaker.objects.create(platform=platform, identifier=identifier, failures_in_a_row=20, probes=3, **stopped)

    use(staged)

    closed = [breaker for breaker in Breaker.objects.all() if not breaker.is_open]
    assert [(breaker.platform, breaker.identifier) for breaker in closed] == [("apple", PASS_TYPE)]
    assert (closed[0].failures_in_a_row, closed[0].probes, closed[0].next_probe_at) == (0, 0, None)


def test_passes_that_were_put_off_are_told_without_help(google):
    [wallet_pass] = cards_in_phones(make_merchant(), 1, platform=Platform.GOOGLE)
    staged = make_google_credential(shared_account(2), status="staged")
    google.distrust(shared_account())
    change(wallet_pass)
    put_off = sync()
    assert (put_off.deferred, put_off.failed_card_ids, put_off.pushed) == (1, [], 0)
    google.trust(shared_account(2))

    use(staged)

    told = sync(at=NOON + timedelta(seconds=1))
    assert (told.deferred, told.failed_card_ids, told.pushed) == (0, [], 1)
    assert points_at_google(google, wallet_pass.card) == 110


def test_versions_of_other_pass_types_stay_as_they_are(apns, intermediate, staged):
    other = make_apple_credential(shared_identity(3), issuer=intermediate, identifier="pass.example.other")

    use(staged)

    other.refresh_from_db()
    assert other.status == "active"


class TestARevokedOne:
    def test_is_never_used_again(self, apns, staged):
        revoke(credential_id=staged.pk)

        with pytest.raises(CredentialNotUsable, match=r"is revoked\. Import another one"):
            use(staged)
        with pytest.raises(NothingToChange, match="is revoked already"):
            revoke(credential_id=staged.pk)
        assert statuses() == ["active", "revoked"]

    def test_switches_its_platform_off_if_it_was_the_active_one(self, apns, apple_credential, staged):
        revoke(credential_id=apple_credential.pk)

        assert not opening.is_on("apple")
        use(staged)
        assert statuses() == ["revoked", "active"]

    def test_is_nothing_to_go_back_to(self, apns, apple_credential, staged):
        use(staged)
        revoke(credential_id=apple_credential.pk)

        with pytest.raises(CredentialNotUsable, match="There is no previous version"):
            go_back()


class TestAnIntermediateThatIsRevoked:
    @pytest.mark.parametrize("status", ["staged", "active", "previous"])
    def test_stays_while_one_that_it_issued_could_be_used(self, apple_credential, intermediate, status):
        Credential.objects.filter(pk=apple_credential.pk).update(status=status)

        with pytest.raises(CredentialNotUsable) as refusal:
            revoke(credential_id=intermediate.pk)

        assert f"It issued {apple_credential} ({status}). Revoke what it issued first." in refusal.value.sentence
        intermediate.refresh_from_db()
        assert intermediate.status == "active"

    @pytest.mark.parametrize("status", ["retired", "revoked"])
    def test_goes_when_nothing_that_it_issued_is_needed(self, apple_credential, intermediate, status):
        Credential.objects.filter(pk=apple_credential.pk).update(status=status)

        assert revoke(credential_id=intermediate.pk).status == "revoked"

    def test_has_to_come_back_before_a_retired_one_of_its_can(self, apns, apple_credential, intermediate):
        Credential.objects.filter(pk=apple_credential.pk).update(status="retired")
        revoke(credential_id=intermediate.pk)

        with pytest.raises(CredentialNotUsable, match="Import that one again first"):
            use(apple_credential)

        import_wwdr(certificate=intermediate.certificate.encode(), actor=ACTOR, at=NOON)
        assert use(apple_credential).status == "active"
