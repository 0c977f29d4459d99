from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

import pgtrigger
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from loyalty.models.merchant import Merchant, Store
from loyalty.models.money import to_decimal
from loyalty.models.policy import ExpirationPolicy

LONGEST_EXPIRATION_DAYS = 3650
LONGEST_WARNING_DAYS = 365
LATEST_PAUSE = date(2199, 12, 31)
validate_colour = RegexValidator(r"^#[0-9a-fA-F]{6}$", "A colour such as #1a2b3c.")


def points_at(rate: Decimal, amount_minor: int, currency: str) -> int:
    """Points an amount is worth at this rate for one unit of the currency: exact decimals, floored once."""
    return int((to_decimal(amount_minor, currency) * rate).to_integral_value(ROUND_FLOOR))


class ProgramQuerySet(models.QuerySet["Program"]):
    def expiring(self) -> ProgramQuerySet:
        """Active programs of active merchants whose points expire, whether paused or not."""
        return self.filter(is_active=True, merchant__is_active=True, points_expiration_days__gt=0)


class Program(models.Model):
    """The rules by which a merchant's cards collect, redeem and expire."""

    class Kind(models.TextChoices):
        POINTS = "points"
        STAMPS = "stamps"
        HYBRID = "hybrid"

    class PinPolicy(models.TextChoices):
        REQUIRED = "required"
        OPTIONAL = "optional"
        DISABLED = "disabled"

    class RefundPolicy(models.TextChoices):
        CLAMP = "clamp", "take the balance to zero and record the shortfall"
        BLOCK = "block", "refuse the refund"

    class Barcode(models.TextChoices):
        QR = "qr", "QR code"
        CODE128 = "code128", "Code 128"

    merchant = models.OneToOneField(Merchant, on_delete=models.PROTECT, related_name="program")
    name = models.CharField("card name", max_length=80, help_text="What customers read on their card.")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.POINTS)
    is_active = models.BooleanField(default=True)

    points_per_unit = models.DecimalField(
        max_digits=10,
        decimal_places=4,
        default=Decimal(1),
        help_text="Points for one unit of the currency, such as one euro.",
    )
    minimum_purchase_minor = models.PositiveBigIntegerField("minimum purchase", default=0, help_text="In minor units.")
    welcome_bonus_points = models.PositiveIntegerField(default=0)
    minimum_redemption_points = models.PositiveIntegerField(default=0)
    point_value_minor = models.PositiveIntegerField(
        "value of a point", default=0, help_text="In minor units: for liability and for points as a discount."
    )
    max_points_per_transaction = models.PositiveIntegerField(null=True, blank=True)
    max_daily_earns = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Per card and local day.")
    stamps_target = models.PositiveSmallIntegerField(default=10)
    stamps_reward = models.CharField(max_length=120, blank=True)
    cooldown_minutes = models.PositiveSmallIntegerField("stamp cooldown", default=15, help_text="In minutes.")
    max_daily_stamps = models.PositiveSmallIntegerField(default=5)

    points_expiration_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MaxValueValidator(LONGEST_EXPIRATION_DAYS)],
        help_text="Idle points expire after this many days. Empty or 0: never.",
    )
    expiration_warning_days = models.PositiveIntegerField(
        default=14,
        validators=[MaxValueValidator(LONGEST_WARNING_DAYS)],
        help_text="Customers are warned this many days before, and always have this many days after the warning.",
    )
    require_expiration_notice = models.BooleanField(
        default=True, help_text="Nothing expires without an earlier warning. Off: older than the limit is gone."
    )
    expiration_paused_until = models.DateField(
        null=True, blank=True, help_text="Up to and including this day nothing is warned about and nothing expires."
    )

    staff_pin_policy = models.CharField(max_length=8, choices=PinPolicy, default=PinPolicy.REQUIRED)
    pin_attempts = models.PositiveSmallIntegerField(default=5, validators=[MinValueValidator(1)])
    pin_lock_minutes = models.PositiveSmallIntegerField(default=30, validators=[MinValueValidator(1)])
    allow_void = models.BooleanField(default=True)
    void_window_hours = models.PositiveSmallIntegerField(default=72)
    refund_policy = models.CharField(max_length=5, choices=RefundPolicy, default=RefundPolicy.CLAMP)
    require_receipt_number = models.BooleanField(default=False)
    allow_self_enrollment = models.BooleanField(default=True)
    allow_cross_store = models.BooleanField(default=True, help_text="Cards work in every store of the merchant.")
    log_client_address = models.BooleanField(default=False, help_text="Keep the network address of tills.")

    barcode = models.CharField(max_length=7, choices=Barcode, default=Barcode.QR)
    background_colour = models.CharField(max_length=7, default="#1d3557", validators=[validate_colour])
    text_colour = models.CharField(max_length=7, default="#ffffff", validators=[validate_colour])
    logo_url = models.URLField("logo URL", blank=True)
    terms_text = models.TextField(blank=True)
    terms_url = models.URLField("terms URL", blank=True)
    privacy_url = models.URLField("privacy URL", blank=True)

    version = models.PositiveIntegerField(default=1, editable=False, help_text="Grows with every change.")

    objects = ProgramQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(points_per_unit__gte=0), name="program_rate_not_negative"),
            models.CheckConstraint(condition=models.Q(stamps_target__gte=1), name="program_stamps_target_positive"),
            models.CheckConstraint(
                condition=models.Q(kind__in=["points", "stamps", "hybrid"]), name="program_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def points_for(self, amount_minor: int, multiplier: Decimal = Decimal(1)) -> int:
        """Points a purchase is worth today, before caps."""
        return points_at(self.points_per_unit * multiplier, amount_minor, self.merchant.currency)

    @property
    def expires(self) -> bool:
        return bool(self.points_expiration_days)

    @property
    def policy(self) -> ExpirationPolicy:
        policy = ExpirationPolicy(
            zone=self.merchant.zone,
            expires_after_days=self.points_expiration_days or 0,
            warning_days=self.expiration_warning_days,
            requires_notice=self.require_expiration_notice,
        )
        if self.expiration_paused_until is None:
            return policy
        last_day = min(self.expiration_paused_until, date.max - timedelta(days=1))  # somebody's "for ever"
        return replace(policy, notices_count_from=policy.start_of(last_day + timedelta(days=1)))

    def is_paused(self, today: date) -> bool:
        """Whether expiry rests on this local day."""
        return self.expiration_paused_until is not None and today <= self.expiration_paused_until


class CampaignQuerySet(models.QuerySet["Campaign"]):
    def running(self, *, program: Program, at: datetime) -> CampaignQuerySet:
        """Campaigns of the program at this moment; week days, stores and minimums apart."""
        return self.filter(program=program, is_active=True, starts_at__lte=at, ends_at__gt=at)


class Campaign(models.Model):
    """A time in which purchases are worth more. Of several, the best one for the customer applies."""

    program = models.ForeignKey(Program, on_delete=models.CASCADE, related_name="campaigns")
    name = models.CharField(max_length=80)
    multiplier = models.DecimalField(max_digits=6, decimal_places=2, default=Decimal(1))
    bonus_points = models.PositiveIntegerField(default=0)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    weekdays = models.CharField(
        max_length=7,
        blank=True,
        validators=[RegexValidator(r"^(?!.*(.).*\1)[1-7]+$", "Digits from 1 (Monday) to 7 (Sunday), each once.")],
        help_text="Digits from 1 (Monday) to 7 (Sunday). Empty: every day.",
    )
    stores = models.ManyToManyField(Store, blank=True, related_name="+", help_text="None: all stores.")
    minimum_purchase_minor = models.PositiveBigIntegerField("minimum purchase", default=0, help_text="In minor units.")
    is_active = models.BooleanField(default=True)

    objects = CampaignQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="campaign_ends_after_start"
            ),
            models.CheckConstraint(condition=models.Q(multiplier__gte=1), name="campaign_multiplier_at_least_one"),
        ]

    def __str__(self) -> str:
        return self.name

    def covers(self, day: date, amount_minor: int) -> bool:
        """Whether a purchase of this size on this local day takes part."""
        on_this_weekday = not self.weekdays or str(day.isoweekday()) in self.weekdays
        return on_this_weekday and amount_minor >= self.minimum_purchase_minor


