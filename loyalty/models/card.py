from __future__ import annotations

import secrets
from datetime import datetime

import pgtrigger
from django.db import models
from django.db.models import F, Q

from loyalty.models.customer import Customer
from loyalty.models.merchant import ID, Merchant, Store
from loyalty.models.policy import Cycle
from loyalty.models.program import Program

CARD_NUMBER_DIGITS = 12


def luhn_digit(digits: str) -> str:
    """The check digit that makes `digits` a number whose typing errors are noticed."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def new_card_number() -> str:
    digits = str(secrets.randbelow(9 * 10 ** (CARD_NUMBER_DIGITS - 2)) + 10 ** (CARD_NUMBER_DIGITS - 2))
    return digits + luhn_digit(digits)


def new_qr_token() -> str:
    return secrets.token_urlsafe(16)


class CardQuerySet(models.QuerySet["Card"]):
    def of(self, merchant: Merchant) -> CardQuerySet:
        return self.filter(program__merchant=merchant)

    def called(self, name: str) -> Card | None:
        """The one with this number of 12 digits or, if there is none, with this id."""
        digits = "".join(name.split())
        if not ID.fullmatch(digits):
            return None
        return self.filter(card_number=digits).first() or self.filter(pk=int(digits)).first()

    def in_use(self) -> CardQuerySet:
        """Active and suspended cards: a customer has one of them at most."""
        return self.filter(status__in=Card.IN_USE)


class Card(models.Model):
    """What a card is. What moves, its balance, is in `CardBalance`."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"
        CLOSED = "closed"
        MERGED = "merged"
        ERASED = "erased"

    IN_USE = (Status.ACTIVE, Status.SUSPENDED)

    program = models.ForeignKey(Program, on_delete=models.PROTECT, related_name="cards")
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="cards")
    card_number = models.CharField(max_length=CARD_NUMBER_DIGITS, unique=True, default=new_card_number)
    qr_token = models.CharField("QR token", max_length=32, unique=True, default=new_qr_token)
    status = models.CharField(max_length=9, choices=Status, default=Status.ACTIVE)
    merged_into = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    enrolled_at_store = models.ForeignKey(
        Store, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    expiration_exempt = models.BooleanField("exempt from expiry", default=False)
    expiration_exempt_reason = models.CharField("why exempt", max_length=500, blank=True)
    created_at = models.DateTimeField()

    balance: CardBalance
    objects = CardQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer"],
                condition=Q(status__in=["active", "suspended"]),
                name="card_one_in_use_per_customer",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["active", "suspended", "closed", "merged", "erased"]),
                name="card_status_is_known",
            ),
            models.CheckConstraint(
                condition=Q(status="merged", merged_into__isnull=False) | ~Q(status="merged") & Q(merged_into=None),
                name="card_merged_names_its_target",
            ),
            models.CheckConstraint(
                condition=Q(expiration_exempt=False) | ~Q(expiration_exempt_reason=""), name="card_exempt_has_a_reason"
            ),
            models.CheckConstraint(condition=Q(card_number__regex=r"^[0-9]{12}$"), name="card_number_has_12_digits"),
        ]
        indexes = [
            # Few cards are either, and lists ask for them.
            models.Index("status", F("id").desc(), condition=~Q(status="active"), name="card_out_of_use"),
            models.Index(fields=["id"], condition=Q(expiration_exempt=True), name="card_exempt"),
        ]

    def __str__(self) -> str:
        return self.card_number


# Without these a balance could be changed with no ledger row to show for it. A change and its row are one
# statement, so the check comes at its end, once for all its cards; a new balance may come before its first rows.
CHANGE_EQUALS_LAST_ROW = """
IF EXISTS (
    SELECT FROM new_balances
    LEFT JOIN loyalty_transaction last ON last.card_id = new_balances.card_id AND last.seq = new_balances.last_seq
    WHERE last.points_balance_after IS DISTINCT FROM new_balances.points_balance
       OR last.stamps_balance_after IS DISTINCT FROM new_balances.stamp_count
) THEN
    RAISE EXCEPTION 'a balance is not what the last ledger row of its card says' USING ERRCODE = 'check_violation';
END IF;
RETURN NULL;
"""

