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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casemate.errors import CasemateError

VERSION = 1
SIZE_MAX = 64 << 20
"""Bytes of a whole journal. One that is full allows nothing any more."""
LINE_MAX = 16 << 10
TEXT_MAX = 2048
"""Characters of one value; what is longer is cut, and says so."""
REPEATED_MAX = 4096

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
        self._repeated: dict[tuple[Value, ...], tuple[dict[str, Value], int]] = {}
        self.write("begin", version=VERSION, **first)

    @property
    def head(self) -> Head:
        """Where the journal stands."""
        return Head(self._lines, self._digest)

    @property
    def full(self) -> bool:
        """Whether nothing more can be written, and so nothing may be allowed."""
        return self._file < 0 or self._size >= SIZE_MAX

    def write(self, event: str, **fields: Value) -> None:
        """Append one line. Raises `JournalError`; a line that was not written was not decided."""
        if self.full:
            raise JournalError(
                "the journal of this session is full", hint="start a new session to go on"
            )
        line: dict[str, Value] = {
            "n": self._lines,
            "time": round(time.time(), 6),
            "session": self.session,
            "event": event,
        }
        line |= {name: _cut(value) for name, value in fields.items()}
        line["previous"] = self._digest
        data = json.dumps(line, separators=(",", ":")).encode("ascii")
        try:
            written = os.write(self._file, data + b"\n")
        except OSError as error:
            self._broken()
            raise JournalError(f"the journal cannot be written: {error.strerror}") from error
        if written != len(data) + 1:
            self._broken()
            raise JournalError("the journal cannot be written: the disk is full")
        self._digest = hashlib.sha256(data).hexdigest()
        self._lines += 1
        self._size += written
        self._dirty = True

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
        """All lines become durable; the one method that another thread may call."""
        file = self._file
        if self._dirty and file >= 0:
            self._dirty = False
            os.fdatasync(file)

    def close(self, **last: Value) -> None:
        """Write the last line and make everything durable."""
        if self._file < 0:
            return
        try:
            self.sync()
            self.write("end", **last)
            os.fdatasync(self._file)
        finally:
            self._broken()

    def _broken(self) -> None:
        os.close(self._file)
        self._file = -1


def read(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a journal, checked one by one.

    Raises `JournalError` at the first line that does not follow from the one before. A last line
    without its end is left out.
    """
    for line, _ in _checked(path):
        yield line


def verify(path: str) -> Head:
    """The head of a journal that is whole. Raises `JournalError` naming the line that is not."""
    lines, digest = 0, _START
    size = 0
    for _, data in _checked(path):
        digest = hashlib.sha256(data).hexdigest()
        lines += 1
        size += len(data) + 1
    if lines == 0:
        raise JournalError(f"{path}: there is no line in it")
    return Head(lines, digest, torn=os.path.getsize(path) > size)


def _checked(path: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    previous = _START
    session = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        for number, data in enumerate(iter(lambda: file.readline(LINE_MAX * 8), b"")):
            if not data.endswith(b"\n"):
                return
            data = data[:-1]
            try:
                line = json.loads(data)
            except ValueError:
                line = None
            if not isinstance(line, dict) or line.get("n") != number:
                raise JournalError(f"{path}:{number + 1}: this is not the line that belongs here")
            if session is None:
                session = line.get("session")
            if line.get("previous") != previous or line.get("session") != session:
                raise JournalError(
                    f"{path}:{number + 1}: it does not follow from the line before it: "
                    "one of the two was changed, or something was left out or put in"
                )
            yield line, data
            previous = hashlib.sha256(data).hexdigest()


def _cut(value: Value) -> Value:
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return f"{value[:TEXT_MAX]}... ({len(value)} characters)"
    return value
