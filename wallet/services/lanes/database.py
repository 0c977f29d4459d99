"""The way from an event loop to the database."""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async

P = ParamSpec("P")
T = TypeVar("T")


def in_database(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """The function on the thread that owns the database connection."""
    return sync_to_async(function, thread_sensitive=True)
