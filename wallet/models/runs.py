"""What each sync did."""

from django.db import models
from django.db.models import Q

from loyalty.models import Card
from wallet.models.platform import Platform


class SyncRun(models.Model):
    """One look at all passes that lag behind, on every platform."""

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule", "Schedule"
        COMMAND = "command", "Command"

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        SUCCEEDED = "succeeded", "Succeeded"
        PARTIAL = "partial", "Some cards failed"
        SKIPPED = "skipped", "Another run was at it"
        FAILED = "failed", "Failed"

    trigger = models.CharField(max_length=8, choices=Trigger.choices)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.RUNNING)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    initiated_by = models.CharField(max_length=150, blank=True)
    examined = models.PositiveIntegerField(default=0, help_text="Passes that were due.")
    pushed = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0, help_text="They show the same as before.")
    deferred = models.PositiveIntegerField(default=0, help_text="Not tried: the credential or the platform is down.")
    retrying = models.PositiveIntegerField(default=0, help_text="Failed, and will be tried again.")
    dead = models.PositiveIntegerField(default=0, help_text="Failed for good.")
    failed_card_ids = models.JSONField(default=list)
    deferred_card_ids = models.JSONField(default=list, help_text="The first 100.")
    by_platform = models.JSONField(default=dict)
    breaker = models.JSONField(default=dict, help_text="Of each platform whose breaker is open: why.")
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=Q(status="running", finished_at=None) | ~Q(status="running") & Q(finished_at__isnull=False),
                name="sync_run_finished_at_some_moment",
            ),
        ]
        indexes = [models.Index(fields=["-started_at"], name="sync_run_newest")]

    def __str__(self) -> str:
        return f"sync run {self.pk}"


class SyncFailure(models.Model):
    """A card that a run could not show, and why."""

    run = models.ForeignKey(SyncRun, on_delete=models.CASCADE, related_name="failures")
    card = models.ForeignKey(Card, on_delete=models.PROTECT, related_name="+", db_index=False)
    platform = models.CharField(max_length=6, choices=Platform.choices)
    code = models.CharField(max_length=60)
    reason = models.CharField(max_length=500)
    terminal = models.BooleanField(help_text="It is not tried again by itself.")

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["run", "card", "platform"], name="sync_failure_once_per_run"),
        ]

    def __str__(self) -> str:
        return f"{self.get_platform_display()} {self.code}"
