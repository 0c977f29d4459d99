"""OpenAPI, from what the operations declare."""

import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from loyalty.api import problems
from loyalty.api.fields import LARGEST_ID, BirthDay, Day, In, Moment, Rate
from loyalty.api.operations import NoFields, Operation
from loyalty.api.problems import MEDIA_TYPE, Problem
from loyalty.api.refusing import render
from loyalty.api.views import STORE_TAG, ApiView
from loyalty.errors import IdempotencyKeyReused

ALWAYS: tuple[type[Exception], ...] = (
    problems.InvalidRequest,
    problems.NotAuthenticated,
    problems.InvalidApiKey,
    problems.PermissionDenied,
    problems.NotAcceptable,
    problems.Throttled,
)
WITH_BODY = (problems.MalformedJson, problems.BodyTooLarge, problems.UnsupportedMediaType)
AT_TILLS = (problems.InvalidStaffSession, problems.StoreNotActive)
ONCE = (problems.IdempotencyKeyRequired, problems.CardBusy, IdempotencyKeyReused)
CELL = {"anyOf": [{"type": "string", "nullable": True}, {"type": "number"}]}
ROWS = {"type": "array", "items": {"type": "object", "additionalProperties": CELL}}
KEY_PATTERN = "^[!-~]{8,128}$"
NO_NUL = r"^[^\x00]*$"
SOMETHING = r"^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$"  # and not only white space, which is cut off
YEAR = "(19[89]|2[01][0-9])[0-9]"
MONTH_AND_DAY = "(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"


class FieldProblemOut(serializers.Serializer[Any]):
    """What is wrong with one field."""

    pointer = serializers.CharField(help_text="A JSON pointer to the field; empty for the whole body.")
    code = serializers.CharField()
    detail = serializers.CharField()


class CodeField(serializers.ChoiceField):
    """The code of a refusal: one of all that the apps have brought along by now."""

    def __init__(self, **options: Any) -> None:
        super().__init__(sorted(problems.PROBLEMS), **options)


class ProblemOut(serializers.Serializer[Any]):
    """A refusal, as RFC 9457 writes it."""

    type = serializers.CharField(help_text="Where the code is explained.")
    title = serializers.CharField(help_text="What the code means; the same in all problems of this code.")
    status = serializers.IntegerField()
    code = CodeField(help_text="Stable; write programs against it.")
    detail = serializers.CharField(help_text="What happened, in a sentence that can be read aloud.")
    errors = FieldProblemOut(many=True)  # type: ignore[assignment]
    details = serializers.DictField(help_text="Figures and dates that belong to this code.")
    request_id = serializers.CharField(help_text="Names this request in our logs.")


class OperationSchema(AutoSchema):
    """Describes a view's method by its operation."""

    view: ApiView  # type: ignore[override]

    @property
    def declared(self) -> Operation:
        found: Operation = self._method.operation
        return found

    @property
    def _method(self) -> Any:
        return getattr(self.view, self.method.lower())

    def is_excluded(self) -> bool:
        return not hasattr(getattr(self.view, self.method.lower(), None), "operation")

    def get_operation_id(self) -> str:
        return self.declared.name

    def get_tags(self) -> list[str]:
        return [self.view.tag]

    def get_summary(self) -> str:
        return self.declared.summary

    def get_description(self) -> str:  # type: ignore[override]
        return inspect.cleandoc(self._method.__doc__ or "")

    def get_request_serializer(self) -> Any:
        if self.declared.body is NoFields:
            return None
        if "text/csv" in self.declared.body_media_types:
            return {"text/csv": {"type": "string", "minLength": 1}, "application/json": ROWS}
        return self.declared.body

    def _get_request_body(self, direction: Any = "request") -> Any:
        body = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        if body and "text/csv" in body["content"]:
            body["required"] = True  # a file is read, and none is no empty one
        return body

    def get_override_parameters(self) -> list[Any]:
        parameters: list[Any] = [_path_parameter(name) for name in self._path_names()]
        if self.declared.query is not NoFields:
            parameters.append(self.declared.query)
        if self.view.tag == STORE_TAG:
            parameters.append(_staff_session(required=bool(self.declared.staff_role)))
        if self.declared.keyed and self.view.tag == STORE_TAG:
            parameters.append(_idempotency_key(required=True))
        elif self.declared.changes and self.view.tag != STORE_TAG:
            parameters.append(_idempotency_key(required=False))
        return parameters

    def _path_names(self) -> list[str]:
        return list(inspect.signature(self._method.__wrapped__).parameters)[2:]

    def get_response_serializers(self) -> Any:
        answer = self._answer()
        responses: dict[Any, Any] = {(self.declared.status, self.declared.media_type): answer}
        if self.declared.file_of:
            properties: dict[str, Any] = {column: {} for column in self.declared.file_of}
            rows = {"type": "array", "items": {"type": "object", "properties": properties}}
            responses = {(200, "text/csv"): {"type": "string"}, (200, "application/json"): rows}
        elif answer is None:
            responses = {self.declared.status: None}
        for status, found in _by_status(self.refusals).items():
            responses[status, MEDIA_TYPE] = OpenApiResponse(ProblemOut, description=_listed(found))
        return responses

    @property
    def refusals(self) -> list[Problem]:
        kinds: list[type[Exception]] = [*ALWAYS, *self.declared.refusals]
        if self.declared.body is not NoFields:
            kinds += WITH_BODY
        if self.view.tag == STORE_TAG:
            kinds += AT_TILLS
            if self.declared.changes or self.declared.staff_role:
                kinds.append(problems.StaffSessionRequired)
        if self.declared.changes:
            kinds += ONCE
        if self.declared.secret:
            kinds.append(problems.SecretShownOnce)
        if self._path_names():
            kinds.append(problems.NotFound)
        return [problems.problem_of(kind) for kind in dict.fromkeys(kinds)]

    def _answer(self) -> Any:
        answer = self.declared.answer
        if answer is None:
            return None
        if self.declared.pages:
            return page_of(answer)
        if self.declared.many:
            component = self.resolve_serializer(answer, "response")
            return {"type": "array", "items": component.ref}
        return answer

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False

    def get_examples(self) -> list[OpenApiExample]:
        found = []
        for serializer, options in (
            (self.declared.body, {"request_only": True}),
            (self.declared.answer, {"response_only": True, "status_codes": [str(self.declared.status)]}),
        ):
            example = getattr(serializer, "example", None)
            if example is not None:
                found.append(OpenApiExample("example", self._shaped(example, options), **options))
        return found + [_example(problem) for problem in self.refusals]

    def _shaped(self, example: Any, options: dict[str, Any]) -> Any:
        if "response_only" not in options:
            return example
        if self.declared.pages:
            return {"next": None, "previous": None, "results": [example]}
        return [example] if self.declared.many else example


