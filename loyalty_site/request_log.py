"""One event per request, without what names a person: no query string, no address, no browser."""

from django.http import HttpRequest
from django_structlog.middlewares import RequestMiddleware


class RequestLogMiddleware(RequestMiddleware):
    @staticmethod
    def format_request(request: HttpRequest) -> str:
        # A search in the admin has an e-mail address in its query.
        return f"{request.method} {request.path}"
