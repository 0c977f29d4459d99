"""What a till is told about cards and programs. Personal data is masked: a till's screen is seen by others."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty.api.answers import AMOUNT, TransactionOut, iso, written
from loyalty.models import Campaign, Card, Customer, Program, Reward, StaffMember, Transaction
from loyalty.services.at_till import CardAtTill, ProgramAtTill
from loyalty.services.explaining import sentence_about

DAY = {"type": "string", "format": "date", "nullable": True}


def masked(text: str) -> str:
    """The first character and nothing else of a name: A…"""
    return f"{text[0]}…" if text else ""


def masked_email(email: str) -> str:
    name, _, domain = email.partition("@")
    return f"{masked(name)}@{masked(domain)}" if email else ""


def masked_phone(phone: str) -> str:
    return f"…{phone[-2:]}" if phone else ""


class MaskedCustomerOut(serializers.Serializer[Customer]):
    """Enough of a customer to be sure that it is the right one."""

    name = serializers.SerializerMethodField()
    email = serializers.SerializerMethodField()
    phone = serializers.SerializerMethodField()

    def get_name(self, customer: Customer) -> str:
        return " ".join(filter(None, [masked(customer.first_name), masked(customer.last_name)]))

    def get_email(self, customer: Customer) -> str:
        return masked_email(customer.email)

    def get_phone(self, customer: Customer) -> str:
        return masked_phone(customer.phone)


class RewardOut(serializers.Serializer[Reward]):
    """What points can be exchanged for."""

    example = {"id": 2, "name": "Coffee", "points_cost": 50, "stock": 12, "active_from": None, "active_to": None}

    id = serializers.IntegerField()
    name = serializers.CharField()
    points_cost = serializers.IntegerField()
    stock = serializers.IntegerField(allow_null=True, help_text="Null: unlimited.")
    active_from = serializers.DateField(allow_null=True)
    active_to = serializers.DateField(allow_null=True, help_text="The last day.")


class CardOut(serializers.Serializer[CardAtTill]):
    """A card as a till shows it."""

    example = {
        "id": 17,
        "card_number": "539397706786",
        "status": "active",
        "points_balance": 112,
        "stamp_count": 3,
        "stamps_target": 10,
        "points_value": "1.12",
        "currency": "EUR",
        "keeps_until": "2026-09-27",
        "next_reward": {
            "id": 3,
            "name": "Breakfast",
            "points_cost": 150,
            "stock": None,
            "active_from": None,
            "active_to": None,
        },
        "customer": {"name": "A… M…", "email": "a…@e…", "phone": "…56"},
        "last_activity_at": "2026-03-31T12:05:00Z",
    }

    id = serializers.IntegerField(source="card.pk")
    card_number = serializers.CharField(source="card.card_number")
    status = serializers.ChoiceField(choices=Card.Status.choices, source="card.status")
    points_balance = serializers.IntegerField(source="card.balance.points_balance")
    stamp_count = serializers.IntegerField(source="card.balance.stamp_count")
    stamps_target = serializers.IntegerField(source="card.program.stamps_target")
    points_value = serializers.SerializerMethodField(help_text="What the points are worth as a discount.")
    currency = serializers.CharField(source="card.program.merchant.currency")
    keeps_until = serializers.SerializerMethodField(help_text="The last day of the points; null: they do not expire.")
    next_reward = RewardOut(allow_null=True, help_text="The cheapest reward that the points do not reach yet.")
    customer = MaskedCustomerOut(source="card.customer")
    last_activity_at = serializers.DateTimeField(source="card.balance.last_activity_at")

    @extend_schema_field(AMOUNT)
    def get_points_value(self, found: CardAtTill) -> str | None:
        program = found.card.program
        return written(found.card.balance.points_balance * program.point_value_minor, program.merchant.currency)

    @extend_schema_field(DAY)
    def get_keeps_until(self, found: CardAtTill) -> str | None:
        return iso(found.keeps_until)


class MovementOut(TransactionOut):
    """A ledger row, and what it means in a sentence."""

    example = {**TransactionOut.example, "sentence": "A purchase of €12.99 at Main Street earned 12 points."}

    sentence = serializers.SerializerMethodField()

    def get_sentence(self, row: Transaction) -> str:
        return sentence_about(row, row.card)


class EnrolledOut(serializers.Serializer[dict[str, Any]]):
    """A new card. Print the QR code, or let the customer add the card to a phone."""

    example = {"card_id": 17, "card_number": "539397706786", "qr_token": "4V7tQ0yq1s2bM1x9rB0e3A", "points_balance": 50}

    card_id = serializers.IntegerField(source="card")
    card_number = serializers.CharField()
    qr_token = serializers.CharField(help_text="What the QR code of the card holds.")
    points_balance = serializers.IntegerField(help_text="The welcome bonus.")


class WorthOut(serializers.Serializer[dict[str, Any]]):
    """What a purchase would earn."""

    example = {"points": 24, "points_balance_after": 136, "campaign": "Double Friday"}

    points = serializers.IntegerField()
    points_balance_after = serializers.IntegerField()
    campaign = serializers.CharField(allow_null=True, help_text="The campaign that made it more.")


class CampaignOut(serializers.Serializer[Campaign]):
    """A time in which purchases are worth more."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    multiplier = serializers.DecimalField(max_digits=6, decimal_places=2)
    bonus_points = serializers.IntegerField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    weekdays = serializers.CharField(help_text="Digits from 1 (Monday) to 7 (Sunday); empty: every day.")


