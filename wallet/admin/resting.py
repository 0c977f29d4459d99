"""Passes about which no calls are made at the moment: since when, why, and the credential to look at."""

from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from loyalty.admin.screens import minute_of
from wallet.models import Breaker, Credential

REASON_IN_LIST = 80


def with_rest(passes: QuerySet[Any], request: HttpRequest) -> QuerySet[Any]:
    """Adds the open breaker of each pass, and for who may see credentials the one that it is told with."""
    breakers = Breaker.objects.filter(
        platform=OuterRef("platform"), identifier=OuterRef("issued_under"), opened_at__isnull=False
    )
    credentials = Credential.objects.filter(
        kind=OuterRef("platform"), identifier=OuterRef("issued_under"), status=Credential.Status.ACTIVE
    )
    shown = credentials if request.user.is_superuser else credentials.none()
    resting: QuerySet[Any] = passes.annotate(
        rests_since=Subquery(breakers.values("opened_at")),
        rests_code=Subquery(breakers.values("code")),
        rests_because=Subquery(breakers.values("reason")),
        rests_under=Subquery(shown.values("pk")),
    )
    return resting


def rest_in_short(wallet_pass: Any) -> SafeString:
    """That calls rest and why, for a column."""
    reason = Truncator(wallet_pass.rests_because or wallet_pass.rests_code).chars(REASON_IN_LIST)
    return format_html('<span class="status failed">calls rest</span>: {}', _to_credential(wallet_pass, reason))


def rest_in_full(wallet_pass: Any) -> SafeString | str:
    """Whether calls go on, and if not, since when and why."""
    if wallet_pass.rests_since is None:
        return "go on"
    since, reason = minute_of(wallet_pass.rests_since), _to_credential(wallet_pass, rest_reason(wallet_pass))
    return format_html('<span class="status failed">rest since {} (UTC)</span>: {}', since, reason)


def rest_reason(wallet_pass: Any) -> str:
    return ": ".join(filter(None, [wallet_pass.rests_code, wallet_pass.rests_because]))


def _to_credential(wallet_pass: Any, text: str) -> SafeString | str:
    if wallet_pass.rests_under is None:
        return text
    page = reverse("admin:wallet_credential_change", args=[wallet_pass.rests_under])
    return format_html('<a href="{}">{}</a>', page, text)
