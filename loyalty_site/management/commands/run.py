import contextlib
import signal
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from loyalty_site import demo_data
from loyalty_site.processes import Site, running_site


class Command(BaseCommand):
    help = "Start web, workers, beat and a mail sink on this installation's data; Ctrl-C stops everything."

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        call_command("migrate", verbosity=0)
        if not demo_data.is_seeded():
            self.stdout.write("There is no data yet: replaying the demo's purchases first (a minute).")
            call_command("seed_demo")
        with contextlib.suppress(KeyboardInterrupt), running_site() as site:
            self._start_wallet_platforms(site)
            site.start_web_and_workers()
            site.start_beat()
            self.stdout.write(f"Admin:  {site.address}/admin/    {demo_data.login()}")
            self.stdout.write(f"APIs:   {site.address}/docs")
            self.stdout.write(f"Mails:  {site.mail_folder}/new    Logs: {site.logs}")
            self.stdout.write("Ctrl-C stops everything; the data stays.")
            self.stdout.flush()
            name = site.wait(self._tell)
            raise CommandError(f"{name} has ended; {site.logs / name}.log says why.")
        self.stdout.write("Stopped.")

    def _start_wallet_platforms(self, site: Site) -> None:
        try:
            site.start_wallet_platforms()
        except CommandError as error:
            self._tell(f"{error} The site goes on without them.")

    def _tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
