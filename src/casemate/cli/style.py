"""How reports look: colour on a terminal, plain text in a pipe, and names that cannot lie."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import IO

from casemate.policy.units import format_duration
from casemate.workspace.names import display

COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36, "bold": 1, "dim": 2}


class Style:
    """What one output stream can show."""

    def __init__(self, stream: IO[str], *, colour: bool | None = None) -> None:
        self.stream = stream
        self.terminal = _is_terminal(stream)
        self.colour = wants_colour(self.terminal) if colour is None else colour
        self.width = max(40, shutil.get_terminal_size().columns) if self.terminal else 100

    def paint(self, text: str, *names: str) -> str:
        """The text in colours, where there are any."""
        if not self.colour or not names or not text:
            return text
        codes = ";".join(str(COLOURS[name]) for name in names)
        return f"\x1b[{codes}m{text}\x1b[0m"

    def fit(self, text: str, room: int) -> str:
        """The text, cut to as many columns."""
        return text if len(text) <= room else text[: max(0, room - 1)] + "…"

    def wrap(self, text: str, indent: str, *, hanging: str | None = None) -> list[str]:
        """The text in lines that fit the terminal."""
        return textwrap.wrap(
            text,
            self.width - 1,
            initial_indent=indent,
            subsequent_indent=indent if hanging is None else hanging,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def table(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """Rows in columns; on a terminal the last one gives way. The first row is the head."""
        listed = [tuple(row) for row in rows]
        widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
        lines = []
        for number, row in enumerate(listed):
            cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
            room = self.width - sum(len(cell) + 2 for cell in cells)
            last = self.fit(row[-1], max(10, room)) if self.terminal else row[-1]
            line = "  ".join((*cells, last)).rstrip()
            lines.append(self.paint(line, "bold") if number == 0 else line)
        return lines

    def print(self, *lines: str) -> None:
        """Writes lines."""
        self.stream.write("".join(f"{line}\n" for line in lines))


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def wants_colour(terminal: bool) -> bool:
    """Whether colours are wanted. Sources: no-color.org, force-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return terminal and os.environ.get("TERM", "") not in ("", "dumb")


def print_json(value: object) -> None:
    """One JSON document on standard output; odd bytes of names survive as surrogate escapes."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def count(number: int, noun: str) -> str:
    """A number with its noun, as in "3 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(number: int) -> str:
    """A number of bytes in the unit that suits it."""
    amount = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def age(seconds: float) -> str:
    """How long ago, in one unit."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            return f"{count(int(seconds // unit), name)} ago"
    return "just now"


def command_line(words: Iterable[str]) -> str:
    """A command for people: words that need it are quoted, nothing a terminal obeys is left."""
    return " ".join(shlex.quote(word) if word.isprintable() else display(word) for word in words)


__all__ = [
    "Style",
    "age",
    "command_line",
    "count",
    "display",
    "format_duration",
    "print_json",
    "size",
    "wants_colour",
]
