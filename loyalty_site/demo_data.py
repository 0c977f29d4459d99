"""What the demo shows: a real shop's purchases, moved so that the last one was yesterday."""

import secrets
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model

from loyalty.models import Merchant, Reward
from loyalty.services import replaying
from loyalty.services.replaying import Progress, ReplayPlan, ReplayTotals

SAMPLE = Path(settings.BASE_DIR) / "loyalty_site" / "data" / "cdnow_sample.csv"
PASSWORD_FILE = Path(settings.BASE_DIR) / ".local" / "admin-password"
SLUG, ADMIN = "cdnow", "admin"


def seed(*, today: date, clock: Callable[[], datetime], progress: Callable[[Progress], None]) -> ReplayTotals:
    """Replay the sample up to yesterday's purchases, and add rewards and the admin's login.

    The night that follows is left to the ordinary task. Raises what `replaying.replay_purchases` does.
    """
    yesterday = today - timedelta(days=1)
    plan = ReplayPlan(
        path=SAMPLE,
        slug=SLUG,
        name="CDNOW",
        points_per_unit=Decimal(1),
        expiration_days=180,
        warning_days=14,
        last_day=yesterday,
        until=yesterday,
        email_domain="example.com",
    )
    totals = replaying.replay_purchases(plan=plan, today=today, clock=clock, progress=progress)
    merchant = Merchant.objects.get(slug=SLUG)
    Reward.objects.bulk_create(
        Reward(program=merchant.program, name=name, points_cost=cost, stock=stock)
        for name, cost, stock in (("Single", 50, None), ("Album", 150, 200), ("Box set", 500, 12))
    )
    create_admin()
    return totals


def is_seeded() -> bool:
    return Merchant.objects.filter(slug=SLUG).exists()


def create_admin() -> None:
    """Create the admin's login with a password of this machine's own, kept beside the data."""
    password = secrets.token_urlsafe(9)
    get_user_model().objects.create_superuser(ADMIN, "admin@example.com", password)
    PASSWORD_FILE.parent.mkdir(exist_ok=True)
    PASSWORD_FILE.touch(mode=0o600)
    PASSWORD_FILE.write_text(password)


def login() -> str:
    """The admin's login in words."""
    try:
        return f"{ADMIN} / {PASSWORD_FILE.read_text()}"
    except OSError:
        return f"{ADMIN} (set a password with: manage.py changepassword {ADMIN})"
