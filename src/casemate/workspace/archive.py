"""The change archive: what a session leaves, as one sequential file. Format: docs/protocol.md.

In the microVM tier the guest writes it, so every byte is hostile. Reading makes an index of
records and creates nothing; contents are streamed later from their place in the file. Memory
follows the number of records, never the sizes they claim.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

from casemate.errors import WorkspaceError
from casemate.workspace import names

MAGIC = b"casemate-change\n"
VERSION = 1

FILE = 1
DIRECTORY = 2
OPAQUE = 3
SYMLINK = 4
WHITEOUT = 5
SPECIAL = 6
END = 255

HEADER = struct.Struct("<16sII")
RECORD = struct.Struct("<BBHIQq")
EXTENT = struct.Struct("<QQ")
_TYPES = frozenset((FILE, DIRECTORY, OPAQUE, SYMLINK, WHITEOUT, SPECIAL, END))
_DIRECTORIES = frozenset((DIRECTORY, OPAQUE))

MAX_SIZE = (1 << 63) - 1
"""Largest logical size of a file, in bytes: off_t."""

MAX_TARGET = 4095
"""Longest target of a symbolic link, in bytes."""

BLOCK = 1 << 20
"""Bytes read from a content at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings on what a reader takes in."""

    records: int = 500_000
    extents: int = 1_000_000
    roots: int = 256
    """Root indices must be below it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the layer. `path` is relative to the root whose index is `root`."""

    type: int
    root: int
    path: bytes
    mode: int
    size: int
    """Logical size in bytes of a file; length of the target of a link; else 0."""
    mtime_ns: int
    position: int
    """Where the body begins in the archive."""
    data: int = 0
    """Bytes of a file that are not holes."""


class Archive:
    """The index of an archive, and its contents on request.

    `complete` is False when the end record is missing: the writer died on the way. Use it as a
    context manager; it owns the descriptor.
    """

    def __init__(self, file: BinaryIO, records: tuple[Record, ...], *, complete: bool) -> None:
        self._file = file
        self.records = records
        self.complete = complete
        self._by_path = {(record.root, record.path): record for record in records}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; contents cannot be read any more."""
        self._file.close()

    def get(self, root: int, path: bytes) -> Record | None:
        """The record of exactly this path."""
        return self._by_path.get((root, path))

    def target(self, record: Record) -> bytes:
        """The target of a symbolic link."""
        return self._pread(record.size, record.position)

    def extents(self, record: Record) -> Iterator[tuple[int, int, int]]:
        """(offset in the file, length, position in the archive) of each run of data, in bytes."""
        position = record.position
        while True:
            offset, length = EXTENT.unpack(self._pread(EXTENT.size, position))
            if not length:
                return
            position += EXTENT.size
            yield offset, length, position
            position += length

    def blocks(self, record: Record) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of the data of a file, at most `BLOCK` bytes each; holes are skipped."""
        for offset, length, position in self.extents(record):
            for start in range(0, length, BLOCK):
                block = self._pread(min(BLOCK, length - start), position + start)
                yield offset + start, block

    def open_content(self, record: Record) -> Content:
        """A stream of the logical content of a file, holes read as zeros."""
        return Content(self, record)

    def digest(self, record: Record) -> str:
        """Hexadecimal SHA-256 of the logical content of a file."""
        sha256 = hashlib.sha256()
        for block in self.open_content(record):
            sha256.update(block)
        return sha256.hexdigest()

    def _pread(self, size: int, position: int) -> bytes:
        data = os.pread(self._file.fileno(), size, position)
        if len(data) != size:
            raise _damaged("it became shorter while it was read", position)
        return data


class Content:
    """A forward-only stream of a file's logical content; iterating gives non-empty blocks."""

    def __init__(self, archive: Archive, record: Record) -> None:
        self._blocks = self._logical_blocks(archive, record)
        self._rest: bytes | memoryview = b""

    def __iter__(self) -> Iterator[bytes | memoryview]:
        if self._rest:
            yield self._rest
            self._rest = b""
        yield from self._blocks

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        taken = bytearray()
        while len(taken) < size:
            if not self._rest:
                self._rest = next(self._blocks, b"")
                if not self._rest:
                    break
            wanted = size - len(taken)
            taken += self._rest[:wanted]
            self._rest = memoryview(self._rest)[wanted:]
        return bytes(taken)

    @staticmethod
    def _logical_blocks(archive: Archive, record: Record) -> Iterator[bytes | memoryview]:
        position = 0
        for offset, block in archive.blocks(record):
            yield from _zeros(offset - position)
            yield block
            position = offset + len(block)
        yield from _zeros(record.size - position)


def read(descriptor: int, *, limits: Limits = Limits(), allow_incomplete: bool = False) -> Archive:
    """The index of the archive open at `descriptor` (which the result then owns).

    Raises `WorkspaceError`: code "damaged" where the bytes break a rule of the format or a limit;
    code "incomplete" where they end too early, unless `allow_incomplete`, which gives the records
    that are whole. Source: docs/protocol.md, The change archive.
    """
    file = os.fdopen(descriptor, "rb", buffering=1 << 16)
    try:
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        records, complete = _Reader(file, size, limits).index()
        if not complete and not allow_incomplete:
            raise WorkspaceError(
                f"the change archive is incomplete: it ends after {len(records)} whole records",
                code="incomplete",
                hint="the session was killed while its changes were saved; what is whole can be "
                "reviewed with --incomplete",
            )
        return Archive(file, records, complete=complete)
    except BaseException:
        file.close()
        raise


