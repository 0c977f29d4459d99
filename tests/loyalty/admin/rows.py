"""One more row of each model that the admin shows, by model label."""

import itertools
from collections.abc import Callable
from datetime import timedelta

from django.contrib.auth.models import Group, User
from django.db.models import Model
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from loyalty.models import (
    Campaign,
    Card,
    CardBalance,
    CardImport,
    CardImportRow,
    Customer,
    ExemptionChange,
    ExpirationRun,
    IdempotencyKey,
    Membership,
    Merchant,
    MerchantChange,
    PolicyChange,
    Program,
    ReceiptClaim,
    Reward,
    StaffMember,
    StaffSession,
    Store,
    StoreApiKey,
    Transaction,
    UserApiKey,
)
from loyalty.services import adjustments, earning, policies
from loyalty.services.policies import PolicyTerms
from loyalty_site.models import JobRun
from notifications import services as notifications
from notifications.models import Message
from notifications.services import NewMessage
from tests.factories import NOON, make_card, make_merchant, make_reward, make_store
from tests.wallet.rows import (
    make_artwork,
    make_credential,
    make_device_log,
    make_failing_pass,
    make_failure,
    make_sync_run,
)
from wallet.models import Artwork, Credential, DeviceLog, Pass, SyncFailure, SyncRun

LATER = NOON + timedelta(days=1)
_numbers = itertools.count(1)


def make_user(**fields) -> User:
    return User.objects.create_user(f"user{next(_numbers)}", **fields)


def make_run(merchant: Merchant | None = None, **fields) -> ExpirationRun:
    times = {"as_of": NOON, "started_at": NOON, "finished_at": NOON + timedelta(seconds=2)}
    return ExpirationRun.objects.create(
        **{"trigger": "schedule", "status": "succeeded", "merchant": merchant, **times, **fields}
    )


def make_sale() -> Transaction:
    store = make_store()
    card = make_card(store.merchant)
    return earning.earn(store=store, card_id=card.pk, amount_minor=1299, receipt_number=f"R{next(_numbers)}", at=NOON)


def make_exemption() -> ExemptionChange:
    card = make_card(points=10)
    adjustments.exempt_from_expiry(
        merchant=card.program.merchant, card_id=card.pk, reason="A friend", actor="ana", at=NOON
    )
    return card.exemption_changes.get()


def make_policy_change() -> PolicyChange:
    program = make_merchant().program
    terms = PolicyTerms(
        points_expiration_days=365,
        expiration_warning_days=30,
        require_expiration_notice=True,
        expiration_paused_until=None,
    )
    policies.change_policy(program_id=program.pk, terms=terms, actor="ana", at=NOON)
    return program.policy_changes.get()


def make_message() -> Message:
    number = next(_numbers)
    new = NewMessage(
        kind="loyalty_points_expiring",
        scope="1",
        reference=str(number),
        recipient=f"ana{number}@example.com",
        locale="en",
        context={},
        dedupe_key=f"key{number}",
    )
    notifications.queue(new, at=NOON)
    return Message.objects.get(dedupe_key=f"key{number}")


def make_import() -> CardImport:
    return CardImport.objects.create(
        merchant=make_merchant(), file_name="cards.csv", sha256=f"{next(_numbers):064}", actor="ana"
    )


def make_staff_member(**fields) -> StaffMember:
    merchant = fields.pop("merchant", None) or make_merchant()
    return StaffMember.objects.create(merchant=merchant, display_name="Bea", pin_hash="scrypt$secret", **fields)


def make_staff_session() -> StaffSession:
    member = make_staff_member()
    return StaffSession.objects.create(
        staff_member=member, store=make_store(member.merchant), token_hash=f"{next(_numbers):064}", expires_at=LATER
    )


def make_campaign() -> Campaign:
    return Campaign.objects.create(program=make_merchant().program, name="Spring", starts_at=NOON, ends_at=LATER)


def make_job_run() -> JobRun:
    number = next(_numbers)
    return JobRun.objects.create(
        task="loyalty.check_ledger", task_id=f"t{number}", status="succeeded", started_at=NOON, finished_at=NOON
    )


def make_store_key() -> StoreApiKey:
    number = next(_numbers)
    return StoreApiKey.objects.create(
        store=make_store(), label="Till 1", prefix=f"lk_{number}", key_hash=f"hash-of-store-{number}"
    )


def make_user_key() -> UserApiKey:
    number = next(_numbers)
    return UserApiKey.objects.create(
        user=make_user(), label="Accounting", prefix=f"uk_{number}", key_hash=f"hash-of-user-{number}"
    )


def make_entry() -> PeriodicTask:
    number = next(_numbers)
    interval = IntervalSchedule.objects.create(every=number, period="hours")
    return PeriodicTask.objects.create(name=f"entry {number}", task="loyalty.check_ledger", interval=interval)


MAKERS: dict[type[Model], Callable[[], Model]] = {
    Campaign: make_campaign,
    Card: make_card,
    CardBalance: lambda: make_card().balance,
    CardImport: make_import,
    CardImportRow: lambda: CardImportRow.objects.create(card_import=make_import(), line=1),
    Customer: lambda: make_card().customer,
    ExemptionChange: make_exemption,
    ExpirationRun: lambda: make_run(make_merchant()),
    IdempotencyKey: lambda: IdempotencyKey.objects.create(
        merchant=make_merchant(), key="k", fingerprint="f", status=201, answer={"transaction": 1}, created_at=NOON
    ),
    Membership: lambda: Membership.objects.create(user=make_user(), merchant=make_merchant(), role="manager"),
    Merchant: make_merchant,
    MerchantChange: lambda: MerchantChange.objects.create(
        merchant=make_merchant(), is_active=False, reason="sold", actor="ana", changed_at=NOON
    ),
    PolicyChange: make_policy_change,
    Program: lambda: make_merchant().program,
    ReceiptClaim: lambda: make_sale().receipt_claim,
    Reward: lambda: make_reward(make_merchant()),
    StaffMember: make_staff_member,
    StaffSession: make_staff_session,
    Store: make_store,
    StoreApiKey: make_store_key,
    Transaction: make_sale,
    UserApiKey: make_user_key,
    Artwork: make_artwork,
    Credential: make_credential,
    DeviceLog: make_device_log,
    Pass: make_failing_pass,
    SyncFailure: make_failure,
    SyncRun: make_sync_run,
    JobRun: make_job_run,
    Message: make_message,
    User: make_user,
    Group: lambda: Group.objects.create(name=f"group {next(_numbers)}"),
    ClockedSchedule: lambda: ClockedSchedule.objects.create(clocked_time=LATER),
    CrontabSchedule: lambda: CrontabSchedule.objects.create(minute="5", hour=str(next(_numbers) % 24)),
    IntervalSchedule: lambda: IntervalSchedule.objects.create(every=next(_numbers), period="hours"),
    SolarSchedule: lambda: SolarSchedule.objects.create(event="sunset", latitude=next(_numbers) % 90, longitude=6),
    PeriodicTask: make_entry,
}
