import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from io import StringIO
from pathlib import Path
from typing import Any

from celery import current_app
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from loyalty.management.commands.replay_purchases import LABELS, shown
from loyalty.models import Card, CardBalance, ExpirationRun, Merchant, Transaction, TransactionType
from loyalty.services import explaining, replaying
from loyalty.services.replaying import Progress
from loyalty_site import demo_data
from loyalty_site.demo_wallet import WalletStory
from loyalty_site.models import JobRun
from loyalty_site.processes import LOCAL, Site, running_site
from loyalty_site.waiting import wait_for
from notifications.models import Message
from notifications.tasks import wake_sender


class Command(BaseCommand):
    help = "Show the main job on 18 months of a real shop's purchases: points, warnings, expiry, giving back, proof."

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # else nobody would end what it starts
        logging.disable(logging.INFO)  # an event per purchase would bury the story
        with current_app.connection_for_write() as broker:
            broker.ensure_connection(max_retries=1, timeout=5)  # before the minutes of the replay
        self._fresh_database()
        shutil.rmtree(LOCAL / "mail", ignore_errors=True)
        shutil.rmtree(LOCAL / "wallet" / "phone", ignore_errors=True)
        with running_site() as site:
            site.start_wallet_platforms()
            site.start_web_and_workers()
            self.say("web, workers and a mail sink are running")
            self._replay()
            site.start_beat()
            run = self._last_night()
            self._mails(site)
            self._story()
            self._give_back(run)
            WalletStory(site, self.stdout, self.say).tell()
            self._prove()
        self._totals(began)

    def say(self, title: str) -> None:
        self.stdout.write(f"\n== {title}")
        self.stdout.flush()

    def _fresh_database(self) -> None:
        """Recreate the embedded database and empty its broker; a database that somebody named must be empty."""
        if os.environ.get("LOYALTY_EMBEDDED_DATABASE"):
            self._recreate()
        elif connection.introspection.table_names():
            raise CommandError("The database of DATABASE_URL is not empty; the demo writes only into an empty one.")
        if os.environ.get("LOYALTY_EMBEDDED_BROKER"):
            # A run of expiry that waits there would act on half a story.
            current_app.control.purge()
        call_command("migrate", verbosity=0)

    def _recreate(self) -> None:
        name = connection.settings_dict["NAME"]
        connection.close()
        with connection._nodb_cursor() as server:
            server.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [name])
            if server.fetchone()[0]:
                raise CommandError("The demo's database is in use; end `make run` or `make shell` first.")
            server.execute(f'DROP DATABASE IF EXISTS "{name}"')
            server.execute(f'CREATE DATABASE "{name}"')

    def _replay(self) -> None:
        self.say("18 months of purchases: every purchase earns, every night warns and expires")
        totals = demo_data.seed(today=timezone.now().date(), clock=timezone.now, progress=self._progress())
        self.stdout.write(
            f"{totals.purchases:,} purchases of {totals.cards:,} customers earned {totals.points_earned:,} points; "
            f"{totals.warnings:,} warnings; {totals.expired_points:,} points expired "
            f"in {totals.expired_cards:,} expiries"
        )

    def _progress(self) -> Callable[[Progress], None]:
        """Show progress, and wake the sender now and then so that mails leave meanwhile."""
        show, last = shown(sys.stderr), time.monotonic()

        def progress(step: Progress) -> None:
            nonlocal last
            show(step)
            if time.monotonic() - last > 3:
                last = time.monotonic()
                wake_sender()

        return progress

    def _last_night(self) -> ExpirationRun:
        self.say("tonight: the ordinary task loyalty.expire_points, done by the worker")
        asked_at = timezone.now()
        current_app.send_task("loyalty_site.heartbeat", queue="default")
        current_app.send_task("loyalty.expire_points", queue="default")
        run = wait_for("the nightly run", lambda: self._finished_run(since=asked_at))
        self.stdout.write(
            f"run {run.pk} {run.status}: Expired {run.cards_expired} cards, {run.points_expired} points, "
            f"{run.warnings} warnings"
        )
        return run

    def _finished_run(self, *, since: datetime) -> ExpirationRun | None:
        return ExpirationRun.objects.counting().filter(started_at__gte=since).first()

    def _mails(self, site: Site) -> None:
        self.say("one of the mails that customers received")
        wake_sender()
        wait_for("the mails", lambda: not Message.objects.waiting().exists())
        sent = Message.objects.filter(status=Message.Status.SENT).count()
        mail = newest_mail(site.mail_folder, kind=Message.Kind.POINTS_EXPIRING)
        body = mail.get_body(("plain",))
        self.stdout.write(
            f"To: {mail['To']}\nSubject: {mail['Subject']}\n\n{body.get_content().strip() if body else ''}"
        )
        self.stdout.write(f"\n({sent:,} mails were handed over, each once)")

    def _story(self) -> None:
        self.say("one customer's story, explained")
        card = told_card()
        story = explaining.explain(merchant=card.program.merchant, card_id=card.pk, at=timezone.now(), movements=12)
        self.stdout.write(f"Card {story.card_number}. {' '.join(story.sentences)}")
        for movement in reversed(story.movements):
            self.stdout.write(
                f"  {movement.happened_on}  {movement.points_delta:>+6,}  = {movement.points_balance_after:>6,}  "
                f"{movement.sentence}"
            )

    def _give_back(self, tonight: ExpirationRun) -> None:
        # A night that took more than a card or two shows better what giving back means.
        run = ExpirationRun.objects.filter(cards_expired__gte=5).order_by("-pk").first() or tonight
        self.say(f"run {run.pk} was a mistake: everything is given back")
        before = points_outstanding()
        for _attempt in ("once", "twice"):
            self.stdout.write(f"$ manage.py restore_expiration_run {run.pk} --reason 'demo'")
            call_command("restore_expiration_run", run.pk, reason="demo", stdout=self.stdout)
        after = points_outstanding()
        self.stdout.write(f"points outstanding: {before:,} + {run.points_expired:,} = {after:,}")
        if after - before != run.points_expired:
            raise CommandError(f"Giving back moved {after - before} points instead of {run.points_expired}.")
        again = StringIO()
        call_command("expire_points", dry_run=True, stdout=again)
        self.stdout.write(f"what tonight's run would take again: {again.getvalue().strip().splitlines()[-1]}")

    def _prove(self) -> None:
        self.say("proof: every balance is what the ledger says, and operations are well")
        current_app.send_task("loyalty.check_ledger", queue="default")
        call_command("check_ledger", stdout=self.stdout)
        wait_for("the mails about it", lambda: not Message.objects.waiting().exists())
        wait_for("the jobs' records", jobs_are_recorded)
        call_command("check_health", stdout=self.stdout)

    def _totals(self, began: float) -> None:
        self.say("totals")
        for name, value in asdict(replaying.totals(Merchant.objects.get(slug=demo_data.SLUG))).items():
            self.stdout.write(f"{LABELS.get(name, name.replace('_', ' ')):<20}{value:>10,}")
        self.stdout.write(f"\nThe demo took {time.monotonic() - began:.0f} seconds. Where to look next:")
        self.stdout.write("  make run      the admin on this data, with worker and beat")
        self.stdout.write("  make shell    manage.py commands on this data: manage.py expire_points --dry-run")
        self.stdout.write("  docs/         quickstart.md, architecture.md, glossary.md")


