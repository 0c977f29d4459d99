"""Every request is counted: which part of the site, how it ended, how long it took, and why the APIs said no."""

import json
import time
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from loyalty.api import problems
from loyalty.api.authentication import Till
from loyalty_site.metrics import throttled
from loyalty_site.metrics.counters import OTHER, count_refusal, count_request

# Of several that fit, the first.
ROUTE_OF = (
    ("/api/v1/store/", "store"),
    ("/api/v1/admin/", "admin_api"),
    ("/api/v1/wallet/", "wallet"),
    ("/wallet/", "wallet"),
    ("/admin/", "admin"),
    ("/join/", "public"),
    ("/card/", "public"),
    ("/docs", "docs"),
    ("/healthz", "operations"),
    ("/readyz", "operations"),
    ("/metrics", "operations"),
)


class CountRequests:
    """Stands first, so that it sees what the other middlewares answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        response = self.get_response(request)
        count_request(route_of(request.path_info), response.status_code, time.perf_counter() - began)
        if response.headers.get("Content-Type", "").startswith(problems.MEDIA_TYPE):
            count_refusal(_code(response))
        if response.status_code == 429:
            _note_throttled(request)
        return response


def route_of(path: str) -> str:
    """The part of the site that a path belongs to, whatever else stands in it."""
    return next((route for prefix, route in ROUTE_OF if path.startswith(prefix)), OTHER)


def _code(response: HttpResponse) -> str:
    try:
        code = json.loads(response.content)["code"]
    except (ValueError, TypeError, KeyError):
        return OTHER
    return str(code) if code in problems.PROBLEMS else OTHER


def _note_throttled(request: HttpRequest) -> None:
    till: Any = getattr(request, "user", None)  # REST framework leaves there who signed in
    if isinstance(till, Till):
        throttled.note(till.store.pk, timezone.now())
