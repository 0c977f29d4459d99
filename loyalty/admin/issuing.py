"""Screens that hand out secrets: keys of tills and programs, PINs of staff."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from loyalty.admin.actions import Outcome, WithActions, add_refusal, form_page, secret_page
from loyalty.errors import LoyaltyError


class Issuing(WithActions):
    """A screen whose "Add" hands out a secret and shows it once."""

    issued_fields: ClassVar[tuple[str, ...]]
    issue_title: ClassVar[str]
    issue_intro: ClassVar[str]

    def issue(self, request: HttpRequest, answers: Mapping[str, Any], at: datetime) -> tuple[Model, Outcome]:
        """Call the verb. Returns what was made, and the secret in an outcome."""
        raise NotImplementedError

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else [(None, {"fields": self.issued_fields})]

    @method_decorator(sensitive_post_parameters("pin"))
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.get_form(request)(request.POST if request.method == "POST" else None)
        issued = self._issue(request, form) if form.is_valid() else None
        if issued is not None:
            thing, outcome = issued
            self.log_addition(request, thing, "Issued.")
            return secret_page(self, request, thing, outcome, title=self.issue_title)
        return form_page(
            self,
            request,
            form,
            template="admin/loyalty/issue_page.html",
            title=self.issue_title,
            intro=self.issue_intro,
            submit="Issue",
            back=reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
            media=self.media + form.media,
        )

    def _issue(self, request: HttpRequest, form: Any) -> tuple[Model, Outcome] | None:
        try:
            return self.issue(request, form.cleaned_data, timezone.now())
        except LoyaltyError as refusal:
            add_refusal(form, refusal)
            return None
