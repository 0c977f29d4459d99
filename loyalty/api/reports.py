"""Reports as the APIs answer them: the same names, and amounts as decimal strings instead of minor units."""

import dataclasses
import types
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from rest_framework import serializers

from loyalty.api.answers import written

MINOR = "_minor"
FIELDS: dict[Any, tuple[type[serializers.Field[Any, Any, Any, Any]], Any]] = {
    int: (serializers.IntegerField, 12),
    str: (serializers.CharField, "Main Street"),
    bool: (serializers.BooleanField, True),
    datetime: (serializers.DateTimeField, "2026-03-31T12:05:00Z"),
    date: (serializers.DateField, "2026-03-31"),
}


class ReportOut(serializers.Serializer[Any]):
    """A report."""

    example: Any

    def to_representation(self, instance: Any) -> Any:
        return _plain(instance, "")


@cache
def report_out(kind: type[Any]) -> type[ReportOut]:
    """How a report's dataclass or named tuple is answered. A field `x_minor` becomes `x`, a decimal string."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name in _names(kind)}
    fields = {_outside(name): _field(name, hint) for name, hint in hints.items()}
    example = {_outside(name): _example(name, hint) for name, hint in hints.items()}
    return type(f"{kind.__name__}Out", (ReportOut,), {**fields, "example": example, "__doc__": kind.__doc__})


def _names(kind: type[Any]) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(kind._fields)


def _is_report(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"))


def _outside(name: str) -> str:
    return name.removesuffix(MINOR)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        [kind] = [part for part in get_args(hint) if part is not type(None)]
        return kind, True
    return hint, False


def _field(name: str, hint: Any) -> serializers.Field[Any, Any, Any, Any]:
    kind, nullable = _without_none(hint)
    options: dict[str, Any] = {"allow_null": True} if nullable else {}
    if get_origin(kind) in (list, tuple):
        inner = get_args(kind)[0]
        if _is_report(inner):
            return report_out(inner)(many=True, **options)
        return serializers.ListField(child=_field(name, inner), **options)
    if get_origin(kind) is dict:
        return serializers.DictField(child=_field(name, get_args(kind)[1]), **options)
    if _is_report(kind):
        return report_out(kind)(**options)
    if name.endswith(MINOR):
        return serializers.CharField(help_text="A decimal amount.", **options)
    return FIELDS[kind][0](**options)


def _example(name: str, hint: Any) -> Any:
    kind, _ = _without_none(hint)
    if get_origin(kind) in (list, tuple):
        return [_example(name, get_args(kind)[0])]
    if get_origin(kind) is dict:
        return {"EUR": _example(name, get_args(kind)[1])}
    if _is_report(kind):
        return report_out(kind).example
    if name == "currency":
        return "EUR"
    return "12.99" if name.endswith(MINOR) else FIELDS[kind][1]


def _plain(value: Any, currency: str) -> Any:
    """The value in JSON's terms. What a report says about its currency holds for all that is in it."""
    if _is_report(type(value)):
        currency = getattr(value, "currency", currency)
        return {_outside(name): _named(name, getattr(value, name), currency) for name in _names(type(value))}
    if isinstance(value, (list, tuple)):
        return [_plain(item, currency) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def _named(name: str, value: Any, currency: str) -> Any:
    if name.endswith(MINOR) and isinstance(value, Mapping):
        return {code: written(amount, code) for code, amount in value.items()}
    return written(value, currency) if name.endswith(MINOR) else _plain(value, currency)
