"""How far a long command is, on a terminal."""

from time import monotonic
from typing import TextIO

WIDTH = 30
SECONDS_BETWEEN_DRAWINGS = 0.1


class ProgressBar:
    """One line for each step, drawn again and again on a terminal; nothing where nobody watches.

    Call it with the name of the step, and how much of how much is done.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.shows = stream.isatty()
        self.step = ""
        self.began_at = self.drawn_at = 0.0
        self.done_before = 0

    def __call__(self, step: str, done: int, total: int) -> None:
        if not self.shows:
            return
        now = monotonic()
        if step != self.step:
            self.close()
            self.step, self.began_at, self.drawn_at, self.done_before = step, now, 0.0, done
        if now - self.drawn_at >= SECONDS_BETWEEN_DRAWINGS or done == total:
            self.drawn_at = now
            self.stream.write(f"\r{self._line(done, total, now - self.began_at)}")
            self.stream.flush()

    def close(self) -> None:
        """End the line, so that what is written next begins a new one."""
        if self.step:
            self.stream.write("\n")
        self.step = ""

    def _line(self, done: int, total: int, seconds: float) -> str:
        share = done / total if total else 1.0
        bar = "#" * int(share * WIDTH)
        rate = (done - self.done_before) / seconds if seconds > 0 else 0.0
        return f"{self.step:<10} [{bar:<{WIDTH}}] {share:4.0%}  {done:,} of {total:,}  {rate:,.0f}/s   "
