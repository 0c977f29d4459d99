from typing import Any

from django.apps import AppConfig
from django.apps import apps as installed_apps
from django.apps.registry import Apps
from django.conf import settings
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate

from loyalty_site.schedules import install_schedules


class LoyaltySiteConfig(AppConfig):
    name = "loyalty_site"
    verbose_name = "Operations"

    def ready(self) -> None:
        from loyalty_site import checks, jobs, pinging, restored, starting  # noqa: F401  register checks and signals

        if settings.SENTRY_DSN:
            from loyalty_site import error_reports  # its SDK takes time to load that others need not spend

            error_reports.start(settings.SENTRY_DSN, release=settings.API_VERSION)
        post_migrate.connect(after_migrate, sender=self)


class LoyaltyAdminConfig(AdminConfig):
    default_site = "loyalty_site.admin.LoyaltyAdminSite"


def after_migrate(*, apps: Apps = installed_apps, **_: Any) -> None:
    """Entries that came with this release, and all of them after a `flush`, which empties their tables."""
    try:
        apps.get_model("django_celery_beat", "PeriodicTask")
    except LookupError:  # migrated to a state that has no schedule
        return
    install_schedules(apps)
