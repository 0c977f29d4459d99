import time
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from django.db.migrations import Migration
from psycopg.errors import LockNotAvailable

from loyalty_site.backup import unproven

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 2.0


class Command(migrate.Command):
    help = (
        "Bring the database to the state of this release. A migration that waits for a table in use gives up after "
        "DATABASE_MIGRATION_LOCK_TIMEOUT_MS, because tills queue up behind it, and is tried again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check_unapplied"] and unproven.is_marked():
            raise CommandError(unproven.SENTENCE)
        self._connection = connections[options["database"]]
        self._current = "a migration"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                super().handle(*args, **options)
                return
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise
                if attempt == ATTEMPTS:
                    raise CommandError(
                        f"{self._current} found its table in use {ATTEMPTS} times and changed nothing. Look who holds "
                        "it in pg_stat_activity, or come back at a quieter hour."
                    ) from None
                self._pause(attempt)
            finally:
                self._wait_for_locks(None)

    def migration_progress_callback(self, action: str, migration: Any = None, fake: bool = False) -> None:
        super().migration_progress_callback(action, migration, fake)
        if action in ("apply_start", "unapply_start"):
            self._current = str(migration)
            self._wait_for_locks(migration)

    def _wait_for_locks(self, migration: Migration | None) -> None:
        """Set how long this session waits for a lock. A migration without a transaction, which builds an index beside
        running tills, holds up nobody while it waits, and would leave a broken index behind when it gave up.
        """
        if self._connection.vendor != "postgresql":
            return
        with self._connection.cursor() as cursor:
            if migration and migration.atomic:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [self._lock_timeout()])
            else:
                cursor.execute("SET lock_timeout TO DEFAULT")

    @staticmethod
    def _lock_timeout() -> str:
        return f"{settings.DATABASE_MIGRATION_LOCK_TIMEOUT_MS}ms"

    def _pause(self, attempt: int) -> None:
        seconds = FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)
        self.stderr.write(f"{self._current} found its table in use; trying again in {seconds:.0f} seconds.")
        time.sleep(seconds)
