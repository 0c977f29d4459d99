"""What each operation of the APIs declares, and how one is carried out.

A view's method is a plain function of what was asked; `operation` reads and checks the request before it, renders
what it returns after it, and describes both in OpenAPI. So nothing can be carried out that is not described.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db import OperationalError
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request as HttpRequest
from rest_framework.response import Response

from loyalty.api.fields import In
from loyalty.api.idempotency import REPLAYED
from loyalty.api.pages import PageQuery, Pages
from loyalty.api.problems import InvalidRequest, SecretShownOnce
from loyalty.api.refusing import is_worth_repeating
from loyalty.models import Transaction
from loyalty.services import once

ATTEMPTS = 3


class Access(StrEnum):
    """Who may carry out an operation of the admin API."""

    READ = "read"  # support and managers of the merchant
    RESTORE = "restore"  # the same: support gives points back
    MANAGE = "manage"  # managers of the merchant
    PLATFORM = "platform"  # platform admins alone
    SELF = "self"  # every user, about what is theirs


class NoFields(In):
    """An operation without a body, or without a query."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as an operation sees it: read, checked, and at one moment."""

    at: datetime
    body: dict[str, Any]
    query: dict[str, Any]
    request: once.Request | None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What an operation takes, answers and refuses.

    `answer` renders what the function returns; None answers nothing (204). `pages` is the order of a list, whose
    function returns a QuerySet. `keyed`: the request's key goes to the verb, which does it once. `commits`: the
    verb commits as it goes and may be repeated, so the answer is kept afterwards. `secret`: the answer holds
    something that is shown once. `file_of` are the columns of a file that is answered. `card_of` names the card
    that an answer tells about. `staff_role` and `access` say who may.
    """

    name: str
    summary: str
    answer: type[serializers.Serializer[Any]] | None
    body: type[serializers.Serializer[Any]] = NoFields
    query: type[serializers.Serializer[Any]] = NoFields
    status: int = 200
    refusals: Sequence[type[Exception]] = ()
    pages: tuple[str, ...] = ()
    changes: bool = False
    keyed: bool = False
    commits: bool = False
    secret: bool = False
    many: bool = False
    throttle: str = ""
    staff_role: str = ""
    access: Access = Access.MANAGE
    replay: Callable[[Mapping[str, Any]], Any] = field(default=lambda answer: row_of(answer))  # noqa: PLW0108  defined below
    card_of: Callable[[Any], int | None] = field(default=lambda result: None)
    media_type: str = "application/json"
    body_media_types: Sequence[str] = ("application/json",)
    file_of: Sequence[str] = ()


OPERATIONS: dict[str, Operation] = {}
Handler = Callable[..., Any]


def operation(**declared: Any) -> Callable[[Handler], Handler]:
    """Make a view's method an operation. Its parameters after what was asked are those of the path."""

    def wrap(handler: Handler) -> Handler:
        declaration = Operation(**declared)
        if OPERATIONS.setdefault(declaration.name, declaration) is not declaration:
            raise ValueError(f"There are two operations {declaration.name}.")

        @functools.wraps(handler)
        def method(view: Any, request: HttpRequest, **path: Any) -> Response:
            return _carry_out(declaration, view, request, lambda asked: handler(view, asked, **path))

        method.operation = declaration  # type: ignore[attr-defined]
        return method

    return wrap


def _carry_out(declared: Operation, view: Any, request: HttpRequest, act: Callable[[Any], Any]) -> Response:
    query = read(declared.query, _once_each(request))
    # A list has no body: what a client sends along is not read.
    body = read(declared.body, request.data) if request.method not in ("GET", "HEAD") else {}
    asked = view.asked(request, declared, body=body, query=query)
    try:
        result = _repeated(lambda: view.perform(declared, asked, act))
    except once.AnsweredBefore as before:
        if declared.secret:
            raise SecretShownOnce from None
        return Response(_replayed(declared, before.answer), before.status, headers={REPLAYED: "true"})
    if declared.pages:
        return Response(_page(declared, result, request))
    if isinstance(result, StreamingHttpResponse):
        return result  # type: ignore[return-value]
    return Response(render(declared, result), declared.status)


def read(serializer: type[serializers.Serializer[Any]], data: Any) -> dict[str, Any]:
    """What was sent, checked.

    Raises:
        InvalidRequest: a field is missing, unknown or of another form.
    """
    read_in = serializer(data=data)
    if not read_in.is_valid():
        raise InvalidRequest(read_in.errors)
    return dict(read_in.validated_data)


def render(declared: Operation, result: Any) -> Any:
    """What a verb returned, in the words of the API."""
    return declared.answer(result, many=declared.many).data if declared.answer else None


def kept(declared: Operation, result: Any) -> dict[str, Any]:
    """What an answer can be given from again: its text, because the database would sort its keys; never a secret."""
    return {"secret": True} if declared.secret else {"body": JSONRenderer().render(render(declared, result)).decode()}


def _replayed(declared: Operation, answer: Mapping[str, Any]) -> Any:
    if "body" in answer:
        return json.loads(answer["body"]) if answer["body"] else None
    return render(declared, declared.replay(answer))


def row_of(answer: Mapping[str, Any]) -> Transaction:
    """The ledger row that a request wrote, as it was written."""
    return Transaction.objects.select_related("merchant").get(pk=answer["transaction"])


def _repeated(act: Callable[[], Any]) -> Any:
    """Do it again when the database gave up only because of others; it undid everything."""
    for _ in range(ATTEMPTS - 1):
        try:
            return act()
        except OperationalError as error:
            if not is_worth_repeating(error):
                raise
    return act()


def _once_each(request: HttpRequest) -> dict[str, str]:
    twice = [name for name, values in request.query_params.lists() if len(values) > 1]
    if twice:
        raise InvalidRequest({name: [ErrorDetail("This parameter is given twice.", "twice")] for name in twice})
    return {name: str(value) for name, value in request.query_params.items()}


def _page(declared: Operation, rows: "QuerySet[Any]", request: HttpRequest) -> dict[str, Any]:
    if not issubclass(declared.query, PageQuery):
        raise TypeError(f"The query of the list {declared.name} is no PageQuery.")
    pages = Pages(*declared.pages)
    results = pages.take(rows, request)
    return pages.with_links([declared.answer(row).data for row in results] if declared.answer else [])
