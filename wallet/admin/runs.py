"""Sync runs, the cards that each could not show, and what phones complained about."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from loyalty.admin.screens import counted, link_to, minute_of
from loyalty.models import Card
from wallet.admin.platform import ForPlatformAdmins
from wallet.models import DeviceLog, Platform, SyncFailure, SyncRun

SHOWN_AT_MOST = 100
FIGURES = ("examined", "pushed", "unchanged", "deferred", "retrying", "dead")
LANES = {
    "ran": "worked through",
    "open": "calls rest",
    "busy": "left to another run",
    "off": "switched off",
}


class WorkFilter(admin.SimpleListFilter):
    """There is a run each minute, and most find nothing to do."""

    title = "work"
    parameter_name = "work"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("some", "Had something to do")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[SyncRun]) -> QuerySet[SyncRun]:
        return queryset.filter(Q(examined__gt=0) | Q(deferred__gt=0)) if self.value() else queryset


@admin.register(SyncRun)
class SyncRunAdmin(ForPlatformAdmins):
    change_form_template = "admin/wallet/syncrun/change_form.html"
    list_display = ("id", "started", "state", "examined", "told", "deferred", "given_up", "failed_cards")
    list_filter = (WorkFilter, "status", "trigger")
    fields = ("state", "trigger", "initiated_by", "started", "took", "problem")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self.get_object(request, unquote(object_id))
        context = _context(run) if run else {}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    @admin.display(description="started (UTC)")
    def started(self, run: SyncRun) -> str:
        return minute_of(run.started_at)

    @admin.display(description="status")
    def state(self, run: SyncRun) -> SafeString:
        told = format_html('<span class="status {}">{}</span>', run.status, run.get_status_display())
        return format_html('{}; <span class="status failed">calls rest</span>', told) if _calls_rest(run) else told

    @admin.display(description="told")
    def told(self, run: SyncRun) -> str:
        return f"{run.pushed:,}"

    @admin.display(description="given up")
    def given_up(self, run: SyncRun) -> str:
        return f"{run.dead:,}"

    @admin.display(description="took")
    def took(self, run: SyncRun) -> str:
        if run.finished_at is None:
            return "still running"
        return f"{max(0.0, (run.finished_at - run.started_at).total_seconds()):,.1f} seconds"

    @admin.display(description="failed cards")
    def failed_cards(self, run: SyncRun) -> str:
        return f"{len(run.failed_card_ids):,}"

    @admin.display(description="problem")
    def problem(self, run: SyncRun) -> str:
        return run.error or _most_frequent_failure(run) or (_why_calls_rest(run) if _calls_rest(run) else "none")


def _calls_rest(run: SyncRun) -> bool:
    """The run did what it could; it could not try all passes."""
    return run.deferred > 0 and bool(run.breaker)


def _why_calls_rest(run: SyncRun) -> str:
    codes = ", ".join(f"{_label(name)}, {told['code']}" for name, told in run.breaker.items())
    return f"Calls rest ({codes})."


def _most_frequent_failure(run: SyncRun) -> str:
    failures = SyncFailure.objects.filter(run=run).order_by().values("code").annotate(times=Count("pk"))
    by_code = list(failures.order_by("-times", "code").values_list("code", "times"))
    if not by_code:
        return ""
    code, times = by_code[0]
    return f"{code} ({times:,} of {counted(sum(number for _, number in by_code), 'failure')})"


def _context(run: SyncRun) -> dict[str, Any]:
    """What a run says beside its own figures: by platform, why calls rested, and which cards are concerned."""
    failures = SyncFailure.objects.filter(run=run).select_related("card").order_by("pk")
    return {
        "platforms": [_platform(name, figures) for name, figures in run.by_platform.items()],
        "total": [f"{getattr(run, figure):,}" for figure in FIGURES],
        "breakers": [_breaker(name, told) for name, told in run.breaker.items()],
        "failures": [_failure(failure) for failure in failures[:SHOWN_AT_MOST]],
        "failures_url": f"{reverse('admin:wallet_syncfailure_changelist')}?run={run.pk}",
        "failed": counted(len(run.failed_card_ids), "card"),
        "deferred_cards": _cards(run.deferred_card_ids),
        "more_deferred": run.deferred > len(run.deferred_card_ids),
    }


def _platform(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": _label(name),
        "status": LANES.get(figures.get("status", ""), ""),
        "figures": [f"{figures.get(figure, 0):,}" for figure in FIGURES],
    }


def _breaker(name: str, told: dict[str, Any]) -> dict[str, Any]:
    return {"name": _label(name), **told}


def _label(name: str) -> str:
    return dict(Platform.choices).get(name, name)


def _failure(failure: SyncFailure) -> dict[str, Any]:
    return {
        "card": link_to(failure.card),
        "platform": failure.get_platform_display(),
        "code": failure.code,
        "reason": failure.reason,
        "what_follows": _what_follows(failure),
    }


def _what_follows(failure: SyncFailure) -> str:
    return "given up" if failure.terminal else "tried again"


def _cards(ids: list[int]) -> SafeString:
    cards = Card.objects.filter(pk__in=ids[:SHOWN_AT_MOST]).order_by("pk")
    return format_html_join(", ", "{}", ((link_to(card),) for card in cards))


@admin.register(SyncFailure)
class SyncFailureAdmin(ForPlatformAdmins):
    """All failures of a run that has too many for its own page, which leads here; the menu does not."""

    list_display = ("id", "run_link", "card_link", "platform", "code", "reason", "what_follows")
    list_select_related = ("run", "card")
    list_filter = ("platform", "terminal")
    fields = list_display[1:]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup == "run" or super().lookup_allowed(lookup, value, request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.display(description="run")
    def run_link(self, failure: SyncFailure) -> SafeString | str:
        return link_to(failure.run)

    @admin.display(description="card")
    def card_link(self, failure: SyncFailure) -> SafeString | str:
        return link_to(failure.card)

    @admin.display(description="what follows")
    def what_follows(self, failure: SyncFailure) -> str:
        return _what_follows(failure)


@admin.register(DeviceLog)
class DeviceLogAdmin(ForPlatformAdmins):
    list_display = ("received", "text")
    fields = list_display

    @admin.display(description="received (UTC)")
    def received(self, line: DeviceLog) -> str:
        return minute_of(line.received_at)
