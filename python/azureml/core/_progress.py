"""One progress line on a terminal; nothing in a pipe or a notebook's log."""
import sys
import time
from typing import Any

WIDTH = 30
DRAW_SECONDS = 0.1


class Progress:
    """`total` steps of `what`; drawn on standard error when that is a terminal and `show` is true."""

    def __init__(self, what: str, total: int, show: bool = True, scale: int = 1, unit: str = "") -> None:
        """scale, unit: a number is shown divided by scale, followed by unit."""
        self._scale, self._unit = scale, unit
        self._what, self._total, self._done, self._drawn = what, total, 0, 0.0
        self._on = bool(show) and total > 0 and sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._on and self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def step(self, count: int = 1) -> None:
        """`count` more are done."""
        self.at(self._done + count, self._total)

    def at(self, done: int, total: int) -> None:
        """`done` of `total` are done."""
        self._done, self._total = done, total
        if not self._on or time.monotonic() - self._drawn < DRAW_SECONDS or not total:
            return
        self._drawn = time.monotonic()
        filled = WIDTH * min(done, total) // total
        sys.stderr.write("\r%s [%s%s] %d/%d%s\033[K" % (self._what, "#" * filled, "." * (WIDTH - filled), done // self._scale,
                                                        total // self._scale, self._unit))
        sys.stderr.flush()
