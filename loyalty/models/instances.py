"""Model instances from statements that are written out: compiling them costs a till more than the database does."""

import itertools
from collections.abc import Iterator
from typing import Any, TypeVar

from django.db import connection, models

M = TypeVar("M", bound=models.Model)


def column_names(*kinds: type[models.Model]) -> str:
    """What to select, in the order in which `read` takes it."""
    return ", ".join(f"{kind._meta.db_table}.{field.column}" for kind in kinds for field in kind._meta.concrete_fields)


def read(kind: type[M], values: Iterator[Any]) -> M:
    """The instance of a row's next columns."""
    names = [field.attname for field in kind._meta.concrete_fields]
    return kind.from_db(connection.alias, names, list(itertools.islice(values, len(names))))


def read_if_any(kind: type[M], values: Iterator[Any]) -> M | None:
    """The same, or None where a LEFT JOIN found no row."""
    found = read(kind, values)
    return None if found.pk is None else found
