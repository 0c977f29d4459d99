from __future__ import annotations

from typing import ClassVar

import pgtrigger
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q

from loyalty.models.access import StaffMember
from loyalty.models.card import Card
from loyalty.models.expiration import ExpirationRun
from loyalty.models.merchant import Merchant, Store
from loyalty.models.program import Reward

ERASED = "erased"

# An erasure may overwrite what a person wrote or what names a device; nothing else ever changes.
APPEND_ONLY = """
IF TG_OP = 'UPDATE'
    AND to_jsonb(NEW) - ARRAY['reason', 'details', 'client_address', 'client_agent']
      = to_jsonb(OLD) - ARRAY['reason', 'details', 'client_address', 'client_agent']
    AND NEW.reason IN (OLD.reason, 'erased')
    AND NEW.details IN (OLD.details, '"erased"'::jsonb)
    AND NEW.client_address IN (OLD.client_address, 'erased')
    AND NEW.client_agent IN (OLD.client_agent, 'erased')
THEN
    RETURN NEW;
END IF;
RAISE EXCEPTION 'ledger rows are never changed or deleted (row %)', OLD.id USING ERRCODE = 'check_violation';
"""

NEVER_TRUNCATED = """
RAISE EXCEPTION 'the ledger is never truncated' USING ERRCODE = 'check_violation';
"""

# One check for all rows of a statement. It stands in for the foreign keys to merchant and run too, whose checks
# row by row would cost an expiry as much as all its writing; it is stricter about the merchant than they are.
CONTINUES_THE_ONE_BEFORE = """
IF EXISTS (
    SELECT FROM new_rows
    LEFT JOIN loyalty_transaction before ON before.card_id = new_rows.card_id AND before.seq = new_rows.seq - 1
    LEFT JOIN loyalty_cardbalance balance ON balance.card_id = new_rows.card_id
    WHERE new_rows.points_balance_after <> COALESCE(before.points_balance_after, 0) + new_rows.points_delta
       OR new_rows.stamps_balance_after <> COALESCE(before.stamps_balance_after, 0) + new_rows.stamps_delta
       OR (new_rows.seq > 1 AND before.id IS NULL)
       OR balance.last_seq IS NULL OR balance.last_seq < new_rows.seq
) THEN
    RAISE EXCEPTION 'a ledger row does not continue the one before it' USING ERRCODE = 'check_violation';
END IF;
IF EXISTS (
    SELECT FROM new_rows
    JOIN loyalty_card card ON card.id = new_rows.card_id
    JOIN loyalty_program program ON program.id = card.program_id
    LEFT JOIN loyalty_expirationrun run ON run.id = new_rows.expiration_run_id
    WHERE program.merchant_id <> new_rows.merchant_id
       OR (new_rows.expiration_run_id IS NOT NULL AND run.id IS NULL)
) THEN
    RAISE EXCEPTION 'a ledger row names another merchant than its card, or an unknown run'
        USING ERRCODE = 'foreign_key_violation';
END IF;
RETURN NULL;
"""


class TransactionType(models.TextChoices):
    CARD_CREATED = "CARD_CREATED", "card created"
    WELCOME_BONUS = "WELCOME_BONUS", "welcome bonus"
    POINTS_EARNED = "POINTS_EARNED", "points earned"
    POINTS_REDEEMED = "POINTS_REDEEMED", "points redeemed"
    STAMP_EARNED = "STAMP_EARNED", "stamp earned"
    STAMP_REDEEMED = "STAMP_REDEEMED", "stamps redeemed"
    POINTS_VOIDED = "POINTS_VOIDED", "points voided"
    STAMP_VOIDED = "STAMP_VOIDED", "stamp voided"
    REDEMPTION_VOIDED = "REDEMPTION_VOIDED", "redemption voided"
    POINTS_EXPIRED = "POINTS_EXPIRED", "points expired"
    ADMIN_ADJUSTMENT = "ADMIN_ADJUSTMENT", "adjustment"
    BALANCE_IMPORTED = "BALANCE_IMPORTED", "balance imported"
    MERGE_OUT = "MERGE_OUT", "merged into another card"
    MERGE_IN = "MERGE_IN", "merged from another card"
    CARD_DEACTIVATED = "CARD_DEACTIVATED", "card deactivated"
    CARD_REACTIVATED = "CARD_REACTIVATED", "card reactivated"


