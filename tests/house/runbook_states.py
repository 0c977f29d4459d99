"""What is the matter when a section of a runbook is read: the stage on which a test runs its commands.

A section without a stage of its own takes that of its page, named "".
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from loyalty.models import Card, CardBalance, ExpirationRun, Merchant
from loyalty.services import expiration, expiring, guarding
from loyalty.services.privacy import erase_customer
from loyalty_site.models import JobRun
from loyalty_site.tasks import heartbeat
from notifications.models import Message
from tests.factories import make_cards, make_merchant
from tests.fakes import celery_process
from tests.fakes.apns import answer
from tests.fakes.celery_process import wait_until
from tests.fakes.pki import make_pki
from tests.fakes.web_process import web
from tests.loyalty.test_commands import spoil
from tests.loyalty.test_operators_commands import break_ledger
from tests.wallet.credentials import make_apple_credential, make_google_credential, shared_account, shared_identity
from tests.wallet.sync_process import wallet_environment
from tests.wallet.syncing import cards_in_phones, change, sync, tokens_of
from wallet.models import Credential, Pass, Platform, SyncRun
from wallet.services import lanes

TOKEN = "a-token-of-the-tests-and-of-nothing-else"
IDLE, NEARLY_IDLE = timedelta(days=200), timedelta(days=170)


@dataclass
class Stage:
    """`values` are what the reader fills in: the placeholders of the page."""

    request: pytest.FixtureRequest
    settings: Any
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    stack: ExitStack
    at: datetime = field(default_factory=timezone.now)
    values: dict[str, str] = field(default_factory=dict)
    between: Callable[[], object] | None = None  # what happens elsewhere before the next command
    before_next: Callable[[], object] | None = None  # what the reader waits for after a command that does not wait

    def fixture(self, name: str) -> Any:
        return self.request.getfixturevalue(name)


Setting = Callable[[Stage], object]
AnySetting = TypeVar("AnySetting", bound=Setting)
STAGES: dict[tuple[str, str], Setting] = {}


def stage(page: str, *headings: str) -> Callable[[AnySetting], AnySetting]:
    def keep(setting: AnySetting) -> AnySetting:
        for heading in headings or ("",):
            STAGES[page, heading] = setting
        return setting

    return keep


def set_the_stage(page: str, heading: str, scene: Stage) -> None:
    setting = STAGES.get((page, heading)) or STAGES.get((page, ""))
    if setting:
        setting(scene)


EXPIRY = "point-expiration.md"


@stage(EXPIRY)
def a_shop(scene: Stage) -> Merchant:
    """Three cards whose points are due tonight, and one whose customer is to be warned."""
    merchant = make_merchant()
    due = make_cards(merchant, 3, at=scene.at - IDLE)
    make_cards(merchant, 1, at=scene.at - NEARLY_IDLE)
    warn(due, scene)
    scene.values |= {
        "MERCHANT": merchant.slug,
        "CARD": str(due[0].pk),
        "DATE": str((scene.at + timedelta(days=14)).date()),
    }
    return merchant


def warn(cards: list[Any], scene: Stage) -> None:
    promised = (scene.at - timedelta(days=2)).date()
    CardBalance.objects.filter(card__in=cards).update(
        last_expiration_warning_at=scene.at - timedelta(days=20), expiration_warned_for=promised
    )


@stage(EXPIRY, "Look first")
def a_night_with_nothing_to_do(scene: Stage) -> None:
    expire()
    a_shop(scene)


@stage(EXPIRY, "Run it by hand")
def a_shop_and_a_worker(scene: Stage) -> None:
    a_shop(scene)
    a_worker(scene)
    scene.before_next = lambda: wait_until(
        lambda: ExpirationRun.objects.filter(trigger="schedule", status="succeeded").exists(), seconds=30
    )


@stage(EXPIRY, "LoyaltyExpirationStale")
def a_run_that_failed(scene: Stage) -> None:
    night = datetime(2026, 3, 10, 2, tzinfo=UTC)
    PeriodicTask.objects.filter(task="loyalty.expire_points").update(last_run_at=night)
    ran("loyalty.expire_points", scene.at, status="failed", error="OperationalError: the connection is closed")


@stage(EXPIRY, "LoyaltyExpirationPartial")
def a_card_that_fails(scene: Stage) -> None:
    a_shop(scene)
    poisoned, expire_chunk = int(scene.values["CARD"]), expiring.expire

    def poison(card_ids: Any, *rest: Any) -> Any:
        if poisoned in card_ids:
            raise RuntimeError("a card that nobody foresaw")
        return expire_chunk(card_ids, *rest)

    scene.monkeypatch.setattr(expiring, "expire", poison)
    scene.values["RUN"] = str(expire(trigger=ExpirationRun.Trigger.SCHEDULE).run_id)


@stage(EXPIRY, "LoyaltyExpirationRefused")
def more_than_the_guard_allows(scene: Stage) -> None:
    merchant = a_shop_without_warnings(scene)
    type(merchant.program).objects.update(require_expiration_notice=False)
    scene.settings.LOYALTY_EXPIRY_GUARD_CARDS = 1


@stage(EXPIRY, "The plain rule")
def a_dormant_base(scene: Stage) -> None:
    merchant = make_merchant()
    make_cards(merchant, 4, at=scene.at - IDLE)
    scene.values["MERCHANT"] = merchant.slug


def a_shop_without_warnings(scene: Stage) -> Merchant:
    merchant = a_shop(scene)
    CardBalance.objects.update(last_expiration_warning_at=None, expiration_warned_for=None)
    return merchant


@stage(EXPIRY, "The wrong clock")
def a_clock_that_is_ahead(scene: Stage) -> None:
    a_shop(scene)
    clock = timezone.now() - timedelta(minutes=9)
    scene.monkeypatch.setattr(guarding, "database_clock", lambda: clock)


@stage(EXPIRY, "Points expired by mistake, one card", "Points expired by mistake, a whole run")
def points_are_gone(scene: Stage) -> None:
    a_shop(scene)
    scene.values["RUN"] = str(expire().run_id)


@stage(EXPIRY, "What customers were told")
def a_mail_that_waits(scene: Stage) -> None:
    scene.settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    merchant = make_merchant()
    make_cards(merchant, 1, at=scene.at - NEARLY_IDLE)
    expire()


@stage(EXPIRY, "Check it worked")
def all_is_well(scene: Stage) -> None:
    a_shop(scene)
    well(scene)


def well(scene: Stage) -> None:
    """An installation of last year in which every job did what it should."""
    MigrationRecorder.Migration.objects.filter(app="loyalty_site").update(applied=scene.at - timedelta(days=300))
    PeriodicTask.objects.update(last_run_at=scene.at)
    ran("loyalty.check_ledger", scene.at, result={"mismatched_cards": 0})
    ran("loyalty_site.heartbeat", scene.at)
    moment = scene.at - timedelta(hours=1)
    ExpirationRun.objects.create(
        started_at=moment, as_of=moment, finished_at=moment, status="succeeded", trigger="schedule"
    )


WORKERS = "workers.md"


@stage(WORKERS)
def an_installation(scene: Stage) -> None:
    """Jobs that were sent and done just now."""
    well(scene)


@stage(WORKERS, "Look first")
def a_heartbeat_that_stopped(scene: Stage) -> None:
    well(scene)
    JobRun.objects.filter(task="loyalty_site.heartbeat").delete()
    ran("loyalty_site.heartbeat", scene.at - timedelta(minutes=20))


@stage(WORKERS, "LoyaltyWorkerDown")
def a_worker(scene: Stage) -> None:
    for name, value in wallet_environment().items():
        scene.monkeypatch.setenv(name, value)
    scene.stack.enter_context(celery_process.worker(scene.folder))


@stage(WORKERS, "The broker is down")
def no_broker(scene: Stage) -> None:
    scene.settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"


@stage(WORKERS, "LoyaltyQueueBacklog")
def tasks_that_wait(scene: Stage) -> None:
    for _ in range(3):
        heartbeat.delay()


@stage(WORKERS, "A job is switched off")
def entries_that_are_missing(scene: Stage) -> None:
    PeriodicTask.objects.filter(task="loyalty.expire_points").update(enabled=False)
    PeriodicTask.objects.filter(task="loyalty.purge").delete()


@stage(WORKERS, "LoyaltyJobFailing")
def a_job_that_fails(scene: Stage) -> None:
    ran("loyalty.purge", scene.at, status="failed", error="OperationalError: no space left")


@stage(WORKERS, "LoyaltyOutboxStuck")
def a_mail_server_that_is_away(scene: Stage) -> None:
    scene.settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    scene.settings.EMAIL_HOST, scene.settings.EMAIL_PORT = "127.0.0.1", 1
    make_cards(make_merchant(), 1, at=scene.at - NEARLY_IDLE)
    expire()


@stage(WORKERS, "LoyaltyDeadLetters")
def a_message_that_was_given_up(scene: Stage) -> None:
    well(scene)
    make_cards(make_merchant(), 1, at=scene.at - NEARLY_IDLE)
    expire()
    Message.objects.update(status=Message.Status.DEAD)


@stage(WORKERS, "LoyaltyApiErrorBudgetFastBurn", "LoyaltyMetricsDown")
def a_web_server(scene: Stage) -> None:
    scene.monkeypatch.setenv("METRICS_TOKEN", TOKEN)
    site = scene.stack.enter_context(web(scene.folder, workers=1, METRICS_TOKEN=TOKEN))
    scene.values["http://127.0.0.1:8000"] = site.address


@stage(WORKERS, "LoyaltyTimestampInFuture")
def a_row_of_the_future(scene: Stage) -> None:
    well(scene)
    ran("loyalty.purge", scene.at + timedelta(days=1))


LEDGER = "ledger.md"


@stage(LEDGER)
def a_balance_that_was_changed(scene: Stage) -> None:
    merchant = make_merchant()
    card, _ = make_cards(merchant, 2, at=scene.at)
    spoil(card)
    scene.values |= {"CARD": str(card.pk), "MERCHANT": merchant.slug}


@stage(LEDGER, "Correct what a customer holds", "Undo", "Check it worked")
def a_ledger_that_is_right(scene: Stage) -> None:
    card, _ = make_cards(make_merchant(), 2, at=scene.at)
    scene.values["CARD"] = str(card.pk)


@stage(LEDGER, "The ledger is broken")
def a_row_that_was_changed(scene: Stage) -> None:
    a_ledger_that_is_right(scene)
    break_ledger(Card.objects.get(pk=scene.values["CARD"]))


DATA = "data-requests.md"


@stage(DATA)
def a_customer(scene: Stage) -> Card:
    merchant = make_merchant()
    (card,) = make_cards(merchant, 1, at=scene.at)
    scene.values |= {
        "MERCHANT": merchant.slug,
        "CUSTOMER": str(card.customer_id),
        "customer.json": str(scene.folder / "customer.json"),
    }
    return card


@stage(DATA, "Check it worked")
def a_customer_who_was_erased(scene: Stage) -> None:
    card = a_customer(scene)
    merchant = card.program.merchant
    erase_customer(merchant=merchant, customer_id=card.customer_id, reason="letter 17", actor="ana", at=timezone.now())


SYNC = "wallet-sync.md"


def cards_with_passes(scene: Stage, count: int, *, changed: int) -> list[Pass]:
    """Cards in phones, the first of which have changed since."""
    scene.settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    scene.monkeypatch.setattr(lanes, "WAIT_SECONDS", (0, 0, 0))
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
    scene.fixture("apns").when(answer(503, "ServiceUnavailable"))
    cards_with_passes(scene, 1, changed=1)


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


@stage("README.md")
def nothing_wrong(scene: Stage) -> None:
    well(scene)


def expire(trigger: ExpirationRun.Trigger = ExpirationRun.Trigger.COMMAND) -> expiration.ExpirationReport:
    now = timezone.now()
    return expiration.expire_points(as_of=now, at=now, trigger=trigger)


def ran(task: str, moment: datetime, **changes: Any) -> JobRun:
    fields = {"status": "succeeded", "started_at": moment, "finished_at": moment, "result": {}, **changes}
    return JobRun.objects.create(task=task, task_id=f"{task} {moment}", **fields)
