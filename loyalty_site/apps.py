from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class LoyaltySiteConfig(AppConfig):
    name = "loyalty_site"
    verbose_name = "Operations"

    def ready(self) -> None:
        from loyalty_site import checks  # noqa: F401  registers the system checks


class LoyaltyAdminConfig(AdminConfig):
    default_site = "loyalty_site.admin.LoyaltyAdminSite"
