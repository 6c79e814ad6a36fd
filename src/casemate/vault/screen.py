"""Bodies on their way: secrets found, exchanged or taken out, however the pieces are cut.

What could be the beginning of a match at the end of a piece is held back until the next one
tells, and nothing else is; so a match is never passed in two halves, and a stream never stalls on
bytes that cannot be one.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

INFLATED_MAX = 1 << 30
"""Bytes that a compressed body may become; one that grows further is refused."""
_STEP = 256 << 10


class Finder:
    """Finds any of some needles in a stream, and replaces those that have a replacement.

    `pairs` are (needle, replacement or None for "refuse", what it is).
    """

    def __init__(self, pairs: Sequence[tuple[bytes, bytes | None, str]]) -> None:
        self._pairs = [pair for pair in pairs if pair[0]]
        self._longest = max((len(needle) for needle, _, _ in self._pairs), default=0)
        self._held = b""

    def feed(self, data: bytes, *, last: bool = False) -> tuple[bytes, str]:
        """What may go on, and what was found that may not ("" for nothing)."""
        data = self._held + data
        self._held = b""
        for needle, replacement, what in self._pairs:
            if needle in data:
                if replacement is None:
                    return b"", what
                data = data.replace(needle, replacement)
        if last:
            return data, ""
        held = self._beginning(data)
        if held:
            self._held = data[-held:]
            data = data[:-held]
        return data, ""

    def _beginning(self, data: bytes) -> int:
        """The length of the longest end of `data` that a needle begins with."""
        tail = data[-self._longest :] if self._longest else b""
        longest = 0
        for needle, _, _ in self._pairs:
            first = needle[:1]
            at = tail.find(first, max(0, len(tail) - len(needle) + 1))
            while at >= 0:
                size = len(tail) - at
                if size <= longest:
                    break
                if needle.startswith(tail[at:]):
                    longest = size
                    break
                at = tail.find(first, at + 1)
        return longest


class Inflater:
    """Unpacks a gzip or deflate stream as it passes, to look into it."""

    def __init__(self, encoding: bytes) -> None:
        self._unpack = zlib.decompressobj(wbits=47 if encoding != b"deflate" else 15)
        self._total = 0
        self.failed = False

    def feed(self, data: bytes) -> bytes | None:
        """The content of the next piece; None where it grew beyond every measure. A stream that
        makes no sense unpacks to nothing: nobody else can read it either."""
        if self.failed:
            return b""
        pieces = []
        try:
            while data:
                piece = self._unpack.decompress(data, _STEP)
                pieces.append(piece)
                self._total += len(piece)
                if self._total > INFLATED_MAX:
                    return None
                data = self._unpack.unconsumed_tail
        except zlib.error:
            self.failed = True
        return b"".join(pieces)


PACKED = (b"gzip", b"x-gzip", b"deflate")
