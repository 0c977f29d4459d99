"""Google's own description of its API, which its Python client brings along, and whether a body keeps to it."""

import importlib.resources
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
}


@cache
def description() -> dict[str, Any]:
    """The discovery document of walletobjects.v1."""
    folder = importlib.resources.files("googleapiclient") / "discovery_cache" / "documents"
    document: dict[str, Any] = json.loads((folder / "walletobjects.v1.json").read_text())
    return document


def problems(schema: str, body: Any) -> list[str]:
    """What in the body is not as described: unknown fields, wrong types, unknown or deprecated values.

    A null stands for a field that is not set, as in all of Google's APIs.
    """
    return list(_problems({"$ref": schema}, body, schema))


def _problems(expected: dict[str, Any], value: Any, at: str) -> Iterator[str]:
    if "$ref" in expected:
        expected = {"type": "object", **description()["schemas"][expected["$ref"]]}
    if value is None:
        return
    if not isinstance(value, TYPES[expected["type"]]) or (expected["type"] != "boolean" and isinstance(value, bool)):
        yield f"{at} is no {expected['type']}"
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in expected.get("properties", {}):
                yield from _problems(expected["properties"][name], item, f"{at}.{name}")
            else:
                yield f"{at}.{name} is unknown"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _problems(expected["items"], item, f"{at}[{number}]")
    else:
        yield from _value_problems(expected, value, at)


def _value_problems(expected: dict[str, Any], value: Any, at: str) -> Iterator[str]:
    if "enum" in expected:
        deprecated = expected.get("enumDeprecated", [False] * len(expected["enum"]))
        if value not in [known for known, old in zip(expected["enum"], deprecated, strict=True) if not old]:
            yield f"{at} cannot be {value}"
    if expected.get("format") == "int32" and not -(2**31) <= value < 2**31:
        yield f"{at} has more than 32 bits"
