"""Buttons on a page: each opens a small form that asks why, and calls one verb."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from loyalty.admin.screens import Screen
from loyalty.errors import LoyaltyError
from loyalty.models import Merchant

VERSION = re.compile("[0-9]{1,9}", re.ASCII)


class ReasonForm(forms.Form):
    """Why something is done. Verbs insist on it too."""

    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text="Kept with the change, for whoever asks later.",
    )


@dataclass(frozen=True)
class Outcome:
    """What a verb did, in a sentence, and what to mind about it, if anything.

    A `secret` is shown on the page that answers, and is kept nowhere: not in a message, which waits in a cookie.
    """

    sentence: str
    warning: str = ""
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something a person may do to one thing.

    `perform` takes the thing, the cleaned form, the user's name and the moment. `fits` tells whether the button is
    shown for the thing as it is; `facts` are sentences to know before deciding; `version` is handed to `perform` as
    `seen_version`, so that nobody acts on what has moved meanwhile. `restores` marks what support may do.
    """

    slug: str
    label: str
    intro: str
    permission: str
    perform: Callable[[Any, Mapping[str, Any], str, datetime], Outcome]
    form: type[forms.Form] = ReasonForm
    fits: Callable[[Any], bool] = field(default=lambda thing: True)
    facts: Callable[[Any, datetime], list[str]] = field(default=lambda thing, at: [])
    initial: Callable[[Any], dict[str, Any]] = field(default=lambda thing: {})
    version: Callable[[Any], int | None] = field(default=lambda thing: None)
    restores: bool = False


class WithActions(Screen):
    """A screen whose pages have buttons."""

    page_actions: ClassVar[tuple[Action, ...]] = ()
    change_form_template = "admin/loyalty/with_actions.html"

    def get_urls(self) -> list[URLPattern]:
        pages = [
            path(
                f"<path:object_id>/{action.slug}/",
                self.admin_site.admin_view(partial(self.action_view, action=action)),
                name=self.action_url_name(action),
            )
            for action in self.page_actions
        ]
        return [*pages, *super().get_urls()]

    def action_url_name(self, action: Action) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{action.slug.replace('-', '_')}"

    def may(self, request: HttpRequest, action: Action, thing: Any) -> bool:
        """The permission is the user's; the merchant must be one that they manage, or support for a restore."""
        if not request.user.has_perm(action.permission):
            return False
        if request.user.is_superuser or action.restores:
            return True
        rows = self.model._default_manager.filter(pk=thing.pk)
        return self.of_merchants(rows, Merchant.objects.managed_by(request.user)).exists()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        thing = self.get_object(request, unquote(object_id))
        context = {"buttons": self._buttons(request, thing) if thing else []}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def _buttons(self, request: HttpRequest, thing: Any) -> list[dict[str, str]]:
        return [
            {"label": action.label, "url": reverse(f"admin:{self.action_url_name(action)}", args=[thing.pk])}
            for action in self.page_actions
            if action.fits(thing) and self.may(request, action, thing)
        ]

    def action_view(self, request: HttpRequest, object_id: str, *, action: Action) -> HttpResponse:
        thing = self.get_object(request, unquote(object_id))
        if thing is None:
            raise Http404
        if not self.may(request, action, thing):
            raise PermissionDenied
        if request.method != "POST":
            return self._form_page(request, thing, action, action.form(initial=action.initial(thing)))
        form = action.form(request.POST, request.FILES)
        outcome = self._perform(request, thing, action, form) if form.is_valid() else None
        if outcome is None:
            # Read again: what was refused may have been refused because the thing has moved.
            return self._form_page(request, self.get_object(request, unquote(object_id)), action, form)
        self.log_change(request, thing, f"{action.label}.")
        if outcome.secret:
            return secret_page(self, request, thing, outcome, title=action.label)
        self.message_user(request, outcome.sentence, messages.SUCCESS)
        if outcome.warning:
            self.message_user(request, outcome.warning, messages.WARNING)
        return HttpResponseRedirect(page_of(self, thing))

    def _perform(self, request: HttpRequest, thing: Any, action: Action, form: forms.Form) -> Outcome | None:
        seen = request.POST.get("seen_version", "")
        answers = {**form.cleaned_data, "seen_version": int(seen) if VERSION.fullmatch(seen) else None}
        try:
            return action.perform(thing, answers, request.user.get_username(), timezone.now())
        except LoyaltyError as refusal:
            add_refusal(form, refusal)
            return None

    def _form_page(self, request: HttpRequest, thing: Any, action: Action, form: forms.Form) -> HttpResponse:
        return form_page(
            self,
            request,
            form,
            title=action.label,
            subtitle=str(thing),
            intro=action.intro,
            facts=action.facts(thing, timezone.now()),
            submit=action.label,
            back=page_of(self, thing),
            thing=thing,
            seen_version=action.version(thing),
        )


def page_of(screen: Screen, thing: Any) -> str:
    return reverse(f"admin:{screen.opts.app_label}_{screen.opts.model_name}_change", args=[thing.pk])


def secret_page(screen: Screen, request: HttpRequest, thing: Any, outcome: Outcome, *, title: str) -> HttpResponse:
    """The one page that shows a secret. It answers the form itself: a redirect would have to carry it along."""
    return TemplateResponse(
        request,
        "admin/loyalty/secret_page.html",
        {
            **screen.admin_site.each_context(request),
            "opts": screen.opts,
            "title": title,
            "thing": thing,
            "back": page_of(screen, thing),
            "outcome": outcome,
        },
    )


def form_page(
    screen: Screen,
    request: HttpRequest,
    form: forms.BaseForm,
    template: str = "admin/loyalty/form_page.html",
    **context: Any,
) -> HttpResponse:
    """A page with a few sentences and a form, in the admin's clothes."""
    return TemplateResponse(
        request,
        template,
        {**screen.admin_site.each_context(request), "opts": screen.opts, "form": form, **context},
    )


def add_refusal(form: forms.BaseForm, refusal: LoyaltyError) -> None:
    """Say in the form what a verb refused, beside the field it is about."""
    name = refusal.details.get("field")
    form.add_error(name if name in form.fields else None, refusal.sentence)
