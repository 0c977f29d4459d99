"""How the installation does, for platform admins."""

from dataclasses import dataclass
from datetime import datetime

from django.urls import path
from django_celery_beat.models import PeriodicTask
from rest_framework import serializers

from loyalty.api.operations import Access, operation
from loyalty.api.views import AdminView, AskedByUser
from loyalty_site.findings import Finding, findings
from loyalty_site.models import JobRun


@dataclass(frozen=True)
class ScheduledTask:
    """An entry of the schedule, and the last run of its task."""

    entry: PeriodicTask
    last_run: JobRun | None


@dataclass(frozen=True)
class Health:
    """What is scheduled, and what somebody has to look at."""

    at: datetime
    tasks: list[ScheduledTask]
    findings: list[Finding]


class JobRunOut(serializers.Serializer[JobRun]):
    """A run of a task."""

    status = serializers.ChoiceField(choices=JobRun.Status.choices)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    result = serializers.JSONField(allow_null=True, help_text="What the task reported.")
    error = serializers.CharField()


class ScheduledTaskOut(serializers.Serializer[ScheduledTask]):
    """An entry of the schedule, and the last run of its task."""

    name = serializers.CharField(source="entry.name")
    task = serializers.CharField(source="entry.task")
    enabled = serializers.BooleanField(source="entry.enabled")
    schedule = serializers.CharField(source="entry.scheduler", help_text="In words.")
    last_run = JobRunOut(allow_null=True)


class FindingOut(serializers.Serializer[Finding]):
    """What somebody has to look at, and what to do."""

    code = serializers.CharField()
    text = serializers.CharField()


class HealthOut(serializers.Serializer[Health]):
    """What is scheduled, and what somebody has to look at."""

    example = {
        "at": "2026-03-31T12:05:00Z",
        "tasks": [
            {
                "name": "loyalty.expire_points",
                "task": "loyalty.expire_points",
                "enabled": True,
                "schedule": "0 2 * * * (m/h/dM/MY/d) UTC",
                "last_run": {
                    "status": "succeeded",
                    "started_at": "2026-03-31T02:00:00Z",
                    "finished_at": "2026-03-31T02:00:04Z",
                    "result": {"cards_expired": 12},
                    "error": "",
                },
            }
        ],
        "findings": [{"code": "outbox_old", "text": "Mail has been waiting for 40 minutes."}],
    }

    at = serializers.DateTimeField()
    tasks = ScheduledTaskOut(many=True)
    findings = FindingOut(many=True)


class Tasks(AdminView):
    @operation(
        name="admin_tasks",
        summary="See how the tasks do",
        answer=HealthOut,
        access=Access.PLATFORM,
    )
    def get(self, asked: AskedByUser) -> Health:
        """Each scheduled task with its last run, and what `manage.py check_health` finds; empty when all is well."""
        newest = {run.task: run for run in JobRun.objects.latest_per_job()}
        entries = PeriodicTask.objects.select_related("crontab", "interval", "solar", "clocked").order_by("name")
        tasks = [ScheduledTask(entry, newest.get(entry.task)) for entry in entries]
        return Health(asked.at, tasks, list(findings(asked.at)))


urlpatterns = [path("tasks", Tasks.as_view())]
