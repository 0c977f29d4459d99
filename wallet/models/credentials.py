"""What signs passes and opens the doors of Apple and Google."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q


class CredentialQuerySet(models.QuerySet["Credential"]):
    def active(self) -> CredentialQuerySet:
        return self.filter(status=Credential.Status.ACTIVE)

    def needed(self) -> CredentialQuerySet:
        """Active ones; of intermediates those that issued one of these. Others may lie about long after their end."""
        issuers = self.active().filter(issuer__isnull=False).values("issuer")
        return self.active().exclude(~Q(pk__in=issuers), kind=Credential.Kind.WWDR)


class Credential(models.Model):
    """One version of a credential. A new certificate or key is a new version; what it is never changes."""

    class Kind(models.TextChoices):
        APPLE = "apple", "Pass Type ID certificate"
        WWDR = "wwdr", "Apple's intermediate certificate"
        GOOGLE = "google", "Google service account key"

    class Status(models.TextChoices):
        STAGED = "staged", "Staged"
        ACTIVE = "active", "Active"
        PREVIOUS = "previous", "Previous"
        RETIRED = "retired", "Retired"
        REVOKED = "revoked", "Revoked"

    kind = models.CharField(max_length=6, choices=Kind.choices)
    identifier = models.CharField(
        max_length=120,
        help_text="The pass type, the issuer, or an intermediate's name with the beginning of its fingerprint.",
    )
    version = models.PositiveIntegerField()
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.STAGED)
    subject = models.CharField(max_length=500, help_text="Whose it is: the certificate's subject or the account.")
    serial = models.CharField(max_length=80, help_text="The certificate's serial number, or the id of the key.")
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the certificate, or of the public key.")
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True, help_text="Empty: it does not expire by itself.")
    certificate = models.TextField(blank=True, help_text="PEM; public.")
    issuer = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="The intermediate."
    )
    # Either sealed here or in a file; never shown by anything.
    sealed_secret = models.TextField(blank=True, editable=False)
    secret_file = models.CharField(max_length=500, blank=True)
    imported_at = models.DateTimeField()
    imported_by = models.CharField(max_length=150)
    activated_at = models.DateTimeField(null=True, blank=True)
    activated_by = models.CharField(max_length=150, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True, help_text="The last probe.")
    check_error = models.CharField(max_length=500, blank=True, help_text="Why the last probe failed, if it did.")

    objects = CredentialQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("activate_credential", "Can activate a credential and roll back to the previous one")]
        constraints = [
            models.UniqueConstraint(fields=["kind", "identifier", "version"], name="credential_once_per_version"),
            models.UniqueConstraint(
                fields=["kind", "identifier"], condition=Q(status="active"), name="credential_one_active"
            ),
            models.UniqueConstraint(
                fields=["kind", "identifier"], condition=Q(status="previous"), name="credential_one_previous"
            ),
            models.CheckConstraint(condition=Q(kind__in=["apple", "wwdr", "google"]), name="credential_kind_known"),
            models.CheckConstraint(
                condition=Q(kind="wwdr", sealed_secret="", secret_file="")
                | ~Q(kind="wwdr") & (Q(sealed_secret="") ^ Q(secret_file="")),
                name="credential_secret_is_in_one_place",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.identifier}, version {self.version}"

    def days_left(self, at: datetime) -> int | None:
        """Whole days until it expires, negative afterwards. None: it does not expire by itself."""
        return (self.valid_until - at).days if self.valid_until else None

    def lasts(self, at: datetime) -> str:
        """How long it is good for, in words: the days that are left, or since when it is over."""
        if self.valid_until is None:
            return "does not expire"
        if self.valid_until <= at:
            return f"expired on {self.valid_until:%Y-%m-%d}"
        return f"{self.days_left(at)} days left"


class Breaker(models.Model):
    """Whether calls with a credential make sense at the moment. Open: none are made but a probe now and then."""

    platform = models.CharField(max_length=6)
    identifier = models.CharField(max_length=120)
    failures_in_a_row = models.PositiveIntegerField(default=0, help_text="Calls, whichever pass they were about.")
    opened_at = models.DateTimeField(null=True, blank=True)
    code = models.CharField(max_length=60, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    next_probe_at = models.DateTimeField(null=True, blank=True)
    probes = models.PositiveIntegerField(default=0, help_text="That failed since it opened.")
    next_link_call_at = models.DateTimeField(
        null=True, blank=True, help_text="Google: links that customers open make no call before. The rest is for syncs."
    )

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["platform", "identifier"], name="breaker_one_per_credential"),
        ]

    def __str__(self) -> str:
        return f"{self.platform} {self.identifier} {'open' if self.is_open else 'closed'}"

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None
