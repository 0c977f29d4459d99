"""The addresses of the product, and two that break."""

from typing import NoReturn

from django.http import HttpRequest
from django.urls import path

from loyalty_site import urls


def fail(request: HttpRequest) -> NoReturn:
    raise LookupError("broken on purpose")


urlpatterns = [path("fails", fail), path("api/v1/fails", fail), *urls.urlpatterns]
handler404, handler500, handler400 = urls.handler404, urls.handler500, urls.handler400
