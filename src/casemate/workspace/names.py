"""Names that came out of a sandbox: checked, kept in JSON, shown on a terminal.

Paths are bytes, as the kernel has them. In JSON they are UTF-8 with surrogate escapes (PEP 383),
so every byte string survives. On a terminal nothing but printable characters is ever written.
"""

from __future__ import annotations

MAX_PATH = 4095
"""Bytes in a path, PATH_MAX of limits.h less its terminator."""

MAX_COMPONENT = 255
"""Bytes in one component, NAME_MAX of limits.h."""

MAX_SHOWN_LINE = 2000
"""Characters of one line shown on a terminal; the rest is counted, not shown."""

_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def path_problem(path: bytes) -> str:
    """Why `path` is not a plain path beneath a root, or "" if it is one.

    Plain means relative, without empty, `.` and `..` components and without NUL. `.` by itself,
    the root, is plain.
    """
    if path == b".":
        return ""
    if not path:
        return "the path is empty"
    if len(path) > MAX_PATH:
        return f"the path is longer than {MAX_PATH} bytes"
    if b"\0" in path:
        return "the path holds a NUL byte"
    for component in path.split(b"/"):
        if component in (b"", b".", b".."):
            return "the path is absolute or holds an empty, `.` or `..` component"
        if len(component) > MAX_COMPONENT:
            return f"a path component is longer than {MAX_COMPONENT} bytes"
    return ""


def parent(path: bytes) -> bytes:
    """The path of the directory that holds `path`; `.` for the top level."""
    return path.rpartition(b"/")[0] or b"."


def ancestors(path: bytes) -> list[bytes]:
    """The directories above `path`, nearest first, without the root."""
    found = []
    above = path.rpartition(b"/")[0]
    while above:
        found.append(above)
        above = above.rpartition(b"/")[0]
    return found


def is_beneath(path: bytes, directory: bytes) -> bool:
    """Whether `path` is `directory` or lies in it."""
    return directory == b"." or path == directory or path.startswith(directory + b"/")


def to_text(path: bytes) -> str:
    """`path` as text that `to_bytes` turns back into the very same bytes, whatever the locale."""
    return path.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The inverse of `to_text`; text from elsewhere, as a command line, may be given too."""
    return text.encode("utf-8", "surrogateescape")


def parts(path: bytes) -> tuple[str, ...]:
    """The components of `path` as text; empty for the root."""
    return () if path == b"." else tuple(to_text(path).split("/"))


def display(path: bytes | str) -> str:
    """`path` fit for a terminal and for one line: as it is, or quoted with escapes.

    Everything that is not printable is escaped: control characters, bidirectional overrides,
    invisible characters, and bytes that are not UTF-8 (as `\\xNN`).
    """
    text = path if isinstance(path, str) else to_text(path)
    plain = text.isprintable() and '"' not in text and "\\" not in text
    if plain and text and text[0] != " " and text[-1] != " ":
        return text
    return '"' + "".join(_SHORT_ESCAPES.get(c) or _escape(c) for c in text) + '"'


def display_line(line: bytes) -> str:
    """One line of a file's content, without its newline, fit for a terminal. Tabs stay."""
    text = to_text(line[: 4 * MAX_SHOWN_LINE])
    shown = text[:MAX_SHOWN_LINE]
    if not shown.isprintable():
        shown = "".join("\t" if c == "\t" else _escape(c) for c in shown)
    hidden = len(line) - len(to_bytes(text[:MAX_SHOWN_LINE]))
    return f"{shown} [{hidden} more bytes]" if hidden > 0 else shown


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
