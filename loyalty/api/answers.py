"""What both APIs answer with."""

from datetime import date
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty.models import Transaction, TransactionType
from loyalty.models.money import exponent, to_decimal

AMOUNT = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "nullable": True}


def written(amount_minor: int | None, currency: str) -> str | None:
    """The amount as the API writes it: a decimal string with all its places."""
    return None if amount_minor is None else f"{to_decimal(amount_minor, currency):.{exponent(currency)}f}"


class TransactionOut(serializers.Serializer[Transaction]):
    """One row of the ledger, as it was written; it never changes."""

    example = {
        "id": 4711,
        "card_id": 17,
        "seq": 3,
        "type": "POINTS_EARNED",
        "points_delta": 12,
        "stamps_delta": 0,
        "points_balance_after": 112,
        "stamps_balance_after": 0,
        "amount": "12.99",
        "currency": "EUR",
        "store_id": 3,
        "staff_member_id": 5,
        "actor": "Kim",
        "receipt_number": "R-2026-0815",
        "reward_id": None,
        "reverses_id": None,
        "reverses_in_full": False,
        "reason": "",
        "shortfall_points": 0,
        "shortfall_stamps": 0,
        "next_stamp_at": None,
        "remaining_stamps_today": None,
        "warnings": [],
        "transaction_at": "2026-03-31T12:05:00Z",
        "created_at": "2026-03-31T12:05:00Z",
    }

    id = serializers.IntegerField()
    card_id = serializers.IntegerField()
    seq = serializers.IntegerField(help_text="1, 2, 3, ... without a gap on each card.")
    type = serializers.ChoiceField(choices=TransactionType.choices)
    points_delta = serializers.IntegerField()
    stamps_delta = serializers.IntegerField()
    points_balance_after = serializers.IntegerField()
    stamps_balance_after = serializers.IntegerField()
    amount = serializers.SerializerMethodField()
    currency = serializers.CharField(source="merchant.currency", help_text="ISO 4217.")
    store_id = serializers.IntegerField(allow_null=True)
    staff_member_id = serializers.IntegerField(allow_null=True)
    actor = serializers.CharField(help_text="Who or what caused it.")
    receipt_number = serializers.CharField()
    reward_id = serializers.IntegerField(allow_null=True)
    reverses_id = serializers.IntegerField(allow_null=True, help_text="The transaction that this one takes back.")
    reverses_in_full = serializers.BooleanField()
    reason = serializers.CharField()
    shortfall_points = serializers.SerializerMethodField(
        help_text="Points that a refund or void could not take because the customer had spent them."
    )
    shortfall_stamps = serializers.SerializerMethodField()
    next_stamp_at = serializers.SerializerMethodField(help_text="When the card may get its next stamp.")
    remaining_stamps_today = serializers.SerializerMethodField()
    warnings = serializers.SerializerMethodField(help_text="What the cashier should know: see docs/api.md.")
    transaction_at = serializers.DateTimeField(help_text="When it happened in the shop.")
    created_at = serializers.DateTimeField(help_text="When it was written.")

    @extend_schema_field(AMOUNT)
    def get_amount(self, row: Transaction) -> str | None:
        return written(row.amount_minor, row.merchant.currency)

    def get_shortfall_points(self, row: Transaction) -> int:
        return 0 if row.type == TransactionType.STAMP_VOIDED else _shortfall(row)

    def get_shortfall_stamps(self, row: Transaction) -> int:
        return _shortfall(row) if row.type == TransactionType.STAMP_VOIDED else 0

    @extend_schema_field({"type": "string", "format": "date-time", "nullable": True})
    def get_next_stamp_at(self, row: Transaction) -> Any:
        moment = _detail(row, "next_stamp_at")
        return in_utc(moment) if moment else None

    @extend_schema_field({"type": "integer", "nullable": True})
    def get_remaining_stamps_today(self, row: Transaction) -> Any:
        return _detail(row, "remaining_stamps_today")

    @extend_schema_field({"type": "array", "items": {"type": "string"}})
    def get_warnings(self, row: Transaction) -> list[str]:
        return ["activity_predates_expiration"] if _detail(row, "activity_predates_expiration") else []


def _shortfall(row: Transaction) -> int:
    return int(_detail(row, "shortfall") or 0)


def _detail(row: Transaction, name: str) -> Any:
    """A value of the details; an erasure may have replaced them all by a word."""
    return row.details.get(name) if isinstance(row.details, dict) else None


def in_utc(moment: str) -> str:
    """A kept moment as all others are answered, with a Z."""
    return moment.removesuffix("+00:00") + "Z" if moment.endswith("+00:00") else moment


def iso(day: date | None) -> str | None:
    return day.isoformat() if day else None