T = TransactionType
NEVER_NEGATIVE = [T.WELCOME_BONUS, T.POINTS_EARNED, T.REDEMPTION_VOIDED, T.BALANCE_IMPORTED, T.MERGE_IN]
NEVER_POSITIVE = [T.POINTS_REDEEMED, T.POINTS_VOIDED, T.MERGE_OUT]
NO_POINTS = [T.CARD_CREATED, T.STAMP_EARNED, T.STAMP_REDEEMED, T.STAMP_VOIDED, T.CARD_DEACTIVATED, T.CARD_REACTIVATED]
NEEDS_A_REASON = [
    T.ADMIN_ADJUSTMENT,
    T.POINTS_VOIDED,
    T.STAMP_VOIDED,
    T.REDEMPTION_VOIDED,
    T.MERGE_OUT,
    T.MERGE_IN,
    T.CARD_DEACTIVATED,
    T.CARD_REACTIVATED,
]


class TransactionQuerySet(models.QuerySet["Transaction"]):
    def expired_in(self, run: ExpirationRun) -> TransactionQuerySet:
        return self.filter(type=T.POINTS_EXPIRED, expiration_run=run)

    def not_given_back(self) -> TransactionQuerySet:
        """Without those that another row reverses in full."""
        reversals = Transaction.objects.filter(reverses=models.OuterRef("pk"), reverses_in_full=True)
        return self.filter(~models.Exists(reversals))


