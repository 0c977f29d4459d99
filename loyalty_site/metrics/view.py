"""The door for Prometheus."""

from hmac import compare_digest

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from loyalty_site.metrics import counters
from loyalty_site.metrics.collecting import StateCollector


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Everything there is, for who knows the token. Without a token in the settings there is no such page."""
    if not settings.METRICS_TOKEN:
        raise Http404
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _is_known(token.strip()):
        return HttpResponse("Bearer token needed\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    counters.register(registry)
    registry.register(StateCollector(timezone.now()))
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _is_known(token: str) -> bool:
    return compare_digest(token.encode(), settings.METRICS_TOKEN.encode())
