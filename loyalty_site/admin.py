"""The admin site of the platform: its first page, and the menu."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone

from loyalty_site.dashboard import dashboard
from loyalty_site.models import JobRun

# What staff use most comes first. Screens of loyalty and wallet name their heading themselves.
MENU = (
    *("Cards", "Expiry", "Merchants", "Wallet", "Messages", "Operations", "Schedules", "Access", "Records"),
    "Users and groups",
)
HEADINGS = {"notifications": "Messages", "django_celery_beat": "Schedules", "auth": "Users and groups"}


class JobRunAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("id", "task", "status", "started_at", "finished_at", "error")
    list_filter = ("status", "task")
    search_fields = ("task__startswith",)
    search_help_text = "The beginning of a task's name."
    ordering = ("-pk",)
    sortable_by = ()
    show_full_result_count = False
    fields = ("task", "status", "started_at", "finished_at", "result", "error", "worker", "task_id")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: JobRun | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: JobRun | None = None) -> bool:
        return False


class LoyaltyAdminSite(admin.AdminSite):
    site_header = "Loyalty"
    site_title = "Loyalty"
    index_title = "How it stands"
    index_template = "loyalty_site/dashboard.html"
    own_screens: ClassVar = {JobRun: JobRunAdmin}

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        # Not by a decorator: this module is imported while the site is being made.
        for model, screen in self.own_screens.items():
            self.register(model, screen)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        return super().index(request, {**dashboard(request, timezone.now()), **(extra_context or {})})

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """The menu by what people look for, in the order in which they look; an app may have several headings."""
        sections: dict[str, dict[str, Any]] = {}
        for app in super().get_app_list(request, app_label):
            for model in app["models"]:
                heading = self._heading(app, model["model"])
                sections.setdefault(heading, {**app, "name": heading, "models": []})["models"].append(model)
        order = {heading: number for number, heading in enumerate(MENU)}
        return sorted(sections.values(), key=lambda section: (order.get(section["name"], len(order)), section["name"]))

    def _heading(self, app: dict[str, Any], model: type[Any]) -> str:
        return getattr(self._registry[model], "menu", "") or HEADINGS.get(app["app_label"], app["name"])
