"""What goes wrong, as exceptions: one class for each exit code of the command `sdc`."""

from __future__ import annotations

import json
from typing import Any


class Error(Exception):
    """Why something was not done. Catch this to catch all of sdc's exceptions.

    `exit_code` is what the command `sdc` would end with. `problems` says everything that is wrong, one dict for each kind of thing, with the
    keys `code`, `message`, `notes`, `help`, `fix` and `nodes`. `code`, `node`, `shapes` and `help` are those of the first problem.
    """

    exit_code: int = 70

    def __init__(self, message: str = "", problems: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.problems: list[dict[str, Any]] = problems or [
            {"code": None, "message": message, "notes": [], "help": None, "fix": [], "nodes": None}
        ]
        first = self.problems[0]
        nodes = first["nodes"] or {"names": [], "operands": []}
        #: Stable code such as ``E0201``, or None.
        self.code: str | None = first["code"]
        #: Name of the model's node that the problem is about, or None.
        self.node: str | None = next(iter(nodes["names"]), None)
        #: The node's operands with element types and shapes, such as ``x: f32[1,3]``, or None.
        self.shapes: str | None = next(iter(nodes["operands"]), None)
        #: What would help, or None.
        self.help: str | None = first["help"]

    def __reduce__(self) -> Any:
        return type(self), (self.args[0], self.problems)


class UsageError(Error, ValueError):
    """Wrong use, or a file that cannot be read or written (exit code 2)."""

    exit_code = 2


class MalformedError(Error, ValueError):
    """A file that breaks its format's rules (exit code 3)."""

    exit_code = 3


class UnsupportedError(Error, NotImplementedError):
    """The input is fine, but sdc cannot do it (exit code 4)."""

    exit_code = 4


class LimitError(Error):
    """A size exceeds a limit (exit code 5)."""

    exit_code = 5


class CancelledError(Error):
    """The work was stopped (exit code 2)."""

    exit_code = 2


class BugError(Error, RuntimeError):
    """A bug in sdc; please report it with the message and the model (exit code 70)."""

    exit_code = 70


_CLASSES = {
    "usage": UsageError,
    "malformed": MalformedError,
    "unsupported": UnsupportedError,
    "limit": LimitError,
    "cancelled": CancelledError,
    "bug": BugError,
}


def _clean(text: str) -> str:
    """Names come from the model, which may hold anything: control characters would reach the terminal."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(problem: dict[str, Any]) -> str:
    code = problem["code"] + " " if problem["code"] else ""
    lines = [code + problem["message"], *problem["notes"]]
    if problem["help"]:
        lines.append("help: " + problem["help"])
    return _clean("\n".join(lines))


def build(kind: str, problems: str | list[dict[str, Any]]) -> Error:
    """The exception for problems (as JSON, or read already) of a kind."""
    read = json.loads(problems) if isinstance(problems, str) else problems
    text = "\n".join(_text(problem) for problem in read)
    if len(read) > 1:
        text += f"\n{len(read)} problems"
    return _CLASSES[kind](text, read)


def usage(message: str, help: str | None = None) -> UsageError:
    """Wrong use, and what would help."""
    problem = {"code": None, "message": message, "notes": [], "help": help, "fix": [], "nodes": None}
    error = build("usage", [problem])
    assert isinstance(error, UsageError)
    return error
