"""What the stages of all runbooks have in common."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from loyalty.models import ExpirationRun
from loyalty.services import expiration
from loyalty_site.models import JobRun
from tests.fakes import celery_process
from tests.wallet.sync_process import wallet_environment

IDLE, NEARLY_IDLE = timedelta(days=200), timedelta(days=170)


@dataclass
class Stage:
    """`values` are what the reader fills in: the placeholders of the page."""

    request: pytest.FixtureRequest
    settings: Any
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    stack: ExitStack
    at: datetime = field(default_factory=timezone.now)
    values: dict[str, str] = field(default_factory=dict)
    between: Callable[[], object] | None = None  # what happens elsewhere before the next command
    before_next: Callable[[], object] | None = None  # what the reader waits for after a command that does not wait

    def fixture(self, name: str) -> Any:
        return self.request.getfixturevalue(name)


Setting = Callable[[Stage], object]
AnySetting = TypeVar("AnySetting", bound=Setting)
STAGES: dict[tuple[str, str], Setting] = {}


def stage(page: str, *headings: str) -> Callable[[AnySetting], AnySetting]:
    def keep(setting: AnySetting) -> AnySetting:
        for heading in headings or ("",):
            STAGES[page, heading] = setting
        return setting

    return keep


def set_the_stage(page: str, heading: str, scene: Stage) -> None:
    setting = STAGES.get((page, heading)) or STAGES.get((page, ""))
    if setting:
        setting(scene)


def well(scene: Stage) -> None:
    """An installation of last year in which every job did what it should."""
    MigrationRecorder.Migration.objects.filter(app="loyalty_site").update(applied=scene.at - timedelta(days=300))
    PeriodicTask.objects.update(last_run_at=scene.at)
    ran("loyalty.check_ledger", scene.at, result={"mismatched_cards": 0})
    ran("loyalty_site.heartbeat", scene.at)
    moment = scene.at - timedelta(hours=1)
    ExpirationRun.objects.create(
        started_at=moment, as_of=moment, finished_at=moment, status="succeeded", trigger="schedule"
    )


def a_worker(scene: Stage) -> None:
    for name, value in wallet_environment().items():
        scene.monkeypatch.setenv(name, value)
    scene.stack.enter_context(celery_process.worker(scene.folder))


def expire(trigger: ExpirationRun.Trigger = ExpirationRun.Trigger.COMMAND) -> expiration.ExpirationReport:
    now = timezone.now()
    return expiration.expire_points(as_of=now, at=now, trigger=trigger)


def ran(task: str, moment: datetime, **changes: Any) -> JobRun:
    fields = {"status": "succeeded", "started_at": moment, "finished_at": moment, "result": {}, **changes}
    return JobRun.objects.create(task=task, task_id=f"{task} {moment}", **fields)
