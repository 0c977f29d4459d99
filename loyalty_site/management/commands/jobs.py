from datetime import datetime
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError as BrokerError
from redis import RedisError

from loyalty.management.base import FINDING, actor, usage
from loyalty_site.asking import ask_for, known_tasks
from loyalty_site.metrics import broker
from loyalty_site.models import JobRun
from loyalty_site.unreachable import explain_broker

log = structlog.get_logger()


class Command(BaseCommand):
    help = (
        "List the jobs of beat: on or off, when, when each was sent last and how its newest run ended; and how many "
        "tasks wait in each queue. With --off or --on a job is switched first, for the next tick of beat. With --run "
        "a worker is asked to do one now, whether it is on or off. Changes data with --off, --on and --run. Exit "
        "codes: 0 done, 1 the broker does not answer and nothing was sent, 2 usage."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        switch = parser.add_mutually_exclusive_group()
        switch.add_argument("--off", metavar="TASK", help="send it no more, until it is switched on again")
        switch.add_argument("--on", metavar="TASK", help="send it again")
        switch.add_argument("--run", metavar="TASK", help="send it once, now, and do not wait for it")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["run"]:
            self.stdout.write(_run(options["run"]))
            return
        if task := options["off"] or options["on"]:
            _switch(task, enabled=bool(options["on"]))
        now = timezone.now()
        self.stdout.write(f"It is {now:%Y-%m-%d %H:%M:%S} UTC.")
        newest = {run.task: run for run in JobRun.objects.latest_per_job()}
        for entry in PeriodicTask.objects.select_related("crontab", "interval").order_by("name"):
            self.stdout.write(_line(entry, newest.get(entry.task)))
        self.stdout.write(_waiting(now))


def _switch(task: str, *, enabled: bool) -> None:
    entries = list(PeriodicTask.objects.filter(task=task))
    if not entries:
        raise usage(f"There is no job {task!a}; manage.py jobs lists them.")
    for entry in entries:
        entry.enabled = enabled
        entry.save()
    log.warning("loyalty_site.job_switched", job=task, enabled=enabled, actor=actor())


def _run(task: str) -> str:
    if task not in known_tasks():
        raise usage(f"There is no task {task!a}. There are: {', '.join(known_tasks())}.")
    try:
        queue = ask_for(task)
    except BrokerError as error:
        raise CommandError(f"Nothing was sent. {explain_broker(error)}", returncode=FINDING) from None
    return f"Sent {task} to the queue {queue}. Its line in manage.py jobs says how it ended, once a worker has done it."


def _line(entry: PeriodicTask, run: JobRun | None) -> str:
    state = "on" if entry.enabled else "OFF"
    sent = f"sent {entry.last_run_at:%Y-%m-%d %H:%M:%S}" if entry.last_run_at else "never sent"
    return f"{entry.name:<30} {state:<3}  {_when(entry):<16}  {sent:<24}  {_ended(run)}"


def _when(entry: PeriodicTask) -> str:
    if entry.crontab and entry.crontab.hour.isdigit() and entry.crontab.minute.isdigit():
        return f"{int(entry.crontab.hour):02}:{int(entry.crontab.minute):02} {entry.crontab.timezone}"
    return str(entry.crontab or entry.interval or entry.scheduler)


def _ended(run: JobRun | None) -> str:
    if run is None:
        return "has not run yet"
    if run.finished_at is None:
        return f"running since {run.started_at:%Y-%m-%d %H:%M:%S} UTC"
    seconds = (run.finished_at - run.started_at).total_seconds()
    error = f": {run.error}" if run.error else ""
    return f"{run.status} {run.finished_at:%Y-%m-%d %H:%M:%S} UTC after {seconds:.1f} s{error}"


def _waiting(at: datetime) -> str:
    try:
        read = [reading for reading in broker.broker(at) if reading.state is broker.LENGTH]
    except RedisError as error:
        return f"The broker does not answer: {error}"
    return f"Tasks that wait: {', '.join(f'{reading.labels[0]} {int(reading.value)}' for reading in read)}"
