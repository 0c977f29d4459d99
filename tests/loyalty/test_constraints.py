"""Every rule that the database keeps by itself has a row here that breaks it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pgtrigger
import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, models, transaction

from loyalty.models import (
    Campaign,
    Card,
    CardBalance,
    Customer,
    ExemptionChange,
    ExpirationRun,
    IdempotencyKey,
    Membership,
    Merchant,
    MerchantChange,
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
from tests.factories import NOON, days, make_card, make_merchant, make_reward, make_store

pytestmark = pytest.mark.django_db
POSITIVE = (models.PositiveIntegerField, models.PositiveBigIntegerField, models.PositiveSmallIntegerField)
IMPORTS = ("cardimport", "cardimportrow")  # proved beside the import itself


@pytest.fixture
def world():
    """One of everything."""
    merchant = make_merchant()
    store = make_store(merchant)
    card = make_card(merchant, points=100, email="ana@example.com", phone="+352621123456", external_id="A1")
    run = ExpirationRun.objects.create(trigger="command", as_of=NOON, started_at=NOON)
    staff = StaffMember.objects.create(merchant=merchant, display_name="Kim")
    user = User.objects.create(username="kim")
    campaign = Campaign.objects.create(program=card.program, name="May", starts_at=NOON, ends_at=NOON + days(1))
    campaign.stores.add(store)
    staff.stores.add(store)
    Membership.objects.create(user=user, merchant=merchant, role="manager")
    UserApiKey.objects.create(user=user, label="k", prefix="k", key_hash="h")
    StoreApiKey.objects.create(store=store, label="k", prefix="k", key_hash="h")
    StaffSession.objects.create(staff_member=staff, store=store, token_hash="h", expires_at=NOON)
    ExemptionChange.objects.create(card=card, exempt=True, reason="VIP", actor="kim", changed_at=NOON)
    IdempotencyKey.objects.create(merchant=merchant, key="k1", fingerprint="f", status=201, answer={}, created_at=NOON)
    MerchantChange.objects.create(merchant=merchant, is_active=False, reason="sold", actor="kim", changed_at=NOON)
    make_reward(merchant, stock=1)
    first = Transaction.objects.get(card=card, seq=1)
    ReceiptClaim.objects.create(store=store, receipt_number="R1", transaction=first)
    return SimpleNamespace(merchant=merchant, store=store, card=card, run=run, first=first, campaign=campaign)


def change(model: type[models.Model], **values: Any) -> Callable[[SimpleNamespace], None]:
    """Change the one row of a model."""

    def breaks(world: SimpleNamespace) -> None:
        model._default_manager.update(**values)

    return breaks


def copy(model: type[models.Model], **values: Any) -> Callable[[SimpleNamespace], None]:
    """Write the first row of a model a second time, with some other values."""

    def breaks(world: SimpleNamespace) -> None:
        row = model._default_manager.order_by("pk")[0]
        for name, value in values.items():
            setattr(row, name, value)
        row.pk = None
        row._state.adding = True
        row.save(force_insert=True)

    return breaks


def post(**values: Any) -> Callable[[SimpleNamespace], None]:
    """Write a ledger row; `...` stands for something of the world."""

    def breaks(world: SimpleNamespace) -> None:
        known = {name: getattr(world, name) for name in ("run", "first") if name in values.values()}
        row = {
            "card": world.card,
            "merchant": world.merchant,
            "seq": 3,
            "type": "POINTS_EARNED",
            "points_balance_after": 100,
            "stamps_balance_after": 0,
            "transaction_at": NOON,
            "created_at": NOON,
        }
        Transaction.objects.create(**{**row, **{k: known.get(str(v), v) for k, v in values.items()}})

    return breaks


def post_twice(**values: Any) -> Callable[[SimpleNamespace], None]:
    def breaks(world: SimpleNamespace) -> None:
        with pgtrigger.ignore("loyalty.Transaction:continues_the_one_before"):
            post(**values)(world)
        post(**{**values, "seq": 4})(world)

    return breaks


def claim_again(world: SimpleNamespace) -> None:
    other = Transaction.objects.get(card=world.card, seq=2)
    ReceiptClaim.objects.create(store=world.store, receipt_number="R1", transaction=other)


def key_of_a_user_twice(world: SimpleNamespace) -> None:
    for merchant in (world.merchant, None):
        copy(IdempotencyKey, user=User.objects.get(), merchant=merchant)(world)


EXPIRED = {"type": "POINTS_EXPIRED", "points_delta": -100, "points_balance_after": 0, "expiration_run": "run"}
OTHER_KEYS = {"card_number": "000000000000", "qr_token": "other", "status": "closed"}

VIOLATIONS: dict[str, list[Callable[[SimpleNamespace], None]]] = {
    "merchant_has_a_slug": [change(Merchant, slug="")],
    "merchant_currency_is_iso": [change(Merchant, currency="eur"), change(Merchant, currency="EU")],
    "store_code_once_per_merchant": [copy(Store)],
    "program_rate_not_negative": [change(Program, points_per_unit=-1)],
    "program_stamps_target_positive": [change(Program, stamps_target=0)],
    "program_kind_known": [change(Program, kind="miles")],
    "campaign_ends_after_start": [change(Campaign, ends_at=NOON)],
    "campaign_multiplier_at_least_one": [change(Campaign, multiplier="0.99")],
    "reward_costs_something": [change(Reward, points_cost=0)],
    "customer_email_once_per_merchant": [copy(Customer, phone="", external_id="", email="ANA@example.com")],
    "customer_phone_once_per_merchant": [copy(Customer, email="", external_id="")],
    "customer_external_id_once_per_merchant": [copy(Customer, email="", phone="")],
    "customer_phone_is_e164": [change(Customer, phone="621123456"), change(Customer, phone="+0621123456")],
    "card_one_in_use_per_customer": [
        copy(Card, **{**OTHER_KEYS, "status": "active"}),
        copy(Card, **{**OTHER_KEYS, "status": "suspended"}),
    ],
    "card_status_is_known": [change(Card, status="lost")],
    "card_merged_names_its_target": [change(Card, status="merged")],
    "card_exempt_has_a_reason": [change(Card, expiration_exempt=True)],
    "card_number_has_12_digits": [change(Card, card_number="12345678901"), change(Card, card_number="12345678901x")],
    "card_points_not_negative": [change(CardBalance, points_balance=-1)],
    "card_stamps_not_negative": [change(CardBalance, stamp_count=-1)],
    "card_warning_names_a_day": [change(CardBalance, last_expiration_warning_at=NOON)],
    "exemption_change_has_a_reason": [copy(ExemptionChange, reason="")],
    "expiration_run_ends_when_not_running": [
        change(ExpirationRun, status="succeeded"),
        change(ExpirationRun, finished_at=NOON),
    ],
    "staff_member_role_is_known": [change(StaffMember, role="owner")],
    "membership_once_per_merchant": [copy(Membership)],
    "merchant_change_has_a_reason": [copy(MerchantChange, reason="")],
    "idempotency_key_once_per_merchant": [copy(IdempotencyKey)],
    "idempotency_key_once_per_user": [key_of_a_user_twice],
    "idempotency_key_has_an_owner": [change(IdempotencyKey, merchant=None)],
    "receipt_claimed_once_per_store": [claim_again],
    "transaction_one_per_seq": [post(seq=2, points_balance_after=100, type="BALANCE_IMPORTED")],
    "transaction_one_per_idempotency_key": [post_twice(idempotency_key="k1")],
    "transaction_reversed_in_full_once": [post_twice(reverses="first", reverses_in_full=True)],
    "transaction_one_expiry_per_cycle": [post_twice(**EXPIRED, cycle_started_at=NOON)],
    "transaction_balance_not_negative": [post(points_balance_after=-1), post(stamps_balance_after=-1)],
    "transaction_seq_begins_at_1": [post(seq=0)],
    "transaction_type_is_known": [post(type="GIFT")],
    "transaction_gain_not_negative": [
        post(type=name, points_delta=-1, reason="r", actor="a")
        for name in ("WELCOME_BONUS", "POINTS_EARNED", "REDEMPTION_VOIDED", "BALANCE_IMPORTED", "MERGE_IN")
    ],
    "transaction_loss_not_positive": [
        post(type=name, points_delta=1, reason="r", actor="a")
        for name in ("POINTS_REDEEMED", "POINTS_VOIDED", "MERGE_OUT")
    ],
    "transaction_moves_no_points": [
        post(type=name, points_delta=1, reason="r", actor="a")
        for name in (
            "CARD_CREATED",
            "STAMP_EARNED",
            "STAMP_REDEEMED",
            "STAMP_VOIDED",
            "CARD_DEACTIVATED",
            "CARD_REACTIVATED",
        )
    ],
    "transaction_by_hand_has_actor_and_reason": [
        post(type=name, **lacking)
        for name in (
            "ADMIN_ADJUSTMENT",
            "POINTS_VOIDED",
            "STAMP_VOIDED",
            "REDEMPTION_VOIDED",
            "MERGE_OUT",
            "MERGE_IN",
            "CARD_DEACTIVATED",
            "CARD_REACTIVATED",
        )
        for lacking in ({"reason": "r"}, {"actor": "a"})
    ],
    "transaction_expiry_explains_itself": [
        post(**EXPIRED),
        post(**{**EXPIRED, "expiration_run": None}, cycle_started_at=NOON),
        post(**{**EXPIRED, "points_delta": 0}, cycle_started_at=NOON),
        post(**{**EXPIRED, "points_balance_after": 1}, cycle_started_at=NOON),
    ],
    "transaction_full_reversal_of_one": [post(reverses_in_full=True)],
    # Those that Django names: a field that is unique by itself.
    "loyalty_merchant_slug_key": [copy(Merchant)],
    "loyalty_program_merchant_id_key": [copy(Program)],
    "loyalty_card_card_number_key": [copy(Card, qr_token="other", status="closed")],
    "loyalty_card_qr_token_key": [copy(Card, card_number="000000000000", status="closed")],
    "loyalty_receiptclaim_transaction_id_key": [copy(ReceiptClaim, receipt_number="R2")],
    "loyalty_storeapikey_key_hash_key": [copy(StoreApiKey)],
    "loyalty_userapikey_key_hash_key": [copy(UserApiKey)],
    "loyalty_staffsession_token_hash_key": [copy(StaffSession)],
}
CASES = [(name, breaks) for name, violations in VIOLATIONS.items() for breaks in violations]


@pytest.mark.parametrize(("name", "breaks"), CASES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(CASES)])
def test_a_row_that_breaks_a_rule_is_refused(world, name, breaks):
    with pytest.raises(IntegrityError, match=f'"{name}"'), transaction.atomic():
        breaks(world)


def test_every_rule_has_a_row_that_breaks_it():
    in_the_database = names_of_rules()

    assert in_the_database - counting_fields() - set(VIOLATIONS) == set()
    assert set(VIOLATIONS) <= in_the_database


def test_numbers_that_count_things_are_never_negative(world):
    with connection.cursor() as cursor:
        for model in models_of_loyalty():
            for field in model._meta.concrete_fields:
                if isinstance(field, POSITIVE) and model is not Transaction:
                    with pytest.raises(IntegrityError, match="violates check"), transaction.atomic():
                        cursor.execute(f"UPDATE {model._meta.db_table} SET {field.column} = -1")


def models_of_loyalty() -> list[type[models.Model]]:
    return [model for model in apps.get_app_config("loyalty").get_models() if model._meta.model_name not in IMPORTS]


def names_of_rules() -> set[str]:
    """CHECK and UNIQUE constraints and unique indexes of our tables, primary keys and M2M tables apart."""
    tables = [model._meta.db_table for model in models_of_loyalty()]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE contype IN ('c', 'u') AND conrelid = ANY(%s::regclass[]) "
            "UNION SELECT indexrelid::regclass::text FROM pg_index "
            "WHERE indisunique AND NOT indisprimary AND indrelid = ANY(%s::regclass[])",
            [tables, tables],
        )
        return {name for (name,) in cursor.fetchall()}


def counting_fields() -> set[str]:
    """The checks that come with positive fields; a test of its own breaks each of them."""
    return {
        f"{model._meta.db_table}_{field.column}_check"
        for model in models_of_loyalty()
        for field in model._meta.concrete_fields
        if isinstance(field, POSITIVE)
    }
