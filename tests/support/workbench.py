"""Small trees and archives for the tests of the workspace."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from casemate.workspace import archive, beneath, create, names, renames
from casemate.workspace.archive_writer import ArchiveWriter
from casemate.workspace.changes import Change, PathTest, compare, never
from casemate.workspace.review import Applied, Review, open_review
from casemate.workspace.selection import Selection
from casemate.workspace.store import Store

Build = Callable[[ArchiveWriter], None]
Snapshot = dict[str, tuple[str, int, bytes]]

COARSE = 5
"""CLOCK_REALTIME_COARSE of linux/time.h, the clock of inode times."""


def now_ns() -> int:
    """The time that a file changed now would get."""
    return time.clock_gettime_ns(COARSE)


def settle() -> int:
    """Wait until files changed so far are older than the time returned."""
    before = now_ns()
    while (now := now_ns()) <= before + 8_000_000:
        time.sleep(0.002)
    return now


def write(path: Path, content: str | bytes, mode: int = 0o644) -> Path:
    """A file with its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def snapshot(root: Path) -> Snapshot:
    """Every path below `root` with its kind, permission bits and content or target."""
    found: Snapshot = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            status = path.lstat()
            content = b""
            kind = stat.filemode(status.st_mode)[0]
            if kind == "l":
                content = os.fsencode(os.readlink(path))
            elif kind == "-":
                content = path.read_bytes()
            mode = 0o777 if kind == "l" else stat.S_IMODE(status.st_mode)
            found[str(path.relative_to(root))] = (kind, mode, content)
    return found


def pack(path: Path, build: Build) -> Path:
    """Write an archive file."""
    with path.open("wb") as stream:
        writer = ArchiveWriter(stream)
        build(writer)
        writer.finish()
    return path


def changes_of(
    root: Path,
    build: Build,
    *,
    started_ns: int | None = None,
    hidden: PathTest = never,
    protected: PathTest = never,
) -> dict[str, Change]:
    """The changes that an archive makes to one root, by path, renames found."""
    packed = pack(root.parent / "packed", build)
    descriptor = beneath.open_root(str(root))
    try:
        with archive.read(os.open(packed, os.O_RDONLY)) as opened:
            found = compare(
                opened,
                {0: descriptor},
                started_ns=settle() if started_ns is None else started_ns,
                hidden=hidden,
                protected=protected,
            )
            return {
                change.path.decode(): change
                for change in renames.with_renames(found, {0: descriptor})
            }
    finally:
        os.close(descriptor)


def text(writer: ArchiveWriter, path: str, content: str | bytes, mode: int = 0o644) -> None:
    """A file record in root 0."""
    data = content.encode() if isinstance(content, str) else content
    writer.file(0, names.to_bytes(path), [(0, data)], size=len(data), mode=mode)


class Workbench:
    """A state directory, a project, and sessions on it."""

    def __init__(self, base: Path, *, state: Path | None = None) -> None:
        self.base = base
        self.project = base / "project"
        self.project.mkdir(exist_ok=True)
        self.store = Store(str(state or base / "state"))
        self.extra_roots: list[tuple[int, str, str]] = []

    def session(self, build: Build, *, mode: str = "overlay", **options: str) -> str:
        """A session whose archive is what `build` writes; its id."""
        settle()
        roots = [(0, str(self.project), mode), *self.extra_roots]
        session = create.create(
            self.store.state, command=["agent"], roots=roots, tier="process", **options
        )
        with open(session.archive, "wb", closefd=False) as stream:
            writer = ArchiveWriter(stream)
            build(writer)
            writer.finish()
        assert create.finish(session, exit_status=0)
        settle()
        return session.id

    def review(self, id: str) -> Review:
        """A review of the session."""
        return open_review(self.store, id)

    def apply(self, id: str, *paths: str, **options: Any) -> Applied:
        """Apply the session, or some paths of it."""
        with self.review(id) as review:
            keys = tuple((0, path.encode()) for path in paths)
            return review.apply(Selection(paths=keys, **options))

    def snapshot(self) -> Snapshot:
        """The project as it is."""
        return snapshot(self.project)

    def debris(self) -> list[str]:
        """What a transaction may have left anywhere: staging directories, journals, marks."""
        found = [str(path) for path in self.base.rglob(".casemate-*")]
        found += [str(path) for path in Path(self.store.directory).rglob("apply.journal")]
        roots = Path(self.store.state, "roots")
        if roots.exists():
            found += [str(path) for path in roots.iterdir() if path.stat().st_size]
        return found


def fill(root: Path) -> None:
    """The small project that `everything` changes."""
    write(root / "readme", "hello\n")
    write(root / "src/main.py", "print(1)\n")
    write(root / "src/tool", "#!/bin/sh\n", 0o755)
    write(root / "src/deep/a/b/file", "deep\n")
    (root / "link").symlink_to("readme")
    for directory in ("src", "src/deep", "src/deep/a", "src/deep/a/b"):
        (root / directory).chmod(0o755)


def everything(writer: ArchiveWriter) -> None:
    """A session with every kind of change."""
    writer.directory(0, b"src")
    text(writer, "src/main.py", "print(2)\n", 0o600)
    text(writer, "src/tool", "#!/bin/sh\n", 0o640)
    text(writer, "src/new.py", "new\n")
    writer.directory(0, b"locked", mode=0o555)
    text(writer, "locked/inner", "inner\n", 0o444)
    writer.directory(0, b"locked/deeper", mode=0o711)
    writer.symlink(0, b"locked/deeper/up", b"../inner")
    writer.symlink(0, b"link", b"src/main.py")
    writer.directory(0, b"readme")
    text(writer, "readme/was-a-file", "x\n")
    text(writer, "src/deep", "was a directory\n")
    text(writer, "moved", "deep\n")
    writer.file(0, b"sparse", [(1 << 20, b"end")], size=(1 << 20) + 3, mode=0o644)
    text(writer, "odd\nname\udcff", "odd\n")


RESULT: Snapshot = {
    "src": ("d", 0o755, b""),
    "src/main.py": ("-", 0o600, b"print(2)\n"),
    "src/tool": ("-", 0o640, b"#!/bin/sh\n"),
    "src/new.py": ("-", 0o644, b"new\n"),
    "locked": ("d", 0o555, b""),
    "locked/inner": ("-", 0o444, b"inner\n"),
    "locked/deeper": ("d", 0o711, b""),
    "locked/deeper/up": ("l", 0o777, b"../inner"),
    "link": ("l", 0o777, b"src/main.py"),
    "readme": ("d", 0o755, b""),
    "readme/was-a-file": ("-", 0o644, b"x\n"),
    "src/deep": ("-", 0o644, b"was a directory\n"),
    "moved": ("-", 0o644, b"deep\n"),
    "sparse": ("-", 0o644, bytes(1 << 20) + b"end"),
    "odd\nname\udcff": ("-", 0o644, b"odd\n"),
}
