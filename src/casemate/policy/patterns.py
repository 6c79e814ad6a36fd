"""Patterns over paths in a project root, with exactly the semantics of gitignore(5).

A pattern is split once, here, and matched by two implementations: `Matcher` below and the
supervisor's. Both follow this algorithm, on bytes:

1. A path is a sequence of components. Take its prefixes from the shortest on: every proper prefix
   is a directory, the whole path is one if `is_directory` says so.
2. For each prefix look for the last pattern in the list that matches it. A pattern with
   `directory_only` matches directories alone. If that last pattern is not negated, the path is
   matched and the search ends: nothing below a matched directory can be taken back. If it is
   negated, or if no pattern matches, go on with the next prefix.
3. A pattern matches a prefix if its segments can be laid over all of its components in order:
   the segment `**` covers any number of components, none included, except as the last segment,
   where it covers at least one; any other segment covers one component.
4. Within a component `*` is any run of bytes, `?` one byte, `[...]` one byte of a set (`!` or `^`
   first negates it, `a-z` is a range, `[:alpha:]` and so on are the ASCII classes, a `]` that
   comes first is itself), `\\` takes the next byte literally, and every other byte is itself.

A pattern that git accepts but that can never match is refused: a rule that silently does nothing
is worse than an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache

from casemate.errors import PolicyError
from casemate.policy.model import DEFAULT_ORIGIN, Origin, Pattern

LENGTH_MAX = 1024
"""Characters of one pattern."""

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\x09-\x0d\x20",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def parse_pattern(text: str, origin: Origin = DEFAULT_ORIGIN) -> Pattern:
    """Split one pattern. Raises `PolicyError` for one that is malformed or could never match."""
    if len(text) > LENGTH_MAX:
        raise PolicyError(f"a pattern is at most {LENGTH_MAX} characters")
    if "\0" in text or "\n" in text:
        raise PolicyError("a pattern cannot hold a zero byte or a line break")
    # One character a byte from here on: git, too, matches bytes.
    body = _strip_trailing_spaces(os.fsencode(text).decode("latin-1"))
    if body.startswith("#"):
        raise PolicyError("a pattern that starts with # is a comment", hint=f'write "\\\\{text}"')
    negated = body.startswith("!")
    body = body[1:] if negated else body
    directory_only = body.endswith("/")
    body = body[:-1] if directory_only else body
    anchored = "/" in body
    body = body.removeprefix("/")
    segments = tuple(os.fsdecode(segment.encode("latin-1")) for segment in _split(body))
    for segment in segments:
        if segment in ("", ".", ".."):
            raise PolicyError(
                f'"{text}" can never match: it has an empty, "." or ".." component',
                hint="patterns start at the project root, as in .gitignore",
            )
        _component_regex(segment)
    if not anchored:
        # Without a slash a run of asterisks is an ordinary wildcard for one name.
        segments = ("**", "*" if segments == ("**",) else segments[0])
    return Pattern(text, segments, negated, directory_only, origin)


def _strip_trailing_spaces(text: str) -> str:
    """As git reads a line: spaces at the end do not count unless a backslash precedes them."""
    end = len(text)
    while end and text[end - 1] == " ":
        backslashes = len(text[: end - 1]) - len(text[: end - 1].rstrip("\\"))
        if backslashes % 2:
            break
        end -= 1
    return text[:end]


def _split(body: str) -> tuple[str, ...]:
    """The segments of a pattern body; a slash within brackets is refused."""
    segments, start, position = [], 0, 0
    while position < len(body):
        character = body[position]
        if character == "\\":
            if body[position + 1 : position + 2] == "/":
                raise PolicyError("a backslash cannot escape a slash")
            position += 2
            continue
        if character == "[":
            _, end = _bracket(body, position)
            if "/" in body[position:end]:
                raise PolicyError("brackets cannot hold a slash: no file name contains one")
            position = end
            continue
        if character == "/":
            segments.append(body[start:position])
            start = position + 1
        position += 1
    segments.append(body[start:])
    return tuple(segments)


def _bracket(text: str, start: int) -> tuple[str, int]:
    """A bracket expression as a regular expression, and the position after it.

    Follows git's wildmatch.c step for step, odd corners included: `]` is a member when it comes
    first, `-` is one after a range or a class, and the low end of an empty range still counts.
    """
    position = start + 1
    negated = text[position : position + 1] in ("!", "^")
    position += negated
    members: list[str] = []
    previous = ""
    first = True
    while True:
        character = text[position : position + 1]
        if not character or (character == "\\" and position + 1 == len(text)):
            raise PolicyError(
                '"[" without its "]": the pattern can never match', hint=r'a plain [ is "\\["'
            )
        if character == "]" and not first:
            break
        first = False
        following = text[position + 1 : position + 2]
        close = text.find("]", position + 2) if character + following == "[:" else -1
        if character == "\\":
            position += 1
            previous = text[position]
            members.append(_escaped(previous))
        elif character == "-" and previous and following not in ("", "]"):
            position += 2 if following == "\\" else 1
            high = text[position : position + 1]
            if previous <= high:
                members.append(f"{_escaped(previous)}-{_escaped(high)}")
            previous = ""
        elif close != -1 and text[close - 1] == ":" and close > position + 2:
            name = text[position + 2 : close - 1]
            if name not in _CLASSES:
                raise PolicyError(f'unknown character class "[:{name}:]"')
            members.append(_CLASSES[name])
            position, previous = close, ""
        else:
            members.append(_escaped(character))
            previous = character
        position += 1
    return f"(?!/)[{'^' if negated else ''}{''.join(members)}]", position + 1


def _escaped(byte: str) -> str:
    return f"\\x{ord(byte):02x}" if byte else ""


@lru_cache(maxsize=4096)
def _component_regex(segment: str) -> bytes:
    """The regular expression of one segment, over one component of a joined path."""
    pieces: list[bytes] = []
    text, position = os.fsencode(segment).decode("latin-1"), 0
    starred = False
    while position < len(text):
        character = text[position]
        if character == "*":
            if starred:
                # The leftmost match of what stood between two stars is always good enough, so it
                # is never tried again: hostile names cannot make the search blow up.
                pieces.append(b")")
            while text[position : position + 1] == "*":
                position += 1
            pieces.append(b"(?>[^/]*?" if "*" in _wildcards(text, position) else b"(?:[^/]*")
            starred = True
            continue
        if character == "?":
            pieces.append(b"[^/]")
        elif character == "[":
            members, position = _bracket(text, position)
            pieces.append(members.encode("latin-1"))
            continue
        elif character == "\\":
            position += 1
            if position == len(text):
                raise PolicyError("a backslash at the end can never match", hint=r'write "\\\\"')
            pieces.append(re.escape(text[position]).encode("latin-1"))
        else:
            pieces.append(re.escape(character).encode("latin-1"))
        position += 1
    return b"".join(pieces) + (b")" if starred else b"")


def _wildcards(text: str, position: int) -> str:
    """The unescaped stars from `position` on, those within brackets left out."""
    found = []
    while position < len(text):
        if text[position] == "[":
            _, position = _bracket(text, position)
            continue
        if text[position] == "*":
            found.append("*")
        position += 2 if text[position] == "\\" else 1
    return "".join(found)


@lru_cache(maxsize=4096)
def _compile(segments: tuple[str, ...]) -> re.Pattern[bytes]:
    """One regular expression over the components joined by slashes."""
    pieces = [b"(?s:"]
    last = len(segments) - 1
    open_groups = 0
    for index, segment in enumerate(segments):
        if segment == "**" and index == last:
            pieces.append(b".+")
        elif segment == "**":
            if segments[index + 1] == "**":
                continue
            if "**" in segments[index + 1 : last]:
                pieces.append(b"(?>(?:[^/]+/)*?")
                open_groups += 1
            else:
                pieces.append(b"(?:[^/]+/)*")
        else:
            pieces.append(_component_regex(segment))
            if index == last:
                continue
            pieces.append(b"/")
            if open_groups and segments[index + 1] == "**":
                pieces.append(b")")
                open_groups -= 1
    return re.compile(b"".join(pieces) + b")")


class Matcher:
    """A list of patterns ready for many look-ups; remembers what it found for directories."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = [
            (_compile(pattern.segments).fullmatch, pattern) for pattern in reversed(patterns)
        ]
        self._directories: dict[bytes, Pattern | None] = {}

    def find(self, parts: Sequence[str | bytes], is_directory: bool) -> Pattern | None:
        """The pattern that matches the path or a directory above it, or None.

        `parts` are the components below the root, none of them empty, "." or "..".
        """
        if not self._patterns:
            return None
        names = [os.fsencode(part) for part in parts]
        for length in range(1, len(names) + 1):
            path = b"/".join(names[:length])
            found = self._last_match(path, length < len(names) or is_directory)
            if found is not None:
                return found
        return None

    def _last_match(self, path: bytes, is_directory: bool) -> Pattern | None:
        if is_directory and path in self._directories:
            return self._directories[path]
        found = None
        for fullmatch, pattern in self._patterns:
            if pattern.directory_only and not is_directory:
                continue
            if fullmatch(path):
                found = None if pattern.negated else pattern
                break
        if is_directory:
            self._directories[path] = found
        return found


def matches(
    patterns: Sequence[Pattern], parts: Sequence[str | bytes], is_directory: bool
) -> Pattern | None:
    """The pattern that matches one path, or None. For many paths make one `Matcher`."""
    return Matcher(patterns).find(parts, is_directory)
