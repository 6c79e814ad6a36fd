"""HTTP/1.1 bodies, taken apart as they come. Source: RFC 9112 section 7."""

from __future__ import annotations

import re

from casemate.egress.http1 import HEADER, HEADERS_MAX, Header
from casemate.egress.model import MalformedError

LINE_MAX = 4096
TRAILER_MAX = 16 << 10

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t -~\x80-\xff]*)?")


class BodyReader:
    """Decodes one body. `feed` takes what came and gives the content in it; `done` and `rest` tell
    where the body ended.

    `length` None and not `chunked` means until the connection closes. Chunk extensions are
    dropped; trailers are kept in `trailers`.
    """

    __slots__ = ("_buffer", "_chunked", "_left", "_state", "done", "rest", "trailers")

    def __init__(self, length: int | None, chunked: bool) -> None:
        self._chunked = chunked
        self._left = length
        self._state = "size"
        self._buffer = b""
        self.trailers: list[Header] = []
        self.rest = b""
        self.done = length == 0 and not chunked

    def feed(self, data: bytes) -> bytes:
        """The content in the next piece. Raises `MalformedError`."""
        if self.done:
            self.rest += data
            return b""
        if self._chunked:
            return self._chunks(data)
        if self._left is None:
            return data
        content = data if len(data) <= self._left else data[: self._left]
        self._left -= len(content)
        if self._left == 0:
            self.done = True
            self.rest = data[len(content) :]
        return content

    def end(self) -> None:
        """The connection closed. Raises `MalformedError` if the body was not complete."""
        if not self.done and (self._chunked or self._left is not None):
            raise MalformedError("HTTP: the body ended early")
        self.done = True

    def _chunks(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        at = 0
        while not self.done:
            if self._state == "data":
                assert self._left is not None
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    return b"".join(pieces)
                self._state = "end"
            line = self._line(data, at)
            if line is None:
                self._buffer = data[at:]
                return b"".join(pieces)
            at += len(line) + 2
            self._take(line)
        self.rest = data[at:]
        return b"".join(pieces)

    def _line(self, data: bytes, at: int) -> bytes | None:
        end = data.find(b"\n", at)
        limit = TRAILER_MAX if self._state == "trailer" else LINE_MAX
        if end < 0:
            if len(data) - at > limit:
                raise MalformedError("HTTP: a line in a chunked body is too long")
            return None
        if end - at > limit or end == at or data[end - 1] != 13:
            raise MalformedError("HTTP: a chunked body makes no sense")
        return data[at : end - 1]

    def _take(self, line: bytes) -> None:
        if self._state == "end":
            if line:
                raise MalformedError("HTTP: a chunk is longer than it said")
            self._state = "size"
        elif self._state == "size":
            found = _CHUNK.fullmatch(line)
            if found is None:
                raise MalformedError("HTTP: the size of a chunk makes no sense")
            self._left = int(found[1], 16)
            self._state = "data" if self._left else "trailer"
        elif not line:
            self.done = True
        else:
            header = HEADER.fullmatch(line)
            if header is None or len(self.trailers) >= HEADERS_MAX:
                raise MalformedError("HTTP: a trailer makes no sense")
            self.trailers.append((header[1], header[2]))


def chunk(data: bytes) -> bytes:
    """One chunk with this content; empty content gives nothing, as it would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: list[Header]) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n" + b"".join(b"%s: %s\r\n" % header for header in trailers) + b"\r\n"
