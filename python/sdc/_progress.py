"""Progress of long work, as a line on standard error or as calls of a function."""

from __future__ import annotations

import sys
from typing import Callable, Union

#: True for a line on standard error, or a function of what is done, the steps done and those there are (None where steps cannot be counted).
Progress = Union[bool, Callable[[str, "int | None", "int | None"], None]]


def _line(what: str, done: int | None, total: int | None) -> None:
    share = f" {done}/{total}" if total else ""
    sys.stderr.write(f"\r\x1b[K{what}{share}" if sys.stderr.isatty() else "")
    sys.stderr.flush()


class Teller:
    """Calls back while work goes on, and clears the line after it."""

    def __init__(self, progress: Progress) -> None:
        self.call = _line if progress is True else (progress or None)

    def __enter__(self) -> Callable[..., None] | None:
        return self.call

    def __exit__(self, *_: object) -> None:
        if self.call is _line and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
