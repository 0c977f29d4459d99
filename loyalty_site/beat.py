"""Celery's beat for this platform: any number may run, one of them sends, and PostgreSQL is its whole memory.

The schedule is read afresh on every tick. So what staff edit counts at once and is never overwritten, a job missed
while every beat was down is sent late, and a beat that takes over knows what its predecessor sent. A job is sent at
least once: a beat that is killed between sending and writing it down leaves the job to be sent again.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import structlog
from celery.beat import SchedulingError
from celery.schedules import schedstate
from django.db import DatabaseError, InterfaceError, connection
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from kombu.exceptions import OperationalError as BrokerError

from loyalty_site.unreachable import first_line

log = structlog.get_logger()

DATABASE_AWAY = (DatabaseError, InterfaceError)
LOCK_KEY = int.from_bytes(b"loy-beat")

# A leader whose host vanishes says no goodbye; both ends notice within half a minute instead of hours.
KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
SERVER_KEEPALIVES = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"


class Leadership:
    """A lock that at most one beat holds, for as long as the connection lives that took it.

    It needs a connection straight to PostgreSQL: a pooler would hand the locked session to others.
    """

    def __init__(self) -> None:
        self._session: psycopg.Connection[Any] | None = None
        self._held = False
        self._waits = False

    def acquire(self) -> bool:
        """Keep the lock or try to take it, over a new connection when there is none."""
        if self._session is None:
            try:
                self._session = _connect()
            except psycopg.Error as error:
                log.warning("loyalty_site.beat_database_lost", reason=first_line(error))
                return False
        return self.confirm()

    def confirm(self) -> bool:
        """Whether this beat leads now, and has led without a break if it did before: no new connection is made."""
        held = self._session is not None and self._locked(self._session)
        if held and not self._held:
            log.info("loyalty_site.leadership_gained")
        self._held = held
        self._tell_of_waiting()
        return held

    def release(self) -> None:
        """Let another beat lead."""
        session, self._session = self._session, None
        if session is not None:
            session.close()
        if self._held:
            log.info("loyalty_site.leadership_lost")
        self._held = False

    def _tell_of_waiting(self) -> None:
        """Say once that another beat leads, until this one has led."""
        waits = not self._held and (self._waits or self._session is not None)
        if waits and not self._waits:
            log.info("loyalty_site.leadership_awaited")
        self._waits = waits

    def _locked(self, session: psycopg.Connection[Any]) -> bool:
        try:
            # The session that holds the lock already gets it again.
            row = session.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone()
        except psycopg.Error:
            self.release()
            return False
        return row is not None and bool(row[0])


def _connect() -> psycopg.Connection[Any]:
    parameters = {**connection.get_connection_params(), **KEEPALIVES}
    session: psycopg.Connection[Any] = psycopg.connect(**parameters, autocommit=True)
    session.execute(SERVER_KEEPALIVES)
    return session


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put a request to end off: between sending and writing it down, it would leave the job to be sent again."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ScheduleRow(ModelEntry):  # type: ignore[misc]
    """A row of the schedule. Of the row it writes only what staff cannot edit."""

    last_run_at: datetime

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        super().__init__(model, app=app)
        now = self._default_now()
        if self.last_run_at > now:
            self._repair(now)

    def _repair(self, now: datetime) -> None:
        """A clock that was once ahead would silence the job until that time comes."""
        log.warning("loyalty_site.last_run_repaired", job=self.name, was=self.last_run_at.isoformat())
        self.last_run_at = self.model.last_run_at = now
        self._update(self.model, last_run_at=now)

    def is_due(self) -> schedstate:
        if self.model.one_off and self.total_run_count:
            self._disable(self.model)
        return super().is_due()

    def save(self) -> None:
        self._update(self.model, last_run_at=self.last_run_at, total_run_count=self.total_run_count)

    def _disable(self, model: PeriodicTask) -> None:
        model.enabled = False
        self._update(model, enabled=False, last_run_at=None, total_run_count=0)

    def _update(self, model: PeriodicTask, **changes: Any) -> None:
        # Staff may have switched the row off a moment ago; such a row keeps no last run.
        PeriodicTask.objects.filter(pk=model.pk, enabled=True).update(**changes)


class LeaderScheduler(DatabaseScheduler):  # type: ignore[misc]
    """Sends what is due while it leads, and waits for the leader to fall while it does not."""

    Entry = ScheduleRow

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.leadership = Leadership()
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """The rows are the schedule: nothing comes from settings, and there is no result backend to clean."""

    def sync(self) -> None:
        """Nothing waits to be written: each job is written down as it is sent."""

    @property
    def schedule(self) -> dict[str, ScheduleRow]:
        """What is switched on, as the database has it now."""
        entries = {}
        for row in PeriodicTask.objects.filter(enabled=True).select_related("interval", "crontab", "solar", "clocked"):
            try:
                entries[row.name] = ScheduleRow(row, app=self.app)
            except DATABASE_AWAY:
                raise
            except Exception as error:  # noqa: BLE001  one unreadable row must not stop the others
                log.error("loyalty_site.schedule_refused", job=row.name, reason=repr(error))
        return entries

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due, if this beat leads. Returns the seconds until the next look."""
        with _undisturbed():
            return self._look() if self.leadership.acquire() else float(self.max_interval)

    def _look(self) -> float:
        try:
            waits = [self._wait_or_send(entry) for entry in self.schedule.values()]
        except DATABASE_AWAY as error:
            log.warning("loyalty_site.beat_database_lost", reason=first_line(error))
            connection.close()  # the next tick makes a new one
            waits = []
        return max(0.0, min([float(self.max_interval), *waits]))

    def _wait_or_send(self, entry: ScheduleRow) -> float:
        try:
            due, wait = entry.is_due()
        except DATABASE_AWAY:
            raise
        except Exception as error:  # noqa: BLE001  one entry without a next time must not stop the others
            log.error("loyalty_site.schedule_refused", job=entry.name, reason=repr(error))
            return float(self.max_interval)
        if due and self.leadership.confirm():
            self._send(entry)
        return float(wait)

    def _send(self, entry: ScheduleRow) -> None:
        sent = next(entry)
        try:
            self.apply_async(entry, producer=self.producer, advance=False)
        except (BrokerError, SchedulingError) as error:
            if isinstance(error, BrokerError) or isinstance(error.__context__, BrokerError):
                # The job stays due. Another beat may reach the broker where this one does not.
                log.warning("loyalty_site.job_delayed", job=entry.name, reason="the broker does not answer")
                self.close()
                return
            log.error("loyalty_site.job_refused", job=entry.name, reason=str(error))
        else:
            log.info("loyalty_site.job_sent", job=entry.name)
        sent.save()

    def _ensure_connected(self) -> Any:
        # Celery would retry for most of an hour, deaf to everything else.
        return self.connection.ensure_connection(max_retries=1, interval_start=0)

    def close(self) -> None:
        """Let go of the broker and of the lead; the next tick takes both up again."""
        super().close()
        self.leadership.release()
