"""Who may do what: tills by key, staff by PIN, back offices by membership and key. Secrets are stored hashed."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from loyalty.models.merchant import Merchant, Store


class StoreApiKey(models.Model):
    """What a till signs in with. The key is shown once; only its hash is kept."""

    store = models.ForeignKey(Store, on_delete=models.PROTECT, related_name="api_keys")
    label = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12, help_text="The visible beginning of the key.")
    key_hash = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the key.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.label} ({self.prefix}…)"


class StaffMemberQuerySet(models.QuerySet["StaffMember"]):
    def working_at(self, store: Store) -> StaffMemberQuerySet:
        """Active staff of the store; who is given no store works in all of the merchant's."""
        everywhere_or_here = models.Q(stores=None) | models.Q(stores=store)
        return self.filter(everywhere_or_here, merchant=store.merchant_id, is_active=True).distinct()


class StaffMember(models.Model):
    """A person at the till, known by a PIN."""

    class Role(models.TextChoices):
        CASHIER = "cashier"
        SUPERVISOR = "supervisor"
        MANAGER = "manager"

    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="staff_members")
    stores = models.ManyToManyField(Store, related_name="staff_members", blank=True)
    display_name = models.CharField(max_length=80)
    role = models.CharField(max_length=12, choices=Role, default=Role.CASHIER)
    pin_hash = models.CharField(max_length=200, blank=True)
    failed_attempts = models.PositiveSmallIntegerField(default=0)
    locked_until = models.DateTimeField(null=True, blank=True)
    is_active = models.BooleanField(default=True)

    objects = StaffMemberQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(role__in=["cashier", "supervisor", "manager"]), name="staff_member_role_is_known"
            )
        ]

    def __str__(self) -> str:
        return self.display_name


class StaffSession(models.Model):
    """One shift of a staff member at one store."""

    staff_member = models.ForeignKey(StaffMember, on_delete=models.CASCADE, related_name="sessions")
    store = models.ForeignKey(Store, on_delete=models.PROTECT, related_name="+")
    token_hash = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.staff_member} until {self.expires_at:%Y-%m-%d %H:%M}"


class Membership(models.Model):
    """What a user may do for a merchant. Platform admins are superusers and need none."""

    class Role(models.TextChoices):
        MANAGER = "manager"
        SUPPORT = "support"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "merchant"], name="membership_once_per_merchant")]

    def __str__(self) -> str:
        return f"{self.user} for {self.merchant}"


class UserApiKey(models.Model):
    """What a back office's program signs in with; it may do what its user may."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    label = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12)
    key_hash = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the key.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.label} ({self.prefix}…)"