def newest_mail(folder: Path, *, kind: str) -> EmailMessage:
    """The newest received mail that was sent as a message of this kind."""
    wanted = Message.objects.filter(kind=kind, status=Message.Status.SENT).order_by("-sent_at", "-pk").first()
    if wanted is None:
        raise CommandError("No warning was sent.")
    for path in sorted((folder / "new").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
        mail = message_from_bytes(path.read_bytes(), policy=policy.default)
        if mail["Message-ID"].startswith(f"<message-{wanted.pk}-"):
            return mail
    raise CommandError(f"Message {wanted.pk} was sent and is not in {folder}.")


def told_card() -> Card:
    """A card whose points expired once and that came back afterwards, with not too long a story."""
    expired = Transaction.objects.filter(type=TransactionType.POINTS_EXPIRED).values("card")
    returned = CardBalance.objects.filter(card__in=expired, points_balance__gt=0, last_seq__range=(5, 9))
    cards = Card.objects.select_related("program__merchant").filter(balance__in=returned)
    card = cards.order_by("-balance__last_activity_at", "pk").first()
    if card is None:
        raise CommandError("No customer came back after an expiry.")
    return card


def points_outstanding() -> int:
    return int(CardBalance.objects.aggregate(points=Sum("points_balance", default=0))["points"])


def jobs_are_recorded() -> bool:
    done = JobRun.objects.filter(status=JobRun.Status.SUCCEEDED)
    return all(done.filter(task=task).exists() for task in ("loyalty_site.heartbeat", "loyalty.check_ledger"))
