"""From an exception to the answer: whatever is raised becomes the body of a problem, with a sentence for people."""

import re
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig
from django.db import OperationalError
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import Error, ErrorResponse
from rest_framework import exceptions
from rest_framework.response import Response

from loyalty.api.problems import MEDIA_TYPE, PROBLEMS, BodyTooLarge, CardBusy, Problem, ServerError
from loyalty.errors import LoyaltyError
from notifications.errors import MessageError

log = structlog.get_logger()

MOST_FIELDS = 50
_LONG = re.compile(r"(.{300}).+", re.DOTALL)


class Handler(ExceptionHandler):
    """Makes one kind of exception of them all."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, (LoyaltyError, MessageError)):
            return _Refused(exc)
        if isinstance(exc, RequestDataTooBig):
            return BodyTooLarge()
        if isinstance(exc, OperationalError) and _sqlstate(exc) == "55P03":
            return CardBusy()
        return super().convert_known_exceptions(exc)

    def convert_unhandled_exceptions(self, exc: Exception) -> exceptions.APIException:
        return exc if isinstance(exc, exceptions.APIException) else ServerError()

    def get_response(self, exc: exceptions.APIException, data: dict[str, Any]) -> Response:
        response = super().get_response(exc, data)
        response.content_type = MEDIA_TYPE
        log.info("loyalty.request_refused", reason=data["code"], status=data["status"])
        return response


class _Refused(exceptions.APIException):
    """A refusal of a verb, in the protocol's clothes."""

    def __init__(self, refusal: LoyaltyError | MessageError) -> None:
        problem = PROBLEMS[refusal.code]
        super().__init__(str(refusal), problem.code)
        self.details = refusal.details if isinstance(refusal, LoyaltyError) else {}
        self.status_code = problem.status
        self.wait = self.details.get("retry_after_seconds")


class Formatter(ExceptionFormatter):
    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        found = error_response.errors
        if isinstance(self.exc, exceptions.ValidationError):
            return _render_fields(found)
        problem = PROBLEMS.get(found[0].code) or _by_status(self.exc.status_code)
        if isinstance(self.exc, _Refused):
            return _render_refusal(problem, str(found[0].detail), self.exc.details)
        return render(problem, _quoted(found[0].detail))


def _render_fields(found: list[Error]) -> dict[str, Any]:
    """What is wrong with the fields, of many the first ones: who sends a thousand gets no longer answer back."""
    named = found[:MOST_FIELDS]
    fields = [{"pointer": _pointer(e.attr), "code": e.code, "detail": _quoted(e.detail)} for e in named]
    sentence = " ".join(f"{_named(e.attr)}{_quoted(e.detail)}" for e in named)
    more = len(found) - len(named)
    return render(PROBLEMS["invalid_request"], f"{sentence} And {more:,} more." if more else sentence, fields=fields)


def _quoted(sentence: str) -> str:
    """A sentence that may hold what was sent: not all of it, and no halves of characters, which cannot be written."""
    return _LONG.sub(r"\1…", str(sentence).encode(errors="replace").decode())


def _render_refusal(problem: Problem, sentence: str, known: dict[str, Any]) -> dict[str, Any]:
    details = {name: value for name, value in known.items() if name != "field"}
    name = known.get("field")
    fields = [{"pointer": _pointer(name), "code": problem.code, "detail": sentence}] if name else []
    # What is not found is not described: the answer must be that of something unknown.
    return render(problem, sentence, fields=fields, details={} if problem.status == 404 else details)


def render(
    problem: Problem, sentence: str, *, fields: list[dict[str, str]] | None = None, details: Any = None
) -> dict[str, Any]:
    """The body of a problem."""
    return {
        "type": f"/docs/problems#{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": sentence,
        "errors": fields or [],
        "details": details or {},
        "request_id": structlog.contextvars.get_contextvars().get("request_id", ""),
    }


def _by_status(code: int) -> Problem:
    return next(problem for problem in PROBLEMS.values() if problem.status == code)


def _pointer(name: str | None) -> str:
    """A JSON pointer into the body."""
    if name is None or name == "non_field_errors":
        return ""
    return "/" + _quoted(name).replace("~", "~0").replace("/", "~1").replace(".", "/")


def _named(name: str | None) -> str:
    return "" if name is None or name == "non_field_errors" else f"{_quoted(name)}: "


def _sqlstate(error: OperationalError) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


def is_worth_repeating(error: OperationalError) -> bool:
    """Whether the database ended the transaction only because of others: a deadlock, or a conflict."""
    return _sqlstate(error) in ("40P01", "40001")
