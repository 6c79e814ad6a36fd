"""Paths of requests and the patterns of rules: compared in one normal form, tricks refused.

Servers differ on dot segments, doubled and encoded slashes, backslashes and parameters. Where a
rule's path decides, a path that two servers could resolve differently is no path at all. Source:
RFC 3986 sections 3.3 and 6.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from casemate.errors import RefusedError

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_TWICE = re.compile(r"%(?:2[eEfF]|5[cC]|00)")


def normal_path(path: str, allow: str) -> str:
    """The path with its escapes decoded, for comparison alone.

    Raises `RefusedError` (code "path") for one that is not what it seems.
    """

    def decode(found: re.Match[str]) -> str:
        if found[1] is None:
            raise _refuse(path, allow)
        character = chr(int(found[1], 16))
        if character in "/\\" or character < " " or character == "\x7f":
            raise _refuse(path, allow)
        return character

    decoded = _ESCAPE.sub(decode, path) if "%" in path else path
    if path == "*":
        return path
    # A server that decodes twice must not find more than was seen here.
    if not decoded.startswith("/") or "\\" in decoded or _TWICE.search(decoded):
        raise _refuse(path, allow)
    segments = decoded[1:].split("/")
    for number, segment in enumerate(segments):
        name = segment.partition(";")[0]
        if name in (".", "..") or (not name and (segment or number != len(segments) - 1)):
            raise _refuse(path, allow)
    return decoded


def matches(pattern: str, path: str) -> bool:
    """Whether a normal path matches: `*` stands for any characters within a segment, `**` for any
    number of segments. The time is at most the product of the two lengths."""
    return _glob(_segments(pattern), path[1:].split("/"), "**", _segment)


@lru_cache(maxsize=4096)
def _segments(pattern: str) -> Sequence[str]:
    return pattern[1:].split("/")


def _segment(pattern: str, text: str) -> bool:
    if "*" not in pattern:
        return pattern == text
    return _glob(pattern, text, "*", str.__eq__)


def _glob(
    pattern: Sequence[str], text: Sequence[str], star: str, same: Callable[[str, str], bool]
) -> bool:
    """Greedy matching that only ever goes back to the last star."""
    at = back = 0
    last = -1
    position = 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == star:
            last, back = at, position
            at += 1
        elif at < len(pattern) and same(pattern[at], text[position]):
            at += 1
            position += 1
        elif last >= 0:
            back += 1
            at, position = last + 1, back
        else:
            return False
    return all(piece == star for piece in pattern[at:])


def _refuse(path: str, allow: str) -> RefusedError:
    return RefusedError(
        f"servers may understand the path {path!a} differently, so no path rule can hold",
        code="path",
        allow=allow,
        hint='send it without ".", "..", "//", encoded slashes and backslashes',
    )
