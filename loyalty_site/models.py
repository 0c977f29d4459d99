from __future__ import annotations

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q


class JobRunQuerySet(models.QuerySet["JobRun"]):
    def last_success(self, task: str) -> JobRun | None:
        return self.filter(task=task, status=JobRun.Status.SUCCEEDED).order_by("-finished_at").first()

    def latest_per_job(self) -> JobRunQuerySet:
        """The newest run of each task, by name."""
        return self.order_by("task", "-pk").distinct("task")

    def beyond_newest(self, kept: int, *, task: str, status: str) -> JobRunQuerySet:
        """Runs of `task` that ended in `status` (or still run), but for the newest `kept`."""
        of_a_kind = self.filter(task=task, status=status)
        boundary = of_a_kind.order_by("-pk").values("pk")[kept : kept + 1]
        return of_a_kind.filter(pk__lte=models.Subquery(boundary))


class JobRun(models.Model):
    """One run of a background task: when it was, how it ended and what it reported.

    A message that is delivered twice, or tried again, is one run that starts again.
    """

    class Status(models.TextChoices):
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    task = models.CharField(max_length=100)
    task_id = models.CharField(max_length=64, unique=True)
    status = models.CharField(max_length=9, choices=Status)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True, encoder=DjangoJSONEncoder)
    error = models.CharField(max_length=300, blank=True)
    worker = models.CharField(max_length=255, blank=True)

    objects = JobRunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status="running", finished_at=None) | ~Q(status="running") & Q(finished_at__isnull=False),
                name="job_run_ends_when_not_running",
            ),
        ]
        indexes = [models.Index(fields=["task", "status", "-id"], name="job_run_newest")]

    def __str__(self) -> str:
        return f"{self.task} {self.status}"