class _Truncated(Exception):
    """The bytes end inside a record."""


class _Reader:
    """One pass over the bytes, with every rule of the format checked."""

    def __init__(self, file: BinaryIO, size: int, limits: Limits) -> None:
        self.file = file
        self.size = size
        self.limits = limits
        self.position = 0
        self.extents_left = limits.extents
        self.types: dict[tuple[int, bytes], int] = {}

    def index(self) -> tuple[tuple[Record, ...], bool]:
        records: list[Record] = []
        try:
            self.header()
            while (record := self.record(len(records))) is not None:
                records.append(record)
                if len(records) > self.limits.records:
                    raise self.damaged(f"more than {self.limits.records} records")
        except _Truncated:
            return tuple(records), False
        if self.position != self.size:
            raise self.damaged("bytes follow the end record")
        return tuple(records), True

    def header(self) -> None:
        start = self.file.read(HEADER.size)
        if not MAGIC.startswith(start[: len(MAGIC)]):
            raise self.damaged("it does not begin as a change archive does")
        if len(start) < HEADER.size:
            raise _Truncated
        _, version, zero = HEADER.unpack(start)
        if version != VERSION or zero:
            raise self.damaged(f"format version {version} is not known, only {VERSION}")
        self.position = HEADER.size

    def record(self, count: int) -> Record | None:
        fields = RECORD.unpack(self.take(RECORD.size))
        kind, root, mode, path_length, size, mtime_ns = fields
        if kind not in _TYPES:
            raise self.damaged(f"record type {kind} is not known")
        if not 1 <= path_length <= names.MAX_PATH:
            raise self.damaged(f"a path of {path_length} bytes")
        path = self.take(path_length)
        if kind == END:
            if path != b"." or size != count:
                raise self.damaged(f"the end record counts {size} records, there are {count}")
            return None
        self.check(kind, root, mode, path, size)
        self.types[root, path] = kind
        position = self.position
        data = 0
        if kind == FILE:
            data = self.skip_extents(size)
        elif kind == SYMLINK and b"\0" in self.take(size):
            raise self.damaged("the target of a link holds a NUL byte")
        return Record(kind, root, path, mode, size, mtime_ns, position, data)

    def check(self, kind: int, root: int, mode: int, path: bytes, size: int) -> None:
        if root >= self.limits.roots:
            raise self.damaged(f"root index {root} is not one of this session's")
        if mode > 0o7777:
            raise self.damaged(f"mode {mode:#o} has more than permission bits")
        if problem := names.path_problem(path):
            raise self.damaged(f"{problem} ({names.display(path[:200])})")
        if (root, path) in self.types:
            raise self.damaged(f"a second record for {names.display(path)}")
        if path == b".":
            if kind != DIRECTORY:
                raise self.damaged("the root can only be a plain directory")
        elif (above := names.parent(path)) != b".":
            if (parent_type := self.types.get((root, above))) is None:
                raise self.damaged(f"{names.display(path)} comes before its directory")
            if parent_type not in _DIRECTORIES:
                raise self.damaged(f"{names.display(path)} lies in what is not a directory")
        if kind == FILE:
            if size > MAX_SIZE:
                raise self.damaged(f"a file of {size} bytes")
        elif kind == SYMLINK:
            if not 1 <= size <= MAX_TARGET:
                raise self.damaged(f"a link with a target of {size} bytes")
        elif size:
            raise self.damaged(f"a record of type {kind} with a size")

    def skip_extents(self, size: int) -> int:
        end = 0
        data = 0
        while True:
            offset, length = EXTENT.unpack(self.take(EXTENT.size))
            if not length:
                return data
            if offset < end:
                raise self.damaged("extents overlap or are out of order")
            if offset > size or length > size - offset:
                raise self.damaged("an extent reaches past the end of its file")
            if length > self.size - self.position:
                raise _Truncated
            self.extents_left -= 1
            if self.extents_left < 0:
                raise self.damaged(f"more than {self.limits.extents} extents")
            end = offset + length
            data += length
            self.position += length
            self.file.seek(self.position)

    def take(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) != size:
            raise _Truncated
        self.position += size
        return data

    def damaged(self, what: str) -> WorkspaceError:
        return _damaged(what, self.position)


_ZEROS = bytes(BLOCK)


def _zeros(count: int) -> Iterator[memoryview]:
    """`count` zero bytes in blocks that all share one buffer."""
    while count > 0:
        step = min(count, BLOCK)
        yield memoryview(_ZEROS)[:step]
        count -= step


def _damaged(what: str, position: int) -> WorkspaceError:
    return WorkspaceError(
        f"the change archive is damaged at byte {position}: {what}",
        code="damaged",
        hint="nothing was applied; `casemate discard` sets the session aside",
    )