BEGINNING_EQUALS_LAST_ROW = """
IF NOT EXISTS (
    SELECT FROM loyalty_transaction
    WHERE card_id = NEW.card_id AND seq = NEW.last_seq
      AND points_balance_after = NEW.points_balance AND stamps_balance_after = NEW.stamp_count
) THEN
    RAISE EXCEPTION 'the balance of card % is not what its last ledger row says', NEW.card_id
        USING ERRCODE = 'check_violation';
END IF;
RETURN NULL;
"""


class CardBalance(models.Model):
    """What moves on a card, in a narrow table of its own so that a sale touches few indexes.

    Written by `services.ledger` alone; the database refuses a balance that its last ledger row does not state.
    """

    card = models.OneToOneField(Card, on_delete=models.PROTECT, primary_key=True, related_name="balance")
    program = models.ForeignKey(Program, on_delete=models.PROTECT, related_name="+", db_index=False)
    points_balance = models.IntegerField(default=0)
    stamp_count = models.IntegerField(default=0)
    lifetime_points_earned = models.BigIntegerField(default=0)
    lifetime_points_redeemed = models.BigIntegerField(default=0)
    lifetime_points_expired = models.BigIntegerField(default=0)
    last_seq = models.PositiveIntegerField(default=0)
    last_activity_at = models.DateTimeField()
    last_expiration_warning_at = models.DateTimeField(null=True, help_text="Null: not warned in this cycle.")
    expiration_warned_for = models.DateField(null=True, help_text="The last day that was promised.")
    version = models.PositiveIntegerField(default=0)
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(points_balance__gte=0), name="card_points_not_negative"),
            models.CheckConstraint(condition=Q(stamp_count__gte=0), name="card_stamps_not_negative"),
            models.CheckConstraint(
                condition=Q(last_expiration_warning_at=None) | Q(expiration_warned_for__isnull=False),
                name="card_warning_names_a_day",
            ),
        ]
        indexes = [
            # The two together find what is due tonight without reading what is not.
            models.Index(
                F("program"),
                F("last_activity_at"),
                F("card"),
                condition=Q(points_balance__gt=0, last_expiration_warning_at=None),
                name="card_idle_not_warned",
            ),
            models.Index(
                F("program"),
                F("expiration_warned_for"),
                F("card"),
                condition=Q(points_balance__gt=0, last_expiration_warning_at__isnull=False),
                name="card_warned_for",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="never_deleted", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="change_equals_last_row",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Update,
                referencing=pgtrigger.Referencing(new="new_balances"),
                func=CHANGE_EQUALS_LAST_ROW,
            ),
            pgtrigger.Trigger(
                name="beginning_equals_last_row",
                level=pgtrigger.Row,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                timing=pgtrigger.Deferred,
                func=BEGINNING_EQUALS_LAST_ROW,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.points_balance} points on {self.card_id}"

    @property
    def cycle(self) -> Cycle:
        return Cycle(self.last_activity_at, self.last_expiration_warning_at, self.expiration_warned_for)

    def start_new_cycle(self, moment: datetime) -> None:
        """Note an activity. One before the latest changes nothing; a later one ends what was promised."""
        if moment > self.last_activity_at:
            self.last_activity_at = moment
            self.last_expiration_warning_at = None
            self.expiration_warned_for = None


# An erasure may overwrite what a person wrote about a person.
EXEMPTION_APPEND_ONLY = """
IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'reason' = to_jsonb(OLD) - 'reason' AND NEW.reason = 'erased' THEN
    RETURN NEW;
END IF;
RAISE EXCEPTION 'changes of an exemption are never changed or deleted (row %)', OLD.id
    USING ERRCODE = 'check_violation';
"""


class ExemptionChange(models.Model):
    """Who took a card out of expiry or put it back, and why. Never edited."""

    card = models.ForeignKey(Card, on_delete=models.PROTECT, related_name="exemption_changes")
    exempt = models.BooleanField()
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=150)
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(reason=""), name="exemption_change_has_a_reason")]
        triggers = [
            pgtrigger.Trigger(
                name="append_only",
                level=pgtrigger.Row,
                when=pgtrigger.Before,
                operation=pgtrigger.Update | pgtrigger.Delete,
                func=EXEMPTION_APPEND_ONLY,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.card_id} {'exempt' if self.exempt else 'not exempt'} since {self.changed_at:%Y-%m-%d}"