@cache
def page_of(answer: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    """The page of a list."""
    fields = {
        "next": serializers.URLField(allow_null=True, help_text="The next page; null on the last one."),
        "previous": serializers.URLField(allow_null=True),
        "results": answer(many=True),
        "__doc__": "A page of a list.",
    }
    return type(answer.__name__.removesuffix("Out") + "PageOut", (serializers.Serializer,), fields)


def _path_parameter(name: str) -> OpenApiParameter:
    whole = {"type": "integer", "minimum": 1, "maximum": LARGEST_ID}
    text = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 64}
    return OpenApiParameter(name, whole if name.endswith("_id") else text, OpenApiParameter.PATH, required=True)


def _idempotency_key(*, required: bool) -> OpenApiParameter:
    return OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "pattern": KEY_PATTERN},
        OpenApiParameter.HEADER,
        required=required,
        description="Names what is done: a repeat with the same key does nothing and gets the first one's answer.",
    )


def _staff_session(*, required: bool) -> OpenApiParameter:
    return OpenApiParameter(
        "X-Staff-Session",
        {"type": "string", "minLength": 1, "maxLength": 100},
        OpenApiParameter.HEADER,
        required=required,
        description="The token of the staff member who has signed in.",
    )


def _by_status(found: Iterable[Problem]) -> dict[int, list[Problem]]:
    by_status: dict[int, list[Problem]] = {}
    for problem in sorted(found, key=lambda problem: (problem.status, problem.code)):
        by_status.setdefault(problem.status, []).append(problem)
    return by_status


def _listed(found: list[Problem]) -> str:
    return "\n".join(f"- `{problem.code}`: {problem.title}." for problem in found)


@cache
def _example(problem: Problem) -> OpenApiExample:
    body = render(problem, f"{problem.title}.") | {"request_id": "4a1f1f6c-7c52-4f0e-9d3b-2f6f0b7a9d10"}
    return OpenApiExample(
        problem.code,
        body,
        response_only=True,
        status_codes=[str(problem.status)],
        media_type=MEDIA_TYPE,
    )


def share_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Write each problem's example once, instead of once for each operation that may answer it."""
    shared = result["components"].setdefault("examples", {})
    for operations in result["paths"].values():
        for described in operations.values():
            for response in described["responses"].values():
                content = response.get("content", {}).get(MEDIA_TYPE, {})
                for example in list(content.get("examples", {}).values()):
                    shared[example["summary"]] = example
                if "examples" in content:
                    names = [example["summary"] for example in content["examples"].values()]
                    content["examples"] = {name: {"$ref": f"#/components/examples/{name}"} for name in names}
    return result


class SentBody(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """What is sent is described as strictly as it is read: an unknown key is refused, and so is an empty text.

    NUL is in no text, because no database takes it.
    """

    target_class = In
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        described: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        properties = described.get("properties", {})
        for name, field in self.target.fields.items():
            properties[name] = {**properties[name], **_form_of(field)}
        return {**described, "additionalProperties": False}


def _form_of(field: Any) -> dict[str, Any]:
    """What a field refuses and its class does not tell."""
    if isinstance(field, BirthDay):
        return {"pattern": f"^(19|2[01])[0-9][0-9]-{MONTH_AND_DAY}$"}
    if isinstance(field, Day):
        return {"pattern": f"^{YEAR}-{MONTH_AND_DAY}$"}
    if isinstance(field, Moment):
        return {"pattern": f"^{YEAR}-{MONTH_AND_DAY}[Tt]"}
    if isinstance(field, Rate):
        return {"pattern": field.pattern, "example": "1.5"}
    if isinstance(field, serializers.CharField):
        return {"pattern": NO_NUL} if field.allow_blank else {"pattern": SOMETHING, "minLength": 1}
    return {}


class _ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    described: str

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": self.described}


class TillScheme(_ApiKeyScheme):  # type: ignore[no-untyped-call]
    target_class = "loyalty.api.authentication.TillAuthentication"
    name = "storeKey"
    described = "The key of a store: `Authorization: Api-Key till_...`. A back office issues it; it is shown once."


class UserKeyScheme(_ApiKeyScheme):  # type: ignore[no-untyped-call]
    target_class = "loyalty.api.authentication.UserKeyAuthentication"
    name = "userKey"
    described = "The key of a user: `Authorization: Api-Key user_...`. It may do what its user may."
