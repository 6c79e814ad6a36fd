"""The journal of one session: every decision as one line of JSON, each bound to the one before.

A line's "previous" is the SHA-256 of the bytes of the line before it, without the line break; the
first line's is all zeros. Who holds the last line's hash can tell that nothing was changed, left
out or put in. docs/journal.md describes the format, and how to check it with other tools.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from casemate.errors import CasemateError

VERSION = 1
SIZE_MAX = 256 << 20
"""Bytes of a whole journal. One that is full allows nothing any more."""
LINE_MAX = 16 << 10
"""Bytes of one line without its end."""
TEXT_MAX = 2048
"""Characters of one value; what is longer is cut, and says so."""
SHORT_TEXT_MAX = 64
"""The same for every value of a line that would be too long."""
REPEATED_MAX = 256
"""Different refusals that are told apart between two calls of `gather`."""
TIME_MAX = 253402300800
"""Seconds since 1970 at the end of the year 9999: what a reader takes for a time at the most."""

_START = "0" * 64

Value = str | int | float | bool | None


class JournalError(CasemateError):
    """A journal cannot be written, or was tampered with."""

    code = "journal"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a journal: how many lines, and the hash of the last one."""

    lines: int
    digest: str
    torn: bool = False
    """The last write was cut off by a crash; the lines before it are whole."""


