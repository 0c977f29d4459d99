"""Stages of wallet-sync.md and wallet-certificates.md."""

from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from django_celery_beat.models import PeriodicTask

from tests.factories import make_merchant
from tests.fakes.apns import answer
from tests.fakes.celery_process import wait_until
from tests.fakes.pki import make_pki
from tests.house.runbook_stages.staging import Stage, a_worker, ran, stage
from tests.wallet.credentials import make_apple_credential, make_google_credential, shared_account, shared_identity
from tests.wallet.syncing import cards_in_phones, change, sync, tokens_of
from wallet.models import Credential, Pass, Platform, SyncRun
from wallet.services.lanes import lane

SYNC = "wallet-sync.md"


def cards_with_passes(scene: Stage, count: int, *, changed: int) -> list[Pass]:
    """Cards in phones, the first of which have changed since."""
    scene.settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    scene.monkeypatch.setattr(lane, "WAIT_SECONDS", (0, 0, 0))
    merchant = make_merchant(points_expiration_days=None)
    passes = cards_in_phones(merchant, count)
    for wallet_pass in passes[:changed]:
        change(wallet_pass)
    scene.values |= {"CARD": str(passes[0].card_id), "MERCHANT": merchant.slug}
    return passes


@stage(SYNC, "Look first")
def a_run_that_left_a_card_out(scene: Stage) -> None:
    apns = scene.fixture("apns")
    failing, _ = cards_with_passes(scene, 2, changed=2)
    apns.when(answer(503, "ServiceUnavailable"), token=tokens_of(failing)[0])
    sync(at=scene.at)


@stage(SYNC, "LoyaltyWalletSyncFailures")
def a_card_that_cannot_be_told(scene: Stage) -> None:
    apns = scene.fixture("apns")
    (failing,) = cards_with_passes(scene, 1, changed=1)
    apns.when(answer(503, "ServiceUnavailable"), token=tokens_of(failing)[0])


@stage(SYNC, "LoyaltyWalletBreakerOpen")
def a_certificate_that_is_refused(scene: Stage) -> None:
    scene.fixture("apns").when(answer(403, "InvalidProviderToken"))
    cards_with_passes(scene, 1, changed=1)


@stage(SYNC, "LoyaltyWalletServiceDown")
def calls_that_rest(scene: Stage) -> None:
    a_certificate_that_is_refused(scene)
    sync(at=scene.at)


@stage(SYNC, "LoyaltyWalletSyncStale")
def a_sync_that_fails(scene: Stage) -> None:
    scene.fixture("apns")
    cards_with_passes(scene, 1, changed=1)
    PeriodicTask.objects.update(last_run_at=scene.at)
    ran("wallet.sync_passes", scene.at, status="failed", error="OperationalError: the connection is closed")


@stage(SYNC, "Tell phones again")
def passes_in_phones(scene: Stage) -> None:
    scene.fixture("apns")
    cards_with_passes(scene, 2, changed=1)
    a_worker(scene)
    scene.before_next = lambda: wait_until(lambda: SyncRun.objects.filter(status="succeeded").exists(), seconds=30)


@stage(SYNC, "Dead letters")
def a_pass_that_was_given_up(scene: Stage) -> None:
    scene.fixture("apns")
    cards_with_passes(scene, 1, changed=1)
    Pass.objects.update(dead_at=scene.at, last_error_code="http_400", attempts=1)


@stage(SYNC, "Objects that were deleted outside")
def objects_that_are_gone(scene: Stage) -> None:
    scene.fixture("google")
    merchant = make_merchant(points_expiration_days=None)
    cards_in_phones(merchant, 1, platform=Platform.GOOGLE)
    scene.values["MERCHANT"] = merchant.slug


@stage(SYNC, "Check it worked")
def all_passes_are_told(scene: Stage) -> None:
    scene.fixture("apns")
    cards_with_passes(scene, 1, changed=1)
    sync(at=scene.at)


CERTIFICATES = "wallet-certificates.md"


@stage(CERTIFICATES)
def both_wallets(scene: Stage) -> None:
    """Both platforms work, and a card has a pass that is behind."""
    scene.fixture("apns"), scene.fixture("google")
    cards_with_passes(scene, 1, changed=1)
    Pass.objects.update(token_key_version=1)
    scene.values["N"] = str(scene.fixture("apple_credential").pk)
    scene.values["pass.pkpass"] = str(scene.folder / "pass.pkpass")


@stage(CERTIFICATES, "LoyaltyCertificateExpired")
def a_certificate_that_is_over(scene: Stage) -> None:
    both_wallets(scene)
    Credential.objects.filter(kind="apple").update(valid_until=scene.at - timedelta(hours=1))


@stage(CERTIFICATES, "LoyaltyGoogleKeyOld")
def a_key_of_last_spring(scene: Stage) -> None:
    both_wallets(scene)
    Credential.objects.filter(kind="google").update(valid_from=scene.at - timedelta(days=100))


@stage(CERTIFICATES, "Replace Apple's certificate")
def what_apple_gives_out(scene: Stage) -> None:
    """Apple's answer comes when the request is made: a certificate for its key."""
    both_wallets(scene)
    files = ("pass.key", "pass.csr", "pass.cer", "AppleWWDRCAG4.cer")
    scene.values |= {name: str(scene.folder / name) for name in files}
    Path(scene.values["AppleWWDRCAG4.cer"]).write_bytes(make_pki().intermediate.certificate.public_bytes(Encoding.DER))
    scene.values["N"] = "THE-NUMBER-OF-THE-NEWEST"
    scene.between = lambda: apple_answers(scene)


def apple_answers(scene: Stage) -> None:
    certificate, key = Path(scene.values["pass.cer"]), Path(scene.values["pass.key"])
    if key.exists() and not certificate.exists():
        private = load_pem_private_key(key.read_bytes(), None)
        issued = scene.fixture("pki").pass_identity(key=private).certificate
        certificate.write_bytes(issued.public_bytes(Encoding.DER))
    scene.values["N"] = str(Credential.objects.exclude(kind="wwdr").order_by("-pk")[0].pk)


@stage(CERTIFICATES, "Replace Google's key")
def what_google_gives_out(scene: Stage) -> None:
    both_wallets(scene)
    scene.fixture("google").trust(shared_account(2))
    path = scene.folder / "key.json"
    path.write_bytes(shared_account(2))
    scene.values["key.json"] = str(path)
    scene.between = lambda: google_answers(scene)


def google_answers(scene: Stage) -> None:
    scene.values["N"] = str(Credential.objects.order_by("-pk")[0].pk)


@stage(CERTIFICATES, "A credential is refused")
def a_new_certificate_that_is_refused(scene: Stage) -> None:
    replaced(scene)
    scene.fixture("apns").when(answer(403, "InvalidProviderToken"))


@stage(CERTIFICATES, "A key got into other hands", "Check it worked")
def replaced(scene: Stage) -> None:
    """Another version of each credential is in use."""
    both_wallets(scene)
    scene.fixture("google").trust(shared_account(2))
    Credential.objects.exclude(kind="wwdr").update(status=Credential.Status.PREVIOUS)
    make_apple_credential(shared_identity(2), issuer=scene.fixture("intermediate"))
    make_google_credential(shared_account(2))


@stage(CERTIFICATES, "Undo")
def replaced_by_mistake(scene: Stage) -> None:
    replaced(scene)
