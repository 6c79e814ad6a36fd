"""The style of the native programs: short, without an allocator, every failure handled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import tree

FILE_LINES = 400
FUNCTION_LINES = 70
COLUMNS = 100
BANNED = {
    "std.heap": "memory is reserved at compile time or mapped once, with a limit",
    "std.debug.print": "the supervisor reports through the protocol",
    "std.c.": "there is no libc",
    "linkLibC": "there is no libc",
    "@cImport": "there is no libc",
    "catch unreachable": "a failure that cannot happen is still handled: fail closed",
    "TODO": "unfinished work does not ship",
    "FIXME": "unfinished work does not ship",
    "XXX": "unfinished work does not ship",
}
# Calls that fail only where what they were to bring about is already so.
DROPPABLE = {"close", "kill", "munmap", "nanosleep", "umask"}
SOURCES = tree.zig_sources()

each_source = pytest.mark.parametrize("path", SOURCES, ids=[path.name for path in SOURCES])


@each_source
def test_files_are_short(path: Path) -> None:
    """No file is over 400 lines and no line over 100 columns, and it opens with what it is for."""
    lines = path.read_text().splitlines()

    assert lines[0].startswith("//!")
    assert len(lines) <= FILE_LINES
    assert not [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS]


@each_source
def test_functions_are_short(path: Path) -> None:
    """No function is over 70 lines."""
    too_long = []
    start = indent = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if start is None and (match := re.match(r"( *)(pub |export |inline )*fn \w+", line)):
            # A function on one line, or one without a body, ends where it begins.
            if not line.rstrip().endswith(("}", ";")):
                start, indent = number, match[1]
        elif start is not None and line == f"{indent}}}":
            if number - start + 1 > FUNCTION_LINES:
                too_long.append(f"{path.name}:{start}: {number - start + 1} lines")
            start = None

    assert start is None, f"{path.name}:{start}: no end of function found"
    assert not too_long


@each_source
def test_banned_constructs(path: Path) -> None:
    """What the style forbids does not occur outside comments, and unfinished work nowhere."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.partition("//")[0]
        for banned, reason in BANNED.items():
            if banned in (line if banned.isupper() else code):
                found.append(f"{path.name}:{number}: {banned}: {reason}")

    assert not found


@each_source
def test_failures_are_handled(path: Path) -> None:
    """A result or error that is dropped either cannot matter or has a comment that says why."""
    lines = path.read_text().splitlines()
    silent = [
        f"{path.name}:{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if (match := re.search(r"\b_ = linux\.(?:raw\(\.)?(\w+)|catch \{\}", line))
        and match[1] not in DROPPABLE
        and "//" not in line
        and not lines[number - 2].strip().startswith("//")
    ]

    assert not silent