class RewardQuerySet(models.QuerySet["Reward"]):
    def offered(self, day: date) -> RewardQuerySet:
        """Rewards that can be had on this local day, stock apart."""
        begun = models.Q(active_from=None) | models.Q(active_from__lte=day)
        not_over = models.Q(active_to=None) | models.Q(active_to__gte=day)
        return self.filter(begun, not_over, is_active=True)


class Reward(models.Model):
    """What points can be exchanged for."""

    program = models.ForeignKey(Program, on_delete=models.PROTECT, related_name="rewards")
    name = models.CharField(max_length=120)
    points_cost = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    stock = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: unlimited.")
    active_from = models.DateField(null=True, blank=True)
    active_to = models.DateField(null=True, blank=True, help_text="The last day.")
    is_active = models.BooleanField(default=True)

    objects = RewardQuerySet.as_manager()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(points_cost__gte=1), name="reward_costs_something")]

    def __str__(self) -> str:
        return self.name


class PolicyChange(models.Model):
    """A change of when points expire: what was, what is, whom it touched, who confirmed it. Never edited."""

    program = models.ForeignKey(Program, on_delete=models.PROTECT, related_name="policy_changes")
    old_policy = models.JSONField()
    new_policy = models.JSONField()
    impact = models.JSONField(help_text="The impact that was shown before the change was confirmed.")
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=500, blank=True)
    changed_at = models.DateTimeField()

    class Meta:
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.program} on {self.changed_at:%Y-%m-%d %H:%M}"
