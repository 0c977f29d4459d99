"""The description of the APIs for people and programs, and how addresses that no operation serves say no."""

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views import defaults
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.views import SpectacularSwaggerSplitView

from loyalty.api.problems import MEDIA_TYPE, PROBLEMS
from loyalty.api.refusing import render as problem_body


@cache
def document() -> bytes:
    """The OpenAPI document. It takes a second to make and is the same for everybody."""
    described = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    written: bytes = OpenApiYamlRenderer().render(described, renderer_context={})  # type: ignore[no-untyped-call]
    return written


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    return HttpResponse(document(), content_type="application/yaml; charset=utf-8")


class Docs(SpectacularSwaggerSplitView):
    authentication_classes = ()
    permission_classes = ()
    schema = None
    url_name = "openapi"
    template_name = "loyalty_site/docs.html"


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
