"""One output stream of a command, between the descriptor it is read from and whoever wants it.

While nobody waits for the command's end, at most `AHEAD` bytes are read ahead: a consumer slower
than the command slows the command, as with any pipe. Once somebody does, everything is read, kept
up to the cap and dropped beyond it, so that the command always gets on and memory has a bound.
"""

from __future__ import annotations

import codecs
import os

AHEAD = 1 << 20
"""Bytes kept for a consumer before reading pauses."""

OUTPUT_MAX = 64 << 20
"""Bytes of one stream kept for a result unless told otherwise."""

LINE_MAX = 1 << 20
"""Bytes after which a line is handed out in pieces."""

READ = 1 << 16
PIPE_MAX = 1 << 20
"""Bytes a pipe can hold at the most: /proc/sys/fs/pipe-max-size. pipe(7)"""


class Output:
    """The bytes of one stream. Not thread-safe: the dispatcher's lock is held around each call."""

    __slots__ = (
        "_chunks",
        "_kept",
        "cap",
        "collecting",
        "descriptor",
        "ended",
        "name",
        "truncated",
    )

    def __init__(self, name: str, descriptor: int, cap: int) -> None:
        self.name = name
        self.descriptor = descriptor
        """-1 once the stream is closed."""
        self.cap = cap
        self.collecting = False
        """True once somebody waits for the end: nothing is held back any more."""
        self.ended = False
        self.truncated = False
        self._chunks: list[bytes] = []
        self._kept = 0

    @property
    def paused(self) -> bool:
        """Whether reading has to wait for a consumer."""
        return not self.collecting and self._kept >= AHEAD

    @property
    def holds(self) -> bool:
        """Whether there are bytes to take."""
        return bool(self._chunks)

    @property
    def ready(self) -> bool:
        """Whether `take` has an answer: bytes, or the end."""
        return bool(self._chunks) or self.ended

    def fill(self) -> int:
        """Reads what is there, once; the number of bytes. The descriptor must not block."""
        try:
            data = os.read(self.descriptor, READ)
        except BlockingIOError:
            return 0
        except OSError:
            # EIO: nobody holds the other end of a terminal any more. pty(7)
            data = b""
        if not data:
            self.ended = True
        kept = data[: max(0, self.cap - self._kept)] if self.collecting else data
        if len(kept) < len(data):
            self.truncated = True
        if kept:
            self._chunks.append(kept)
            self._kept += len(kept)
        return len(data)

    def drain(self) -> None:
        """Reads what is there now and ends the stream; what comes later is not waited for."""
        self.collecting = True
        taken = 0
        while not self.ended and taken <= PIPE_MAX:
            count = self.fill()
            taken += count
            if not count:
                break
        self.ended = True

    def take(self) -> bytes:
        """What was read and not taken yet; empty at the end."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._kept = 0
        return data

    def close(self) -> None:
        """Closes the descriptor; what was read stays."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.ended = True


class Lines:
    """Cuts bytes into lines of text, each with its newline; the last one may lack it."""

    def __init__(self, encoding: str) -> None:
        self._decode = codecs.getincrementaldecoder(encoding)("backslashreplace").decode
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes; with no data, the end, what is left."""
        text = self._rest + self._decode(data, not data)
        lines = text.split("\n")
        self._rest = lines.pop()
        whole = [line + "\n" for line in lines]
        if self._rest and (not data or len(self._rest) > LINE_MAX):
            whole.append(self._rest)
            self._rest = ""
        return whole
