"""Every field that any operation takes refuses what is not of its form, and is named in the refusal."""

from collections.abc import Iterator
from typing import Any

import pytest
from rest_framework import serializers

from loyalty.api.fields import Amount, Day, Flag, Moment, Rate, Whole
from loyalty.api.files import FileField
from loyalty.api.operations import OPERATIONS, NoFields, Operation, read
from loyalty.api.problems import InvalidRequest
from tests.loyalty.api import described
from tests.loyalty.api.described import Described, World, ask

HALF = "\ud800"
LATE, EARLY = "9999-12-31", "0001-01-01"
TOO_LATE, TOO_EARLY = f"{LATE}T00:00:00Z", f"{EARLY}T00:00:00Z"
# The first kind that a field is of says what it refuses.
REFUSED: dict[type[Any], list[Any]] = {
    Amount: [12.99, 12, 0, -1, True, [], {}],
    Rate: [1, 1.5, True, "1,5", "-1", "+1", "1" + "0" * 30, "NaN", "Infinity", "1e3", "", " ", "١", HALF, []],
    Moment: [
        f"{EARLY}T00:00:00Z",
        f"{LATE}T00:00:00Z",
        "2026-02-30T00:00:00Z",
        LATE,
        "2026-03-01T12:00:00",
        17,
        "",
        HALF,
    ],
    Day: [EARLY, LATE, "2026-02-30", "2026-03-01T00:00:00Z", "today", 20260301, True, "", HALF, []],
    Whole: ["1", "1,000", 1.0, 1.5, True, 10**30, -(10**30), "", HALF, [], {}],
    Flag: ["true", 1, 0, "", HALF, []],
    serializers.ChoiceField: ["no such thing", 1, True, "x" * 10_000, HALF, [], {}],
    serializers.ListField: ["x", 1, True, {"0": 1}, [None], [[]], [10**30], [HALF], list(range(-1, 100_000))],
    serializers.CharField: [1, 1.5, True, [], {}, "a\x00b", HALF, "x" * 100_000],
}
REFUSED_IN_QUERIES: dict[type[Any], list[str]] = {
    Moment: [TOO_EARLY, TOO_LATE, "2026-03-01", "yesterday", ""],
    Day: [EARLY, LATE, "2026-02-30", "today", ""],
    serializers.IntegerField: ["-1", "0", "1.5", "x", "1" + "0" * 30, "", "NaN"],
    serializers.BooleanField: ["2", "maybe", ""],
    serializers.ChoiceField: ["no such thing", ""],
    serializers.CharField: ["", "a\x00b", "x" * 10_000],
}
NO_AMOUNTS = ["12,99", "-1.00", "1" + "0" * 30, "NaN", "12.999", HALF]
EVERY = [OPERATIONS[operation.name] for operation in described.operations()]
OF_BODIES = [declared for declared in EVERY if declared.body is not NoFields]
OF_QUERIES = [declared for declared in EVERY if declared.query is not NoFields]


def name_of(operation: Operation) -> str:
    return operation.name


def values(table: dict[type[Any], list[Any]], field: Any) -> Iterator[Any]:
    if isinstance(field, FileField):
        return
    yield from next(found for kind, found in table.items() if isinstance(field, kind))


def refused(kind: type[serializers.Serializer[Any]], sent: dict[str, Any]) -> set[str]:
    """The fields that a refusal names."""
    try:
        read(kind, sent)
    except InvalidRequest as refusal:
        return set(map(str, refusal.detail))
    return set()


@pytest.mark.parametrize("operation", OF_BODIES, ids=name_of)
def test_no_field_of_a_body_takes_another_form(operation: Operation):
    example = getattr(operation.body, "example", {})

    taken = [
        (name, str(value)[:40].encode(errors="replace"))
        for name, field in operation.body().fields.items()
        for value in values(REFUSED, field)
        if refused(operation.body, {**example, name: value}) != {name}
    ]

    assert taken == []


@pytest.mark.parametrize("operation", OF_QUERIES, ids=name_of)
def test_no_parameter_takes_another_form(operation: Operation):
    required = {name: "2026-03-15" for name, field in operation.query().fields.items() if field.required}

    taken = [
        (name, value)
        for name, field in operation.query().fields.items()
        for value in values(REFUSED_IN_QUERIES, field)
        if refused(operation.query, {**required, name: value}) != {name}
    ]

    assert taken == []


def amounts() -> list[tuple[Described, str]]:
    """Every amount that any operation takes."""
    return [
        (operation, name)
        for operation in described.operations()
        for name, field in OPERATIONS[operation.name].body().fields.items()
        if isinstance(field, Amount)
    ]


@pytest.mark.django_db
def test_no_amount_is_taken_that_the_currency_does_not_have():
    world = World()
    assert len(amounts()) > 8
    for operation, name in amounts():
        for amount in NO_AMOUNTS:
            body = {**described.own_body(operation, world), name: amount}

            answer = ask(world, operation, body=body)

            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_amount"), (operation, name, amount)
            assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{name}"]
