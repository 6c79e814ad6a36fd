"""The archive reader: what it takes, what it refuses, and that hostile bytes only ever refuse."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.errors import WorkspaceError
from casemate.workspace import archive
from casemate.workspace.archive_writer import ArchiveWriter

Build = Callable[[ArchiveWriter], None]


def packed(build: Build, *, finish: bool = True) -> bytes:
    stream = io.BytesIO()
    writer = ArchiveWriter(stream)
    build(writer)
    if finish:
        writer.finish()
    return stream.getvalue()


def read(data: bytes, **options: object) -> archive.Archive:
    descriptor = os.memfd_create("archive", os.MFD_CLOEXEC)
    os.write(descriptor, data)
    return archive.read(descriptor, **options)  # type: ignore[arg-type]


def refused(data: bytes) -> WorkspaceError:
    with pytest.raises(WorkspaceError) as caught:
        read(data)
    return caught.value


def raw(kind: int, path: bytes, *, root: int = 0, mode: int = 0o644, size: int = 0) -> bytes:
    return archive.RECORD.pack(kind, root, mode, len(path), size, 0) + path


HEADER = archive.HEADER.pack(archive.MAGIC, archive.VERSION, 0)


def sample(writer: ArchiveWriter) -> None:
    writer.directory(0, b".")
    writer.directory(0, b"src", mode=0o750)
    writer.file(0, b"src/a.c", [(0, b"int main;\n")], size=10, mode=0o755, mtime_ns=-5)
    writer.file(0, b"sparse", [(4096, b"x" * 10), (1 << 20, b"y")], size=(1 << 20) + 100)
    writer.file(0, b"empty", [], size=0)
    writer.directory(1, b"opaque", opaque=True)
    writer.symlink(1, b"opaque/link", b"../../etc/passwd")
    writer.whiteout(0, b"gone")
    writer.special(0, b"pipe", mode=0o600)
    writer.file(0, b"new\nline \xff", [(0, b"z")], size=1)


def test_round_trip() -> None:
    """What the writer writes, the reader gives back, contents and holes included."""
    with read(packed(sample)) as opened:
        assert opened.complete
        assert [(r.type, r.root, r.path) for r in opened.records] == [
            (archive.DIRECTORY, 0, b"."),
            (archive.DIRECTORY, 0, b"src"),
            (archive.FILE, 0, b"src/a.c"),
            (archive.FILE, 0, b"sparse"),
            (archive.FILE, 0, b"empty"),
            (archive.OPAQUE, 1, b"opaque"),
            (archive.SYMLINK, 1, b"opaque/link"),
            (archive.WHITEOUT, 0, b"gone"),
            (archive.SPECIAL, 0, b"pipe"),
            (archive.FILE, 0, b"new\nline \xff"),
        ]
        main = opened.get(0, b"src/a.c")
        assert main is not None
        assert (main.mode, main.mtime_ns, main.size, main.data) == (0o755, -5, 10, 10)
        assert opened.open_content(main).read(4) == b"int "
        sparse = opened.get(0, b"sparse")
        assert sparse is not None
        expected = bytes(4096) + b"x" * 10 + bytes((1 << 20) - 4106) + b"y" + bytes(99)
        assert opened.open_content(sparse).read(1 << 21) == expected
        assert b"".join(opened.open_content(sparse)) == expected
        link = opened.get(1, b"opaque/link")
        assert link is not None
        assert opened.target(link) == b"../../etc/passwd"


def test_content_reads_in_odd_steps() -> None:
    """A content read in small steps, then iterated, is the same content."""
    with read(packed(sample)) as opened:
        record = opened.get(0, b"sparse")
        assert record is not None
        content = opened.open_content(record)
        pieces = [content.read(4099), content.read(3)] + [bytes(block) for block in content]
        assert b"".join(pieces) == opened.open_content(record).read(1 << 21)


def test_holes_cost_no_memory() -> None:
    """A file that is 256 MiB of hole is digested without holding it."""
    with read(packed(lambda w: w.file(0, b"h", [], size=1 << 28))) as opened:
        tracemalloc.start()
        opened.digest(opened.records[0])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/a",
        b"a/",
        b"a//b",
        b"..",
        b"a/../b",
        b"./a",
        b"a/.",
        b"a\0b",
        b"x" * 256,
        b"a/" * 2047 + b"aa",
    ],
)
def test_paths_that_are_not_plain(path: bytes) -> None:
    """Absolute, climbing, empty, over-long and NUL-bearing paths are refused."""
    data = HEADER + raw(archive.DIRECTORY, b"a") + raw(archive.WHITEOUT, path)
    assert refused(data + raw(archive.END, b".", size=2)).code == "damaged"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (raw(9, b"a"), "type"),
        (raw(archive.WHITEOUT, b"a", mode=0o10000), "mode"),
        (raw(archive.WHITEOUT, b"a", size=1), "size"),
        (raw(archive.WHITEOUT, b"."), "root"),
        (raw(archive.OPAQUE, b"."), "root"),
        (raw(archive.WHITEOUT, b"a") * 2, "second"),
        (raw(archive.DIRECTORY, b"a") + raw(archive.OPAQUE, b"a"), "second"),
        (raw(archive.WHITEOUT, b"a/b"), "before"),
        (raw(archive.WHITEOUT, b"a") + raw(archive.WHITEOUT, b"a/b"), "not a directory"),
        (
            raw(archive.SYMLINK, b"a", size=1) + b"x" + raw(archive.WHITEOUT, b"a/b"),
            "not a directory",
        ),
        (raw(archive.SYMLINK, b"a", size=0), "target"),
        (raw(archive.SYMLINK, b"a", size=4096) + b"x" * 4096, "target"),
        (raw(archive.SYMLINK, b"a", size=3) + b"x\0y", "NUL"),
        (raw(archive.FILE, b"a", size=1 << 63) + bytes(16), "file"),
        (raw(archive.FILE, b"a", size=4) + struct.pack("<QQ", 3, 2) + b"xx" + bytes(16), "past"),
        (raw(archive.FILE, b"a", size=4) + struct.pack("<QQ", 1 << 63, 1 << 63), "past"),
        (
            raw(archive.FILE, b"a", size=9)
            + struct.pack("<QQ", 2, 2)
            + b"xx"
            + struct.pack("<QQ", 3, 1)
            + b"x"
            + bytes(16),
            "overlap",
        ),
        (raw(archive.END, b".", size=1), "counts"),
        (raw(archive.END, b"x", size=0), "counts"),
        (raw(archive.END, b".", size=0) + b"x", "follow"),
    ],
)
def test_broken_rules(body: bytes, why: str) -> None:
    """Each rule of the format is enforced, and the message says which."""
    error = refused(HEADER + body)
    assert error.code == "damaged"
    assert why in error.message


def test_wrong_beginnings() -> None:
    """Another magic or version is damage; a beginning cut short is incompleteness."""
    assert refused(b"#!/bin/sh\n" + bytes(40)).code == "damaged"
    assert refused(archive.HEADER.pack(archive.MAGIC, 2, 0)).code == "damaged"
    assert refused(archive.HEADER.pack(archive.MAGIC, 1, 1)).code == "damaged"
    for cut in range(len(HEADER)):
        assert refused(HEADER[:cut]).code == "incomplete"


def test_every_cut_is_incomplete_and_readable_on_request() -> None:
    """An archive cut anywhere is flagged, and the whole records before the cut can be read."""
    data = packed(sample)
    with read(data) as opened:
        whole = opened.records
    for cut in range(len(data)):
        assert refused(data[:cut]).code == "incomplete"
        with read(data[:cut], allow_incomplete=True) as opened:
            assert not opened.complete
            assert opened.records == whole[: len(opened.records)]


def test_limits() -> None:
    """Too many records, extents or roots are refused before they take memory."""

    def many(writer: ArchiveWriter) -> None:
        for number in range(20):
            writer.file(number % 3, b"%d" % number, [(0, b"x"), (5, b"y")], size=6)

    data = packed(many)
    read(data, limits=archive.Limits(records=20, extents=40, roots=3)).close()
    for limits in (
        archive.Limits(records=19),
        archive.Limits(extents=39),
        archive.Limits(roots=2),
    ):
        with pytest.raises(WorkspaceError):
            read(data, limits=limits)


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    """Random bytes, bare or behind a good header, give an archive or a WorkspaceError."""
    for attempt in (data, HEADER + data):
        try:
            read(attempt, allow_incomplete=True).close()
        except WorkspaceError:
            pass


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "insert", "delete"]),
            st.integers(0, 1 << 16),
            st.binary(min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_mutated_archives(mutations: list[tuple[str, int, bytes]]) -> None:
    """A damaged archive is refused, or every record of it can still be read within its bounds."""
    data = bytearray(packed(sample))
    for action, where, patch in mutations:
        position = where % (len(data) + 1)
        end = position if action == "insert" else position + len(patch)
        data[position:end] = b"" if action == "delete" else patch
    try:
        opened = read(bytes(data), allow_incomplete=True)
    except WorkspaceError:
        return
    with opened:
        for record in opened.records:
            if record.type == archive.FILE:
                end = 0
                for offset, length, position in opened.extents(record):
                    assert end <= offset
                    assert offset + length <= record.size
                    assert position + length <= len(data)
                    end = offset + length
            elif record.type == archive.SYMLINK:
                assert 1 <= len(opened.target(record)) <= archive.MAX_TARGET


def test_archive_that_shrinks_while_read() -> None:
    """A file truncated after indexing is an error, not a short content."""
    with tempfile.TemporaryFile() as file:
        file.write(packed(sample))
        file.flush()
        with archive.read(os.dup(file.fileno())) as opened:
            os.ftruncate(file.fileno(), 100)
            with pytest.raises(WorkspaceError):
                opened.digest(opened.records[2])
