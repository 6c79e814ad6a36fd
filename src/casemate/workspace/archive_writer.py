"""Writing a change archive: the vm tier's host side and the tests. Format: docs/protocol.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

from casemate.errors import WorkspaceError
from casemate.workspace import archive, names


class ArchiveWriter:
    """Writes an archive to a binary stream. The caller keeps the order: parents first.

    Paths are checked; what else the reader checks follows from how the methods are built.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.records = 0
        stream.write(archive.HEADER.pack(archive.MAGIC, archive.VERSION, 0))

    def file(
        self,
        root: int,
        path: bytes,
        extents: Iterable[tuple[int, bytes]],
        *,
        size: int,
        mode: int = 0o644,
        mtime_ns: int = 0,
    ) -> None:
        """A regular file of `size` bytes with (offset, bytes) `extents`, ascending."""
        self._record(archive.FILE, root, path, mode, size, mtime_ns)
        end = 0
        for offset, data in extents:
            if data:
                self._stream.write(archive.EXTENT.pack(offset, len(data)))
                self._stream.write(data)
                end = offset + len(data)
        self._stream.write(archive.EXTENT.pack(end, 0))

    def directory(
        self,
        root: int,
        path: bytes,
        *,
        opaque: bool = False,
        mode: int = 0o755,
        mtime_ns: int = 0,
    ) -> None:
        """A directory; `opaque` when it replaces whatever lies below."""
        self._record(archive.OPAQUE if opaque else archive.DIRECTORY, root, path, mode, 0, mtime_ns)

    def symlink(self, root: int, path: bytes, target: bytes, *, mtime_ns: int = 0) -> None:
        """A symbolic link."""
        self._record(archive.SYMLINK, root, path, 0o777, len(target), mtime_ns)
        self._stream.write(target)

    def whiteout(self, root: int, path: bytes) -> None:
        """A deleted entry."""
        self._record(archive.WHITEOUT, root, path, 0, 0, 0)

    def special(self, root: int, path: bytes, *, mode: int = 0o644, mtime_ns: int = 0) -> None:
        """A fifo, socket or device."""
        self._record(archive.SPECIAL, root, path, mode, 0, mtime_ns)

    def finish(self) -> None:
        """The end record. The stream stays open."""
        self._stream.write(archive.RECORD.pack(archive.END, 0, 0, 1, self.records, 0) + b".")

    def _record(
        self, kind: int, root: int, path: bytes, mode: int, size: int, mtime_ns: int
    ) -> None:
        if problem := names.path_problem(path):
            raise WorkspaceError(f"cannot archive {names.display(path)}: {problem}")
        self._stream.write(archive.RECORD.pack(kind, root, mode, len(path), size, mtime_ns) + path)
        self.records += 1
