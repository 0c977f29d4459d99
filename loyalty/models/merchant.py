from __future__ import annotations

import re
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

import pgtrigger
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now

from loyalty.models.money import CURRENCIES

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


# In the list, and no place: what they mean depends on the machine.
NO_PLACES = {"localtime", "Factory"}
ID = re.compile(r"[0-9]{1,18}", re.ASCII)
LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*", re.ASCII)


def validate_timezone(name: str) -> None:
    if name not in available_timezones() - NO_PLACES:
        raise ValidationError(f"{name} is not a time zone of the IANA list, such as Europe/Luxembourg.")


def validate_currency(code: str) -> None:
    if code not in CURRENCIES:
        raise ValidationError(f"{code} is not a currency code of ISO 4217, such as EUR.")


class MerchantQuerySet(models.QuerySet["Merchant"]):
    def readable_by(self, user: User | AnonymousUser) -> MerchantQuerySet:
        """Merchants whose data a user may see. Platform admins, who are superusers, see all."""
        return self._looked_after(user)

    def managed_by(self, user: User | AnonymousUser) -> MerchantQuerySet:
        """Merchants whose data a user may change; support only reads, and restores points."""
        return self._looked_after(user, memberships__role="manager")

    def called(self, name: str) -> Merchant | None:
        """The one with this slug or, if there is none, with this id."""
        found = self.filter(slug=name).first() if name.isascii() else None
        return found or (self.filter(pk=int(name)).first() if ID.fullmatch(name) else None)

    def _looked_after(self, user: User | AnonymousUser, **role: str) -> MerchantQuerySet:
        if user.is_superuser:
            return self.all()
        # One filter: the role must be that of the user's own membership.
        return self.none() if user.pk is None else self.filter(memberships__user=user.pk, **role)


class Merchant(models.Model):
    """A business with shops. Cards, customers and points belong to exactly one."""

    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    timezone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_timezone],
        help_text="Decides when a day begins, and so the last day points can be used.",
    )
    currency = models.CharField(
        max_length=3,
        validators=[validate_currency],
        help_text="ISO 4217. Cannot change once a transaction exists.",
    )
    country = models.CharField(
        max_length=2, blank=True, validators=[RegexValidator(r"^[A-Z]{2}$", "Two capital letters, such as LU.")]
    )
    locale = models.CharField(max_length=16, default="en", help_text="For customers who have not chosen a language.")
    support_email = models.EmailField(blank=True, help_text="Where customers' answers to our messages go.")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = MerchantQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~models.Q(slug=""), name="merchant_has_a_slug"),
            models.CheckConstraint(condition=models.Q(currency__regex=r"^[A-Z]{3}$"), name="merchant_currency_is_iso"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if not LOCALE.fullmatch(self.locale):
            raise ValidationError({"locale": f"{self.locale} is not a language, such as fr or de-CH."})

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class MerchantChange(models.Model):
    """Who switched a merchant off or on again, and why. Never edited."""

    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="changes")
    is_active = models.BooleanField()
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=150)
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~models.Q(reason=""), name="merchant_change_has_a_reason"),
        ]
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.merchant} {'on' if self.is_active else 'off'} since {self.changed_at:%Y-%m-%d}"


class Store(models.Model):
    """A shop of a merchant."""

    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="stores")
    name = models.CharField(max_length=120)
    code = models.SlugField(max_length=40)
    is_active = models.BooleanField(default=True)
    throttle_factor = models.PositiveSmallIntegerField(
        default=1, help_text="Multiplies how often tills of this store may ask. 0: no limit."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["merchant", "code"], name="store_code_once_per_merchant")]

    def __str__(self) -> str:
        return self.name
