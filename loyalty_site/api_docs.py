"""The description of the APIs for people and programs, and how addresses that no operation serves say no."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views import defaults
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from loyalty.api.problems import MEDIA_TYPE, PROBLEMS
from loyalty.api.problems import render as problem_body


class OpenApi(SpectacularAPIView):
    authentication_classes = ()
    permission_classes = ()
    schema = None


class Docs(SpectacularSwaggerSplitView):
    authentication_classes = ()
    permission_classes = ()
    schema = None
    url_name = "openapi"


@require_safe
def problems(request: HttpRequest) -> HttpResponse:
    """Every code that a refusal can have; the `type` of a problem leads here."""
    listed = sorted(PROBLEMS.values(), key=lambda problem: (problem.status, problem.code))
    return render(request, "loyalty_site/problems.html", {"problems": listed})


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith("/api/"):
        return _problem("not_found", "There is nothing at this address.")
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path.startswith("/api/"):
        return _problem("invalid_request", "This request cannot be understood.")
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if request.path.startswith("/api/"):
        return _problem("server_error", "Something went wrong on our side. Please try again.")
    return defaults.server_error(request)


def _problem(code: str, sentence: str) -> HttpResponse:
    problem = PROBLEMS[code]
    body: dict[str, Any] = problem_body(problem, sentence)
    return JsonResponse(body, status=problem.status, content_type=MEDIA_TYPE)
