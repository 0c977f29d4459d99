"""Expiration runs: what each did, trying one out, starting one, and giving one back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from loyalty.admin.actions import Action, Outcome, WithActions, form_page
from loyalty.admin.screens import MerchantFilter, ViewOnly, counted, day_of, link_to, minute_of
from loyalty.models import Card, ExemptionChange, ExpirationRun, Merchant, Transaction
from loyalty.services import expiration, restoring
from loyalty.services.expiration import ExpirationReport
from loyalty.services.guarding import Refusal

CARDS_NAMED = 100


class DryRunForm(forms.Form):
    merchant = forms.ModelChoiceField(Merchant.objects.none())
    confirmed_cards = forms.IntegerField(
        label="Confirmed cards",
        min_value=0,
        max_value=2_000_000_000,
        required=False,
        help_text="Only after a refusal: the number of cards that it named.",
    )
    without_notice = forms.BooleanField(
        label="Without notice",
        required=False,
        help_text="Applies the plain rule once: whatever is older than the limit goes, warned or not. "
        "Days that were promised in a warning are kept.",
    )


class RunForm(DryRunForm):
    reason = forms.CharField(
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text="Needed for a run without notice; kept with the run.",
    )

    def clean(self) -> None:
        super().clean()
        if self.cleaned_data.get("without_notice") and not self.cleaned_data.get("reason"):
            self.add_error("reason", "Please say why points go without a notice.")


def give_back(run: ExpirationRun, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    report = restoring.restore_expiration_run(run_id=run.pk, reason=answers["reason"], actor=actor, at=at)
    points, cards = counted(report.restored_points, "point"), counted(report.restored_cards, "card")
    sentence = f"Gave {points} back to {cards}."
    if report.already_restored_card_ids:
        sentence += f" {counted(len(report.already_restored_card_ids), 'card')} had theirs back already."
    if not report.skipped_card_ids:
        return Outcome(sentence)
    numbers = Card.objects.filter(pk__in=report.skipped_card_ids[:CARDS_NAMED]).values_list("card_number", flat=True)
    skipped = counted(len(report.skipped_card_ids), "card")
    return Outcome(sentence, f"{skipped} got nothing, being closed, merged or erased: {', '.join(numbers)}")


def what_it_took(run: ExpirationRun, at: datetime) -> list[str]:
    facts = [f"The run took {counted(run.points_expired, 'point')} from {counted(run.cards_expired, 'card')}."]
    given_back = _given_back(run)
    if given_back:
        facts.append(f"{counted(given_back, 'card')} got theirs back already, and no more now.")
    if run.cards_expired > 5000:
        facts.append(f"For so many cards, use the command: manage.py restore_expiration_run {run.pk} --reason ...")
    return facts


def _given_back(run: ExpirationRun) -> int:
    return Transaction.objects.filter(reverses__expiration_run=run, reverses_in_full=True).count()


GIVE_BACK = Action(
    slug="give-back",
    label="Give everything back",
    intro="Restores the points of every card that this run expired, once per card. Doing it again changes nothing.",
    permission="loyalty.change_expirationrun",
    perform=give_back,
    fits=lambda run: run.cards_expired > 0 and run.status != ExpirationRun.Status.RUNNING,
    facts=what_it_took,
    restores=True,
)
MAY_START = "loyalty.add_expirationrun"


@admin.register(ExpirationRun)
class ExpirationRunAdmin(WithActions, ViewOnly):
    menu = "Expiry"
    page_actions = (GIVE_BACK,)
    change_list_template = "admin/loyalty/expirationrun/change_list.html"
    list_display = (
        *("id", "started", "trigger", "whose", "status", "cards", "points", "warned"),
        *("exempt", "locked", "failed"),
    )
    list_select_related = ("merchant",)
    list_filter = ("status", "trigger", MerchantFilter)
    fieldsets = (
        (None, {"fields": ("status", "whose", "trigger", "initiated_by", "notice", "reason")}),
        ("When", {"fields": ("as_of", "started_at", "finished_at", "took")}),
        (
            "What it did",
            {
                "fields": (
                    *("cards_expired_link", "points", "given_back", "warned"),
                    *("programs", "exempt", "locked", "failed_cards", "problems"),
                )
            },
        ),
    )

    @admin.display(description="started (UTC)")
    def started(self, run: ExpirationRun) -> str:
        return minute_of(run.started_at)

    @admin.display(description="notice")
    def notice(self, run: ExpirationRun) -> str:
        return "not needed: the plain rule was applied once" if run.without_notice else "as the programs require"

    @admin.display(description="exempt")
    def exempt(self, run: ExpirationRun) -> str:
        return f"{run.skipped_exempt:,}"

    @admin.display(description="in use")
    def locked(self, run: ExpirationRun) -> str:
        return f"{run.skipped_locked:,}"

    @admin.display(description="merchant")
    def whose(self, run: ExpirationRun) -> str:
        return run.merchant.name if run.merchant else "all"

    @admin.display(description="cards")
    def cards(self, run: ExpirationRun) -> str:
        return f"{run.cards_expired:,}"

    @admin.display(description="points")
    def points(self, run: ExpirationRun) -> str:
        return f"{run.points_expired:,}"

    @admin.display(description="warnings")
    def warned(self, run: ExpirationRun) -> str:
        return f"{run.warnings:,}"

    @admin.display(description="took")
    def took(self, run: ExpirationRun) -> str:
        if run.finished_at is None:
            return "still running"
        return f"{max(0.0, (run.finished_at - run.started_at).total_seconds()):,.1f} seconds"

    @admin.display(description="cards expired")
    def cards_expired_link(self, run: ExpirationRun) -> SafeString | str:
        if not run.cards_expired:
            return "0"
        rows = reverse("admin:loyalty_transaction_changelist")
        return format_html('<a href="{}?expiration_run={}">{}</a>', rows, run.pk, f"{run.cards_expired:,}")

    @admin.display(description="given back")
    def given_back(self, run: ExpirationRun) -> str:
        return f"to {counted(_given_back(run), 'card')}"

    @admin.display(description="failed cards")
    def failed_cards(self, run: ExpirationRun) -> SafeString | str:
        cards = Card.objects.filter(pk__in=run.failed_card_ids[:CARDS_NAMED]).order_by("pk")
        return format_html_join(", ", "{}", ((link_to(card),) for card in cards)) or "none"

    @admin.display(description="problems")
    def problems(self, run: ExpirationRun) -> SafeString | str:
        return format_html_join("\n", "<div>{}</div>", ((line,) for line in run.error.splitlines())) or "none"

    def get_urls(self) -> list[URLPattern]:
        pages = [
            path("dry-run/", self.admin_site.admin_view(self.dry_run_view), name="loyalty_expirationrun_dry_run"),
            path("start/", self.admin_site.admin_view(self.start_view), name="loyalty_expirationrun_start"),
        ]
        return [*pages, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"may_start": request.user.has_perm(MAY_START), **(extra_context or {})}
        return super().changelist_view(request, context)

    def dry_run_view(self, request: HttpRequest) -> HttpResponse:
        """Reads only, so the form is sent as a query and the result is a page with an address."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = DryRunForm(request.GET or None)
        self._offer(form, Merchant.objects.readable_by(request.user))
        if request.user.is_superuser:
            form.fields["merchant"].required = False
            form.fields["merchant"].empty_label = "All merchants"  # type: ignore[attr-defined]
        report = self._preview(form) if form.is_valid() else None
        return form_page(
            self,
            request,
            form,
            template="admin/loyalty/expirationrun/dry_run.html",
            title="Dry run",
            intro="Shows what a run would do at this moment. Nothing is written, nobody is told.",
            submit="Show",
            method="get",
            back=reverse("admin:loyalty_expirationrun_changelist"),
            report=report,
            figures=_figures(report) if report else [],
            past_limit=_past_limit(report) if report else "",
            refusals=self._with_ids(report) if report else [],
            may_start=request.user.has_perm(MAY_START),
        )

    def _offer(self, form: forms.Form, merchants: QuerySet[Merchant]) -> None:
        form.fields["merchant"].queryset = merchants.order_by("name")  # type: ignore[attr-defined]

    def _with_ids(self, report: ExpirationReport) -> list[tuple[Refusal, int]]:
        """Refusals of a merchant, with the merchant's id for a link."""
        slugs = [refusal.merchant for refusal in report.refusals]
        ids = dict(Merchant.objects.filter(slug__in=slugs).values_list("slug", "pk"))
        return [(refusal, ids[refusal.merchant]) for refusal in report.refusals]

    def _preview(self, form: DryRunForm) -> ExpirationReport:
        answers = form.cleaned_data
        return expiration.preview_expiration(
            as_of=timezone.now(),
            merchant=answers["merchant"],
            confirmed_cards=answers["confirmed_cards"] or 0,
            without_notice=answers["without_notice"],
        )

    def start_view(self, request: HttpRequest) -> HttpResponse:
        if not request.user.has_perm(MAY_START):
            raise PermissionDenied
        form = RunForm(request.POST) if request.method == "POST" else RunForm(initial=request.GET.dict())
        self._offer(form, Merchant.objects.managed_by(request.user))
        if form.is_bound and form.is_valid():
            return self._start(request, form)
        return form_page(
            self,
            request,
            form,
            title="Run for one merchant",
            intro="Warns and expires what is due for this merchant, now, while you wait. "
            "All merchants together are run by the schedule, every night.",
            submit="Run",
            back=reverse("admin:loyalty_expirationrun_changelist"),
        )

    def _start(self, request: HttpRequest, form: RunForm) -> HttpResponse:
        answers = form.cleaned_data
        now = timezone.now()
        report = expiration.expire_points(
            as_of=now,
            at=now,
            trigger=ExpirationRun.Trigger.ADMIN,
            merchant=answers["merchant"],
            initiated_by=request.user.get_username(),
            confirmed_cards=answers["confirmed_cards"] or 0,
            without_notice=answers["without_notice"],
            reason=answers["reason"],
        )
        for refusal in report.refusals:
            self.message_user(request, refusal.sentence, messages.ERROR)
        if not report.refusals:
            went_well = report.status == ExpirationRun.Status.SUCCEEDED
            self.message_user(request, f"{report.sentence}.", messages.SUCCESS if went_well else messages.WARNING)
        return HttpResponseRedirect(reverse("admin:loyalty_expirationrun_change", args=[report.run_id]))


def _figures(report: ExpirationReport) -> list[tuple[str, str, str]]:
    would = report.tally
    return [
        ("expire", f"{would.cards_expired:,}", "cards"),
        ("take", f"{would.points_expired:,}", "points"),
        ("warn", f"{would.warnings:,}", "customers"),
        ("leave alone, being exempt or not active", f"{would.skipped_exempt:,}", "cards"),
        ("look at", f"{report.programs:,}", "programs"),
    ]


def _past_limit(report: ExpirationReport) -> str:
    past = report.tally.past_limit
    if not past.cards or not past.first_day or not past.last_day:
        return ""
    until = day_of(past.first_day)
    if past.last_day != past.first_day:
        until += f" to {day_of(past.last_day)}"
    cards, points = counted(past.cards, "card"), counted(past.points, "point")
    return f"Of those to warn, {cards} with {points} are past the limit already. The warning gives until {until}."


@admin.register(ExemptionChange)
class ExemptionChangeAdmin(ViewOnly):
    menu = "Expiry"
    merchant_path = "card__program__merchant"
    list_display = ("changed_at", "card", "exempt", "reason", "actor")
    list_select_related = ("card",)
    list_filter = ("exempt", MerchantFilter)
    fields = list_display
