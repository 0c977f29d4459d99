from __future__ import annotations

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from loyalty.models.merchant import Merchant


class ExpirationRunQuerySet(models.QuerySet["ExpirationRun"]):
    def counting(self) -> ExpirationRunQuerySet:
        """Runs that prove that expiry works: all merchants, the current clock, and an end."""
        ended = [ExpirationRun.Status.SUCCEEDED, ExpirationRun.Status.PARTIAL]
        return self.filter(merchant=None, as_of=F("started_at"), status__in=ended)


class ExpirationRun(models.Model):
    """One night's work, or one started by hand: what it warned about, what it took, what it could not do.

    Counts grow with every committed chunk, so that a run that was killed still says what it did.
    """

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule"
        COMMAND = "command"
        ADMIN = "admin"
        API = "api"

    class Status(models.TextChoices):
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        PARTIAL = "partial"
        FAILED = "failed"
        REFUSED = "refused"

    trigger = models.CharField(max_length=8, choices=Trigger)
    as_of = models.DateTimeField(help_text="The moment for which it decided what is due.")
    merchant = models.ForeignKey(Merchant, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(max_length=9, choices=Status, default=Status.RUNNING)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    programs = models.PositiveIntegerField(default=0)
    cards_expired = models.PositiveIntegerField(default=0)
    points_expired = models.PositiveBigIntegerField(default=0)
    warnings = models.PositiveIntegerField(default=0)
    skipped_locked = models.PositiveIntegerField(default=0)
    skipped_exempt = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    failed_card_ids = ArrayField(models.BigIntegerField(), default=list, blank=True)
    without_notice = models.BooleanField(default=False, help_text="The plain rule was applied once.")
    reason = models.CharField(max_length=500, blank=True)
    initiated_by = models.CharField(max_length=150, blank=True)
    error = models.TextField(blank=True)

    objects = ExpirationRunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status="running", finished_at=None) | ~Q(status="running") & Q(finished_at__isnull=False),
                name="expiration_run_ends_when_not_running",
            ),
        ]
        indexes = [
            models.Index(fields=["status"], condition=Q(status="running"), name="expiration_run_running"),
            models.Index(F("started_at").desc(), name="expiration_run_newest"),
        ]
        # The ledger names runs without a foreign key.
        triggers = [pgtrigger.Protect(name="never_deleted", operation=pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"run {self.pk} as of {self.as_of:%Y-%m-%d %H:%M}"
