"""Programs: the rules by which cards collect and redeem. When points expire is in `policy`."""

from collections.abc import Mapping
from typing import Any, cast

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_program, in_sight
from loyalty.api.answers import written
from loyalty.api.fields import LARGEST_ID, Amount, Flag, Id, In, Rate, Text, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.errors import InvalidAmount
from loyalty.models import Program
from loyalty.models.money import to_minor
from loyalty.services import programs
from loyalty.services.programs import ProgramSettings

LARGEST, LARGEST_SMALL = 2_000_000_000, 32_767
LONGEST_TERMS, LONGEST_URL = 20_000, 200
SEEN = "The version of the program on which this was decided. With another one nothing is done (`program_changed`)."
WRITTEN_AMOUNT = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}
POINT_VALUE = "Of one point: for points as a discount, and for what is owed to customers."
COLOUR = "Such as #1d3557."


class ProgramIn(In):
    example: dict[str, Any] = {"points_per_unit": "1.5", "minimum_purchase": "5.00", "welcome_bonus_points": 50}

    name = Text(max_length=80, required=False, help_text="What customers read on their card.")
    kind = serializers.ChoiceField(choices=Program.Kind.choices, required=False)
    is_active = Flag(required=False, help_text="Off: cards cannot be used, nobody is warned and nothing expires.")
    points_per_unit = Rate(
        max_digits=10, decimal_places=4, required=False, help_text="Points for one unit of the currency."
    )
    minimum_purchase = Amount(required=False, help_text="Smaller purchases are refused.")
    welcome_bonus_points = Whole(required=False, min_value=0, max_value=LARGEST)
    minimum_redemption_points = Whole(required=False, min_value=0, max_value=LARGEST)
    point_value = Amount(required=False, help_text=POINT_VALUE)
    max_points_per_transaction = Whole(required=False, allow_null=True, min_value=0, max_value=LARGEST)
    max_daily_earns = Whole(
        required=False, allow_null=True, min_value=0, max_value=LARGEST_SMALL, help_text="Per card and local day."
    )
    stamps_target = Whole(required=False, min_value=1, max_value=LARGEST_SMALL)
    stamps_reward = Text(max_length=120, required=False, allow_blank=True)
    cooldown_minutes = Whole(required=False, min_value=0, max_value=LARGEST_SMALL, help_text="Between two stamps.")
    max_daily_stamps = Whole(required=False, min_value=0, max_value=LARGEST_SMALL)
    staff_pin_policy = serializers.ChoiceField(choices=Program.PinPolicy.choices, required=False)
    pin_attempts = Whole(required=False, min_value=1, max_value=LARGEST_SMALL)
    pin_lock_minutes = Whole(required=False, min_value=1, max_value=LARGEST_SMALL)
    allow_void = Flag(required=False, help_text="Off: tills void nothing. Purchases can still be refunded.")
    void_window_hours = Whole(required=False, min_value=0, max_value=LARGEST_SMALL, help_text="For cashiers.")
    refund_policy = serializers.ChoiceField(
        choices=Program.RefundPolicy.choices,
        required=False,
        help_text="When the points of a refunded purchase are spent: take what is left, or refuse.",
    )
    require_receipt_number = Flag(required=False)
    allow_self_enrollment = Flag(required=False, help_text="Customers can take a card on the public page.")
    allow_cross_store = Flag(required=False, help_text="Cards work in every store, and not only where they were taken.")
    log_client_address = Flag(required=False, help_text="Keep the network address of tills.")
    barcode = serializers.ChoiceField(choices=Program.Barcode.choices, required=False)
    background_colour = Text(max_length=7, required=False, help_text=COLOUR)
    text_colour = Text(max_length=7, required=False, help_text=COLOUR)
    logo_url = Text(max_length=LONGEST_URL, required=False, allow_blank=True)
    terms_text = Text(max_length=LONGEST_TERMS, required=False, allow_blank=True)
    terms_url = Text(max_length=LONGEST_URL, required=False, allow_blank=True)
    privacy_url = Text(max_length=LONGEST_URL, required=False, allow_blank=True)


class NewProgramIn(ProgramIn):
    example = {"merchant_id": 4, "name": "Gold Card", "kind": "points", **ProgramIn.example}

    merchant_id = Id()
    name = Text(max_length=80, help_text="What customers read on their card.")


class ChangedProgramIn(ProgramIn):
    example = {**ProgramIn.example, "seen_version": None}

    seen_version = Whole(required=False, allow_null=True, default=None, min_value=0, max_value=LARGEST, help_text=SEEN)


