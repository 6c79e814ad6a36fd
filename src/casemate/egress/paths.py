"""Paths of requests and the patterns of rules: compared in every way a server could read them.

Servers differ on dot segments, doubled slashes and backslashes, and a path that holds one is no path
at all where a rule's path decides. They differ, too, on encoded slashes and on parameters after a
semicolon, which honest programs send: such a path is allowed only if each of its readings is, and
denied if one of them is. Source: RFC 3986 sections 3.3 and 6.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from casemate.errors import RefusedError

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_SLASH = re.compile("%2[fF]")
_TWICE = re.compile(r"%(?:2[eEfF]|3[bB]|5[cC]|00)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PARAMETERS = re.compile(r";[^/]*")
_UNSPELLABLE = re.compile(r"[^A-Za-z0-9\-._~!$&'()+,;=:@/]+")


def readings(path: str) -> tuple[str, ...]:
    """What servers may take a path (without its query) for: decoded, for comparison alone.

    One reading, but for encoded slashes (kept or decoded) and parameters (kept or left out). Raises
    `RefusedError` (code "path") for a path that is not what it seems.
    """
    if path == "*":
        return (path,)
    whole = _decoded(path, path)
    found = [whole]
    if _SLASH.search(path):
        found.append("%2f".join(_decoded(piece, path) for piece in _SLASH.split(path)))
    # A server that decodes twice must not find more than was seen here.
    if not whole.startswith("/") or "\\" in whole or _TWICE.search(whole):
        raise _refuse(path)
    if ";" in whole:
        found += [_PARAMETERS.sub("", reading) for reading in found]
    for reading in found:
        *inner, last = reading[1:].split("/")
        if last in (".", "..") or any(segment in ("", ".", "..") for segment in inner):
            raise _refuse(path)
    return tuple(dict.fromkeys(found))


def spelled(path: str) -> str:
    """The narrowest pattern that matches every reading of a path; "" where none can.

    What a rule cannot spell is a star in it.
    """
    if path == "*":
        return "/**"
    try:
        ways = readings(path)
    except RefusedError:
        return ""
    if len(ways) == 1:
        return _UNSPELLABLE.sub("*", ways[0])
    shared: list[str] = []
    for segments in zip(*(way.split("/") for way in ways), strict=False):
        if len(set(segments)) > 1:
            break
        shared.append(_UNSPELLABLE.sub("*", segments[0]))
    return "/".join([*shared, "**"])


def _decoded(text: str, path: str) -> str:
    """Text with its escapes decoded; overlong and other invalid UTF-8 is refused."""

    def decode(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            raise _refuse(path)
        return bytes.fromhex(found[1].decode("ascii"))

    plain = text
    if "%" in text or not text.isascii():
        try:
            plain = _ESCAPE.sub(decode, text.encode("latin-1")).decode("utf-8")
        except UnicodeError as error:
            raise _refuse(path) from error
    if _CONTROL.search(plain):
        raise _refuse(path)
    return plain


def matches(pattern: str, path: str) -> bool:
    """Whether a reading matches: `*` stands for any characters within a segment, `**` for any
    number of segments. The time is at most the product of the two lengths."""
    start, segments = _compiled(pattern)
    if not path.startswith(start):
        return False
    if path == "*":
        return pattern == "/**"
    return _glob(segments, path[1:].split("/"), "**", _segment)


def matches_loosely(pattern: str, path: str) -> bool:
    """As `matches`, as the most forgiving server compares: whatever the case of letters, and with
    a slash at the end or without. For rules that deny."""
    pattern, path = pattern.lower(), path.casefold()
    return matches(pattern, path) or (path.endswith("/") and matches(pattern, path[:-1] or "/"))


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> tuple[str, Sequence[str]]:
    """What every path that matches begins with, and the segments."""
    start = pattern.partition("*")[0] if pattern != "/**" else ""
    return start.removesuffix("/"), pattern[1:].split("/")


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


def _refuse(path: str) -> RefusedError:
    return RefusedError(
        f"servers may understand the path {path[:200]!a} differently, so no path rule can hold",
        code="path",
        hint='send it without ".", "..", "//", backslashes and escapes of escapes',
    )