class Transaction(models.Model):
    """One move of a card's balance. Never edited, never deleted.

    A wrong one is put right by a second one, so the sum of a card's transactions is its balance at every moment.
    """

    COUNTS_AS_ACTIVITY: ClassVar[frozenset[str]] = frozenset(
        {
            T.CARD_CREATED,
            T.WELCOME_BONUS,
            T.POINTS_EARNED,
            T.POINTS_REDEEMED,
            T.STAMP_EARNED,
            T.STAMP_REDEEMED,
            T.REDEMPTION_VOIDED,
            T.BALANCE_IMPORTED,
        }
    )

    card = models.ForeignKey(Card, on_delete=models.PROTECT, related_name="transactions", db_index=False)
    merchant = models.ForeignKey(
        Merchant, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    seq = models.PositiveIntegerField(help_text="1, 2, 3, ... without a gap on each card.")
    type = models.CharField(max_length=20, choices=TransactionType)
    points_delta = models.IntegerField(default=0)
    stamps_delta = models.IntegerField(default=0)
    points_balance_after = models.IntegerField()
    stamps_balance_after = models.IntegerField()

    amount_minor = models.BigIntegerField("amount", null=True, blank=True, help_text="In minor units.")
    points_per_unit = models.DecimalField(max_digits=10, decimal_places=4, null=True, blank=True)
    store = models.ForeignKey(Store, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    staff_member = models.ForeignKey(
        StaffMember, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    actor = models.CharField(max_length=150, blank=True, help_text="Who or what caused it.")
    receipt_number = models.CharField(max_length=64, blank=True)
    reward = models.ForeignKey(
        Reward, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    reverses = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="reversals", db_index=False
    )
    reverses_in_full = models.BooleanField(default=False)
    expiration_run = models.ForeignKey(
        ExpirationRun,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    cycle_started_at = models.DateTimeField(
        null=True, blank=True, help_text="Of an expiry: the last activity, which began the cycle that it ended."
    )
    idempotency_key = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    details = models.JSONField(default=dict, blank=True)
    transaction_at = models.DateTimeField(help_text="When it happened in the shop.")
    created_at = models.DateTimeField(help_text="When it was written.")
    client_address = models.CharField(max_length=45, blank=True)
    client_agent = models.CharField(max_length=200, blank=True)

    objects = TransactionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["card", "seq"], name="transaction_one_per_seq"),
            models.UniqueConstraint(
                fields=["merchant", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="transaction_one_per_idempotency_key",
            ),
            models.UniqueConstraint(
                fields=["reverses"], condition=Q(reverses_in_full=True), name="transaction_reversed_in_full_once"
            ),
            models.UniqueConstraint(
                fields=["card", "cycle_started_at"],
                condition=Q(type=T.POINTS_EXPIRED),
                name="transaction_one_expiry_per_cycle",
            ),
            models.CheckConstraint(
                condition=Q(points_balance_after__gte=0, stamps_balance_after__gte=0),
                name="transaction_balance_not_negative",
            ),
            models.CheckConstraint(condition=Q(seq__gte=1), name="transaction_seq_begins_at_1"),
            models.CheckConstraint(condition=Q(type__in=TransactionType.values), name="transaction_type_is_known"),
            models.CheckConstraint(
                condition=~Q(type__in=NEVER_NEGATIVE) | Q(points_delta__gte=0), name="transaction_gain_not_negative"
            ),
            models.CheckConstraint(
                condition=~Q(type__in=NEVER_POSITIVE) | Q(points_delta__lte=0), name="transaction_loss_not_positive"
            ),
            models.CheckConstraint(
                condition=~Q(type__in=NO_POINTS) | Q(points_delta=0), name="transaction_moves_no_points"
            ),
            models.CheckConstraint(
                condition=~Q(type__in=NEEDS_A_REASON) | ~Q(reason="") & ~Q(actor=""),
                name="transaction_by_hand_has_actor_and_reason",
            ),
            models.CheckConstraint(
                condition=~Q(type=T.POINTS_EXPIRED)
                | Q(
                    points_delta__lt=0,
                    points_balance_after=0,
                    expiration_run__isnull=False,
                    cycle_started_at__isnull=False,
                ),
                name="transaction_expiry_explains_itself",
            ),
            models.CheckConstraint(
                condition=Q(reverses_in_full=False) | Q(reverses__isnull=False), name="transaction_full_reversal_of_one"
            ),
        ]
        indexes = [
            models.Index(F("merchant"), F("id").desc(), name="transaction_newest"),
            models.Index(fields=["reverses"], condition=Q(reverses__isnull=False), name="transaction_reversals"),
            models.Index(
                fields=["expiration_run", "id"],
                condition=Q(expiration_run__isnull=False),
                name="transaction_expired_in_run",
            ),
            BrinIndex(fields=["created_at"], name="transaction_created_at"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="append_only",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.Update | pgtrigger.Delete,
                func=APPEND_ONLY,
            ),
            pgtrigger.Trigger(
                name="never_truncated",
                level=pgtrigger.Statement,
                when=pgtrigger.Before,
                operation=pgtrigger.Truncate,
                func=NEVER_TRUNCATED,
            ),
            pgtrigger.Trigger(
                name="continues_the_one_before",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="new_rows"),
                func=CONTINUES_THE_ONE_BEFORE,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_type_display()} {self.points_delta:+} on card {self.card_id}"


class ReceiptClaim(models.Model):
    """That a receipt has earned. A void deletes it, so that the number may be used again."""

    store = models.ForeignKey(Store, on_delete=models.PROTECT, related_name="+", db_index=False)
    receipt_number = models.CharField(max_length=64)
    transaction = models.OneToOneField(Transaction, on_delete=models.PROTECT, related_name="receipt_claim")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["store", "receipt_number"], name="receipt_claimed_once_per_store")
        ]

    def __str__(self) -> str:
        return self.receipt_number
