"""Doing something in many threads at once, each with a database connection of its own."""

import threading
from collections.abc import Callable

from django.db import connection


def in_parallel(work: Callable[[int], None], number: int) -> None:
    """Call `work(0)`, `work(1)`, ... at the same moment and wait for all of them. A failure fails the test."""
    start = threading.Barrier(number)

    def begin_together(n: int) -> None:
        try:
            start.wait()
            work(n)
        finally:
            connection.close()

    threads = [threading.Thread(target=begin_together, args=[n]) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
