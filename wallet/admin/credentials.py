"""Credentials: how long each lasts, which is in use, and switching between versions. No page knows a secret."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import CharField, F, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Concat
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from loyalty.admin.actions import Action, Outcome, WithActions
from loyalty.admin.screens import counted, day_of, link_to, minute_of
from wallet.admin.platform import ForPlatformAdmins
from wallet.models import Breaker, Credential
from wallet.services import credentials

DAYS_UNTIL_SOON, DAYS_UNTIL_URGENT = 45, 14
KEY_IS_OLD_AFTER_DAYS = 90
MAY_ACTIVATE = "wallet.activate_credential"
Status = Credential.Status


def use(credential: Credential, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    active = credentials.activate(credential_id=credential.pk, actor=actor, at=at)
    return Outcome(f"In use everywhere from now on: {active}.")


def go_back(credential: Credential, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    active = credentials.rollback(kind=credential.kind, identifier=credential.identifier, actor=actor, at=at)
    return Outcome(f"In use again everywhere: {active}.")


def revoke(credential: Credential, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    credentials.revoke(credential_id=credential.pk)
    return Outcome("Revoked. It is never used again.")


def versions_of(credential: Credential) -> QuerySet[Credential]:
    return Credential.objects.filter(kind=credential.kind, identifier=credential.identifier)


def has_previous(credential: Credential) -> bool:
    return credential.status == Status.ACTIVE and versions_of(credential).filter(status=Status.PREVIOUS).exists()


def what_a_switch_changes(credential: Credential, at: datetime) -> list[str]:
    """How long the version lasts that would be used, and which one makes room for it."""
    facts = [f"Comes into use: version {credential.version}, {lifetime(credential, at)}."]
    active = versions_of(credential).filter(status=Status.ACTIVE).first()
    if active:
        facts.append(f"Goes, and is kept to roll back to: version {active.version}, {lifetime(active, at)}.")
    return facts


def what_going_back_changes(credential: Credential, at: datetime) -> list[str]:
    previous = versions_of(credential).filter(status=Status.PREVIOUS).first()
    return what_a_switch_changes(previous, at) if previous else []


def what_revoking_changes(credential: Credential, at: datetime) -> list[str]:
    if credential.status == Status.ACTIVE:
        return ["It is in use: nothing is issued or told under it until another version is activated."]
    return []


def lifetime(credential: Credential, at: datetime) -> str:
    """How long it lasts, in words; a key that does not expire has an age."""
    left = credential.days_left(at)
    if left is None:
        return f"no end, {counted((at - credential.valid_from).days, 'day')} old"
    if left < 0:
        return f"expired on {day_of(credential.valid_until)}"  # type: ignore[arg-type]
    return f"{counted(left, 'day')} left"


def urgency(credential: Credential, at: datetime) -> str:
    """The class that colours its days left: nothing for what is not used any more."""
    if credential.status not in (Status.ACTIVE, Status.STAGED):
        return ""
    left = credential.days_left(at)
    if left is None:
        return "soon" if (at - credential.valid_from).days >= KEY_IS_OLD_AFTER_DAYS else ""
    if left < DAYS_UNTIL_URGENT:
        return "failed"
    return "soon" if left < DAYS_UNTIL_SOON else ""


TRIED_FIRST = "It is tried against the platform first, and nothing changes if the platform does not take it."
ACTIVATE = Action(
    slug="activate",
    label="Activate",
    intro=f"Passes are signed and phones told with this version from now on, on every host. {TRIED_FIRST}",
    permission=MAY_ACTIVATE,
    form=forms.Form,
    perform=use,
    fits=lambda credential: (
        credential.kind != Credential.Kind.WWDR and credential.status not in (Status.ACTIVE, Status.REVOKED)
    ),
    facts=what_a_switch_changes,
)
ROLL_BACK = Action(
    slug="roll-back",
    label="Roll back",
    intro=f"Goes back to the version that was in use before; the two change places. {TRIED_FIRST}",
    permission=MAY_ACTIVATE,
    form=forms.Form,
    perform=go_back,
    fits=has_previous,
    facts=what_going_back_changes,
)
REVOKE = Action(
    slug="revoke",
    label="Revoke",
    intro="For a key that somebody else may have: this version is never used again. This cannot be undone.",
    permission=MAY_ACTIVATE,
    form=forms.Form,
    perform=revoke,
    fits=lambda credential: credential.kind != Credential.Kind.WWDR and credential.status != Status.REVOKED,
    facts=what_revoking_changes,
)


@admin.register(Credential)
class CredentialAdmin(WithActions, ForPlatformAdmins):
    page_actions = (ACTIVATE, ROLL_BACK, REVOKE)
    list_display = ("identifier", "kind", "version", "status", "lasts", "calls")
    list_filter = ("status", "kind")
    search_fields = ("identifier__istartswith",)
    search_help_text = "The beginning of a pass type, an issuer, or the name of an intermediate certificate."
    fieldsets = (
        (None, {"fields": ("kind", "identifier", "version", "status", "calls", "why")}),
        ("How long it lasts", {"fields": ("lasts", "since", "until", "last_probe", "probe_error")}),
        ("What it is", {"fields": ("subject", "serial", "fingerprint", "issuer_link", "secret_is")}),
        ("Who did what", {"fields": ("imported", "activated")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None or obj.rests_because:
            return self.fieldsets
        (_, first), *rest = self.fieldsets
        return [(None, {"fields": [name for name in first["fields"] if name != "why"]}), *rest]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Credential]:
        """Without what is secret or long; with the open breaker of its platform, if there is one."""
        credentials_shown: QuerySet[Credential] = super().get_queryset(request)
        breakers = Breaker.objects.filter(
            platform=OuterRef("kind"), identifier=OuterRef("identifier"), opened_at__isnull=False
        )
        reason = Concat(F("code"), Value(": "), F("reason"), output_field=CharField())
        return (
            credentials_shown.select_related("issuer")
            .defer("certificate", "sealed_secret", "issuer__certificate", "issuer__sealed_secret")
            .annotate(
                rests_since=Subquery(breakers.values("opened_at")),
                rests_because=Subquery(breakers.annotate(told=reason).values("told")),
            )
        )

    @admin.display(description="lasts")
    def lasts(self, credential: Credential) -> SafeString | str:
        now = timezone.now()
        told, colour = lifetime(credential, now), urgency(credential, now)
        return format_html('<span class="status {}">{}</span>', colour, told) if colour else told

    @admin.display(description="valid from (UTC)")
    def since(self, credential: Credential) -> str:
        return minute_of(credential.valid_from)

    @admin.display(description="valid until (UTC)")
    def until(self, credential: Credential) -> str:
        return minute_of(credential.valid_until)

    @admin.display(description="last tried (UTC)")
    def last_probe(self, credential: Credential) -> SafeString | str:
        tried = minute_of(credential.checked_at)
        return format_html('{} <span class="status failed">failed</span>', tried) if credential.check_error else tried

    @admin.display(description="what was wrong")
    def probe_error(self, credential: Credential) -> str:
        return credential.check_error or "nothing"

    @admin.display(description="calls")
    def calls(self, credential: Any) -> SafeString | str:
        if credential.status != Status.ACTIVE or credential.kind == Credential.Kind.WWDR:
            return "-"
        if credential.rests_since:
            return format_html('<span class="status failed">rest since {}</span>', minute_of(credential.rests_since))
        return (
            format_html('<span class="status failed">{}</span>', "last try failed")
            if credential.check_error
            else "go on"
        )

    @admin.display(description="why they rest")
    def why(self, credential: Any) -> str:
        return str(credential.rests_because)

    @admin.display(description="issued by")
    def issuer_link(self, credential: Credential) -> SafeString | str:
        return link_to(credential.issuer)

    @admin.display(description="its secret is")
    def secret_is(self, credential: Credential) -> str:
        if credential.kind == Credential.Kind.WWDR:
            return "nowhere: it has none"
        return f"in the file {credential.secret_file}" if credential.secret_file else "sealed, in the database"

    @admin.display(description="brought in")
    def imported(self, credential: Credential) -> str:
        return f"{minute_of(credential.imported_at)} (UTC) by {credential.imported_by}"

    @admin.display(description="activated")
    def activated(self, credential: Credential) -> str:
        if credential.activated_at is None:
            return "never"
        return f"{minute_of(credential.activated_at)} (UTC) by {credential.activated_by}"