class ProgramOut(serializers.Serializer[ProgramAtTill]):
    """The rules by which cards collect and redeem."""

    example = {
        "name": "Points card",
        "kind": "hybrid",
        "merchant": "Café Central",
        "store": "Main Street",
        "currency": "EUR",
        "timezone": "Europe/Luxembourg",
        "points_per_unit": "1.0000",
        "minimum_purchase": "0.00",
        "welcome_bonus_points": 50,
        "minimum_redemption_points": 100,
        "point_value": "0.01",
        "max_points_per_transaction": None,
        "stamps_target": 10,
        "stamps_reward": "A coffee of your choice",
        "cooldown_minutes": 15,
        "max_daily_stamps": 5,
        "points_expiration_days": 180,
        "expiration_warning_days": 14,
        "staff_pin_policy": "required",
        "allow_void": True,
        "void_window_hours": 72,
        "require_receipt_number": False,
        "campaigns": [],
    }

    name = serializers.CharField(help_text="What customers read on their card.", source="program.name")
    kind = serializers.ChoiceField(choices=Program.Kind.choices, source="program.kind")
    merchant = serializers.CharField(source="program.merchant.name")
    store = serializers.CharField(source="store.name")
    currency = serializers.CharField(source="program.merchant.currency")
    timezone = serializers.CharField(source="program.merchant.timezone")
    points_per_unit = serializers.DecimalField(max_digits=10, decimal_places=4, source="program.points_per_unit")
    minimum_purchase = serializers.SerializerMethodField()
    welcome_bonus_points = serializers.IntegerField(source="program.welcome_bonus_points")
    minimum_redemption_points = serializers.IntegerField(source="program.minimum_redemption_points")
    point_value = serializers.SerializerMethodField(help_text="Of one point, as a discount.")
    max_points_per_transaction = serializers.IntegerField(allow_null=True, source="program.max_points_per_transaction")
    stamps_target = serializers.IntegerField(source="program.stamps_target")
    stamps_reward = serializers.CharField(source="program.stamps_reward")
    cooldown_minutes = serializers.IntegerField(source="program.cooldown_minutes")
    max_daily_stamps = serializers.IntegerField(source="program.max_daily_stamps")
    points_expiration_days = serializers.IntegerField(
        allow_null=True, help_text="Null or 0: never.", source="program.points_expiration_days"
    )
    expiration_warning_days = serializers.IntegerField(source="program.expiration_warning_days")
    staff_pin_policy = serializers.ChoiceField(choices=Program.PinPolicy.choices, source="program.staff_pin_policy")
    allow_void = serializers.BooleanField(source="program.allow_void")
    void_window_hours = serializers.IntegerField(source="program.void_window_hours")
    require_receipt_number = serializers.BooleanField(source="program.require_receipt_number")
    campaigns = CampaignOut(many=True)

    @extend_schema_field({"type": "string"})
    def get_minimum_purchase(self, shown: ProgramAtTill) -> str | None:
        program = shown.program
        return written(program.minimum_purchase_minor, program.merchant.currency)

    @extend_schema_field({"type": "string"})
    def get_point_value(self, shown: ProgramAtTill) -> str | None:
        program = shown.program
        return written(program.point_value_minor, program.merchant.currency)


class SessionOut(serializers.Serializer[Any]):
    """A staff member is signed in."""

    example = {
        "token": "staff_2pY…",
        "staff_member_id": 5,
        "display_name": "Kim",
        "role": "cashier",
        "expires_at": "2026-03-31T20:00:00Z",
    }

    token = serializers.CharField(help_text="Send it as X-Staff-Session.")
    staff_member_id = serializers.IntegerField(source="staff_session.staff_member_id")
    display_name = serializers.CharField(source="staff_session.staff_member.display_name")
    role = serializers.CharField(source="staff_session.staff_member.role")
    expires_at = serializers.DateTimeField(source="staff_session.expires_at")


class StaffOut(serializers.Serializer[StaffMember]):
    """Somebody who works in the store."""

    example = {"id": 5, "display_name": "Kim", "role": "cashier"}

    id = serializers.IntegerField()
    display_name = serializers.CharField()
    role = serializers.ChoiceField(choices=StaffMember.Role.choices)