class Journal:
    """A journal that is being written. Not thread-safe.

    A line is in the system's hands when `write` returns, and on the disk after the next `flush`.
    """

    def __init__(self, path: str, session: str, **first: Value) -> None:
        """Begin a journal; `first` is told in its first line. Raises `JournalError`."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            self._file = os.open(path, flags, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(f"the journal {path!r} cannot be begun: {error.strerror}") from error
        self.session = session
        self._lines = 0
        self._size = 0
        self._digest = _START
        self._dirty = False
        self._lost = False
        self._repeated: dict[tuple[Value, ...], tuple[dict[str, Value], int]] = {}
        self.write("begin", version=VERSION, **first)

    @property
    def head(self) -> Head:
        """Where the journal stands."""
        return Head(self._lines, self._digest)

    @property
    def full(self) -> bool:
        """Whether nothing more can be written, and so nothing may be allowed."""
        return self._file < 0 or self._lost or self._size >= SIZE_MAX

    def write(self, event: str, **fields: Value) -> None:
        """Append one line. Raises `JournalError`; a line that was not written was not decided."""
        if self.full:
            raise JournalError(
                "the journal of this session is full or cannot be written",
                hint="start a new session to go on",
            )
        self._append(event, fields)
        if self.full:
            self._append("full", {})

    def _append(self, event: str, fields: dict[str, Value]) -> None:
        data = self._line(event, fields, TEXT_MAX)
        if len(data) > LINE_MAX:
            data = self._line(event, fields, SHORT_TEXT_MAX)
        try:
            written = os.write(self._file, data + b"\n")
        except OSError as error:
            self._end()
            raise JournalError(f"the journal cannot be written: {error.strerror}") from error
        if written != len(data) + 1:
            self._end()
            raise JournalError("the journal cannot be written: the disk is full")
        self._digest = hashlib.sha256(data).hexdigest()
        self._lines += 1
        self._size += written
        self._dirty = True

    def _line(self, event: str, fields: dict[str, Value], longest: int) -> bytes:
        line: dict[str, Value] = {
            "n": self._lines,
            "time": round(time.time(), 6),
            "session": self.session,
            "event": event,
        }
        line |= {name: _cut(value, longest) for name, value in fields.items()}
        line["previous"] = self._digest
        return json.dumps(line, separators=(",", ":")).encode("ascii")

    def write_refusal(self, key: tuple[Value, ...], event: str, **fields: Value) -> None:
        """The same for what a program may try without end: the first of a kind is written at
        once, those that follow until the next `sync` become one line that counts them."""
        known = self._repeated.get(key)
        if known is None and len(self._repeated) < REPEATED_MAX:
            self._repeated[key] = ({"event": event, **fields}, 0)
            self.write(event, **fields)
        elif known is not None:
            self._repeated[key] = (known[0], known[1] + 1)
        else:
            other: tuple[Value, ...] = ("other",)
            _, count = self._repeated.get(other, ({}, 0))
            self._repeated[other] = ({"event": event, "verdict": "refused"}, count + 1)

    def sync(self) -> None:
        """Counted refusals become lines, and all lines durable. Raises `JournalError`."""
        self.gather()
        self.flush()

    def gather(self) -> None:
        """Counted refusals become lines. Raises `JournalError`."""
        repeated, self._repeated = self._repeated, {}
        for fields, count in repeated.values():
            if count:
                event = str(fields["event"])
                rest = {name: value for name, value in fields.items() if name != "event"}
                self.write(event, **rest, repeated=count)

    def flush(self) -> None:
        """All lines become durable; the one method that another thread may call.

        Raises `JournalError`: what a disk has lost cannot be made good, so the journal is full.
        """
        file = self._file
        if self._dirty and file >= 0:
            self._dirty = False
            try:
                os.fdatasync(file)
            except OSError as error:
                self._lost = True
                raise JournalError(f"the journal cannot be kept: {error.strerror}") from error

    def close(self, **last: Value) -> None:
        """Write the last line and make everything durable. Raises `JournalError`."""
        if self._file < 0:
            return
        try:
            if not self.full:
                self.gather()
            self._append("end", last)
            self.flush()
        finally:
            self._end()

    def _end(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Reader:
    """Reads a journal and checks it line by line; can be asked again for what came since.

    A last line without its end is left for later. Raises `JournalError` at the first line that does
    not follow from the one before.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.head = Head(0, _START)
        self._session: str | None = None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise JournalError(f"{path}: not a regular file")
        self._file = os.fdopen(descriptor, "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def live(self) -> bool:
        """Whether somebody still writes it."""
        if self.head.lines == 0:
            # Its writer may be about to lock it, and must not find it locked.
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The whole lines from where the last reading ended."""
        while data := self._file.readline(LINE_MAX + 2):
            if not data.endswith(b"\n"):
                if len(data) > LINE_MAX:
                    raise self._wrong("this is longer than a line can be")
                self._file.seek(-len(data), os.SEEK_CUR)
                self.head = Head(self.head.lines, self.head.digest, torn=True)
                return
            line = self._checked(data[:-1])
            self.head = Head(self.head.lines + 1, hashlib.sha256(data[:-1]).hexdigest())
            yield line

    def _checked(self, data: bytes) -> dict[str, Any]:
        line = _parsed(data)
        if line is None or line["n"] != self.head.lines:
            raise self._wrong("this is not the line that belongs here")
        if self._session is None:
            self._session = line["session"]
        if line["previous"] != self.head.digest or line["session"] != self._session:
            raise self._wrong(
                "it does not follow from the line before it: "
                "one of the two was changed, or something was left out or put in"
            )
        return line

    def _wrong(self, what: str) -> JournalError:
        return JournalError(f"{self.path}:{self.head.lines + 1}: {what}")


def read(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a journal, checked one by one. Raises `JournalError`."""
    with Reader(path) as reader:
        yield from reader


def verify(path: str, known: str = "") -> Head:
    """The head of a journal that is whole. Raises `JournalError` naming the line that is not.

    `known` is the hash of a line, kept since then: one that no line has any more is an error too.
    """
    with Reader(path) as reader:
        met = not known
        for _ in reader:
            met = met or reader.head.digest == known
        if reader.head.lines == 0:
            raise JournalError(f"{path}: there is no line in it")
        if not met:
            raise JournalError(
                f"{path}: no line has the hash {known}: the journal was written anew, or its end "
                "was cut off"
            )
        return reader.head


_TYPES: dict[str, type] = {"n": int, "session": str, "event": str, "previous": str}


def _parsed(data: bytes) -> dict[str, Any] | None:
    """A line with what every line has; None for anything else. It may be anybody's."""
    try:
        line = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    if any(type(line.get(name)) is not kind for name, kind in _TYPES.items()):
        return None
    when = line.get("time")
    return line if isinstance(when, int | float) and 0 <= when < TIME_MAX else None


def _cut(value: Value, longest: int) -> Value:
    if isinstance(value, str) and len(value) > longest:
        return f"{value[:longest]}... ({len(value)} characters)"
    return value