class FullProgramOut(serializers.ModelSerializer[Program]):
    """The program of a merchant with all its rules."""

    example = {
        "id": 4,
        "merchant_id": 4,
        "currency": "EUR",
        "name": "Gold Card",
        "kind": "hybrid",
        "is_active": True,
        "points_per_unit": "1.5000",
        "minimum_purchase": "5.00",
        "welcome_bonus_points": 50,
        "minimum_redemption_points": 100,
        "point_value": "0.01",
        "max_points_per_transaction": None,
        "max_daily_earns": None,
        "stamps_target": 10,
        "stamps_reward": "A coffee of your choice",
        "cooldown_minutes": 15,
        "max_daily_stamps": 5,
        "points_expiration_days": 180,
        "expiration_warning_days": 14,
        "require_expiration_notice": True,
        "expiration_paused_until": None,
        "staff_pin_policy": "required",
        "pin_attempts": 5,
        "pin_lock_minutes": 30,
        "allow_void": True,
        "void_window_hours": 72,
        "refund_policy": "clamp",
        "require_receipt_number": False,
        "allow_self_enrollment": True,
        "allow_cross_store": True,
        "log_client_address": False,
        "barcode": "qr",
        "background_colour": "#1d3557",
        "text_colour": "#ffffff",
        "logo_url": "",
        "terms_text": "",
        "terms_url": "",
        "privacy_url": "",
        "version": 7,
    }

    merchant_id = serializers.IntegerField()
    currency = serializers.CharField(source="merchant.currency", help_text="ISO 4217; that of the amounts.")
    logo_url = serializers.CharField(help_text="Empty: none. So are the other addresses.")
    terms_url = serializers.CharField()
    privacy_url = serializers.CharField()
    minimum_purchase = serializers.SerializerMethodField()
    point_value = serializers.SerializerMethodField(help_text=POINT_VALUE)

    class Meta:
        model = Program
        fields = (
            *("id", "merchant_id", "currency", "name", "kind", "is_active"),
            *("points_per_unit", "minimum_purchase", "welcome_bonus_points", "minimum_redemption_points"),
            *("point_value", "max_points_per_transaction", "max_daily_earns"),
            *("stamps_target", "stamps_reward", "cooldown_minutes", "max_daily_stamps"),
            *("points_expiration_days", "expiration_warning_days", "require_expiration_notice"),
            *("expiration_paused_until", "staff_pin_policy", "pin_attempts", "pin_lock_minutes"),
            *("allow_void", "void_window_hours", "refund_policy", "require_receipt_number"),
            *("allow_self_enrollment", "allow_cross_store", "log_client_address"),
            *("barcode", "background_colour", "text_colour", "logo_url", "terms_text", "terms_url", "privacy_url"),
            "version",
        )
        read_only_fields = fields

    @extend_schema_field(WRITTEN_AMOUNT)
    def get_minimum_purchase(self, program: Program) -> str | None:
        return written(program.minimum_purchase_minor, program.merchant.currency)

    @extend_schema_field(WRITTEN_AMOUNT)
    def get_point_value(self, program: Program) -> str | None:
        return written(program.point_value_minor, program.merchant.currency)


class ProgramsQuery(PageQuery):
    merchant_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)


class Programs(AdminView):
    @operation(
        name="admin_programs_list",
        summary="List programs",
        query=ProgramsQuery,
        answer=FullProgramOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[Program]":
        """Of all merchants that the user looks after, or of one of them; the newest first."""
        rows = Program.objects.select_related("merchant")
        return rows.filter(in_sight(asked, "merchant", asked.query.get("merchant_id")))

    @operation(
        name="admin_programs_create",
        summary="Give a merchant its program",
        body=NewProgramIn,
        answer=FullProgramOut,
        status=201,
        refusals=[errors.MerchantNotFound, errors.ProgramExists, errors.InvalidAmount, errors.InvalidInput],
        changes=True,
    )
    def post(self, asked: AskedByUser) -> Program:
        """A merchant has one program. Its points do not expire until a policy is set."""
        merchant = asked.merchant(asked.body["merchant_id"])
        return programs.create_program(merchant=merchant, settings=_settings(asked.body, merchant.currency))


class OneProgram(AdminView):
    @operation(
        name="admin_programs_get",
        summary="See a program",
        answer=FullProgramOut,
        refusals=[errors.ProgramNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, program_id: int) -> Program:
        """With the days of its expiry policy, which is changed at `policy`."""
        return find_program(asked, program_id)

    @operation(
        name="admin_programs_update",
        summary="Change a program",
        body=ChangedProgramIn,
        answer=FullProgramOut,
        refusals=[
            errors.ProgramNotFound,
            errors.ProgramChanged,
            errors.NothingToChange,
            errors.InvalidAmount,
            errors.InvalidInput,
        ],
        changes=True,
    )
    def patch(self, asked: AskedByUser, program_id: int) -> Program:
        """What is not sent stays. When points expire is changed at `policy`, after its impact was shown.

        A program that is switched on again warns its customers again, in full time, before anything expires.
        """
        program = find_program(asked, program_id)
        settings = _settings(asked.body, program.merchant.currency)
        return programs.update_program(program=program, settings=settings, seen_version=asked.body["seen_version"])


def _settings(body: Mapping[str, Any], currency: str) -> ProgramSettings:
    """The body under the names of the model, amounts in minor units."""
    values = {name: value for name, value in body.items() if name not in ("merchant_id", "seen_version")}
    if "minimum_purchase" in values:
        amount = values.pop("minimum_purchase")
        values["minimum_purchase_minor"] = to_minor(amount, currency, field="minimum_purchase")
    if "point_value" in values:
        values["point_value_minor"] = to_minor(values.pop("point_value"), currency, field="point_value")
        if values["point_value_minor"] > LARGEST:
            raise InvalidAmount("This is more than a point can be worth.", field="point_value")
    return cast(ProgramSettings, values)


urlpatterns = [
    path("programs", Programs.as_view()),
    path("programs/<id:program_id>", OneProgram.as_view()),
]
