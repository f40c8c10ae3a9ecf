"""The one place that writes to standard output and standard error: what others chose, such as names of users and texts
of services, stays text there. It is never markup, never a line of its own, never a command to the terminal."""

import errno
import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.table import Table as RichTable
from rich.text import Text

from farthing_kit.labels import escaped

# Into a file or a pipe there is no width to fit; a table is not cut there.
PIPE_COLUMNS = 160

__all__ = ["PIPE_COLUMNS", "Console", "Table", "Text", "complain", "console", "say", "say_json", "stream"]


class Table(RichTable):
    """A table that goes on in the next line of a cell where the terminal is too narrow: an amount is never cut."""

    def add_column(self, header: Any = "", footer: Any = "", *, overflow: Any = "fold", **options: Any) -> None:
        """One more column."""
        super().add_column(header, footer, overflow=overflow, **options)


class Console(RichConsole):
    """Draws tables and bars. A string is shown as it is, square brackets and colons too; what would break a line or a
    terminal is written as its number. Layout of our own is a `Text`, which is not touched."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Where rich turns every string into what it draws: cells, titles, and lines."""
        return super().render_str(escaped(text), **options)


def console() -> Console:
    """The terminal, or something wide."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PIPE_COLUMNS)


def say(text: str) -> None:
    """Write one line to standard output, at once."""
    _write(sys.stdout, f"{escaped(text)}\n")


def say_lines(lines: Sequence[str]) -> None:
    """Write some lines."""
    for line in lines:
        say(line)


def complain(text: str) -> None:
    """Write one line to standard error."""
    _write(sys.stderr, f"farthing: {escaped(text)}\n")


def say_json(value: object, indent: int | None = 2) -> None:
    """Write one value for programs. On one line, nothing but its end is a separator of lines to anybody."""
    readable = indent is not None and (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    _write(sys.stdout, f"{_escaped_lines(json.dumps(value, ensure_ascii=not readable, indent=indent))}\n")


def stream(text: str) -> None:
    """Write a piece of a text as it comes, such as an answer: exactly into a file or a pipe; on a terminal without
    what would command it."""
    _write(sys.stdout, _escaped_lines(text) if sys.stdout is not None and sys.stdout.isatty() else text)


def _escaped_lines(text: str) -> str:
    """A text with its lines and tabs."""
    return "\n".join("\t".join(map(escaped, line.split("\t"))) for line in text.split("\n"))


def _write(out: TextIO | None, text: str) -> None:
    if out is None:  # it was closed before the command began
        raise OSError(errno.EBADF, "standard output or standard error is closed")
    out.write(text)
    out.flush()
