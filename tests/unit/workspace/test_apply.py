"""Applying: the project becomes what the session left, all or nothing, and can be undone."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from tests.support import workbench
from tests.support.workbench import Workbench

from casemate.errors import UsageError, WorkspaceError
from casemate.workspace import create
from casemate.workspace.archive_writer import ArchiveWriter
from casemate.workspace.undo import undo


def test_apply_then_undo_then_apply(bench: Workbench) -> None:
    """All kinds of changes arrive; undo restores the project exactly; it can be applied again."""
    before = bench.snapshot()
    id = bench.session(workbench.everything)
    for _ in range(2):
        applied = bench.apply(id)
        assert bench.snapshot() == workbench.RESULT
        assert not applied.held
        assert not applied.remaining
        assert bench.store.load(id).state == "applied"
        assert bench.debris() == []
        with bench.review(id) as review:
            assert review.changes == ()
        undo(bench.store, id)
        assert bench.snapshot() == before
        assert bench.store.load(id).state == "open"
        assert bench.debris() == []
        workbench.settle()
    with pytest.raises(UsageError):
        undo(bench.store, id)


def test_metadata(bench: Workbench) -> None:
    """Modification times arrive but never lie in the future; setuid and the like are dropped."""
    old = 1_500_000_000_123_456_789

    def build(writer: ArchiveWriter) -> None:
        writer.file(0, b"old", [(0, b"x")], size=1, mode=0o6755, mtime_ns=old)
        writer.file(0, b"future", [(0, b"x")], size=1, mtime_ns=1 << 62)
        writer.directory(0, b"sticky", mode=0o3777)

    bench.apply(bench.session(build))
    status = (bench.project / "old").stat()
    assert status.st_mtime_ns == old
    assert stat.S_IMODE(status.st_mode) == 0o755
    assert (bench.project / "future").stat().st_mtime_ns <= workbench.now_ns() + 10**9
    assert stat.S_IMODE((bench.project / "sticky").stat().st_mode) == 0o1777


def test_holes_stay_holes(bench: Workbench) -> None:
    """A sparse file is written sparse."""
    bench.apply(bench.session(lambda w: w.file(0, b"s", [(1 << 25, b"x")], size=(1 << 25) + 1)))
    assert (bench.project / "s").stat().st_blocks * 512 < 1 << 20


def test_extended_attributes_stay(bench: Workbench) -> None:
    """A replaced file keeps its extended attributes, and its ACL with them."""
    try:
        os.setxattr(bench.project / "readme", "user.note", b"kept")
    except OSError:
        pytest.skip("no extended attributes here")
    id = bench.session(lambda w: workbench.text(w, "readme", "new\n"))
    bench.apply(id)
    assert os.getxattr(bench.project / "readme", "user.note") == b"kept"
    undo(bench.store, id)
    assert os.getxattr(bench.project / "readme", "user.note") == b"kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_as_root(bench: Workbench) -> None:
    """As root a replaced file keeps its owner and a new one belongs to its directory's."""
    os.chown(bench.project / "src", 1500, 1501)
    os.chown(bench.project / "src/main.py", 1502, 1503)

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src")
        workbench.text(writer, "src/main.py", "print(2)\n")
        workbench.text(writer, "src/new.py", "x\n")
        writer.directory(0, b"src/dir")
        workbench.text(writer, "src/dir/inner", "x\n")

    id = bench.session(build)
    bench.apply(id)

    def owner(path: str) -> tuple[int, int]:
        status = (bench.project / path).stat()
        return status.st_uid, status.st_gid

    assert owner("src/main.py") == (1502, 1503)
    assert owner("src/new.py") == (1500, 1501)
    assert owner("src/dir") == (1500, 1501)
    undo(bench.store, id)
    assert owner("src/main.py") == (1502, 1503)


def test_setgid_directory(bench: Workbench) -> None:
    """New files and directories in a setgid directory take its group, directories the bit too."""
    shared = bench.project / "shared"
    shared.mkdir()
    group = 1501 if os.geteuid() == 0 else os.getgid()
    os.chown(shared, -1, group)
    shared.chmod(0o2775)

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"shared", mode=0o2775)
        writer.directory(0, b"shared/sub", mode=0o2755)
        workbench.text(writer, "shared/sub/file", "x\n")

    applied = bench.apply(bench.session(build))
    assert not applied.remaining
    sub = (shared / "sub").stat()
    assert (sub.st_gid, stat.S_IMODE(sub.st_mode)) == (group, 0o2755)
    assert (shared / "sub/file").stat().st_gid == group


@pytest.mark.parametrize("point", ["begun", "stage", "journal", "step", "executed"])
def test_any_failure_rolls_back(bench: Workbench, point: str) -> None:
    """A full disk at any point leaves the project as it was and nothing behind."""
    id = bench.session(workbench.everything)
    before = bench.snapshot()
    calls = 0

    def hook(passed: str) -> None:
        nonlocal calls
        calls += passed == point
        if calls == 3 or (passed == point and point in ("begun", "journal", "executed")):
            calls = -1000
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with bench.review(id) as review, pytest.raises(WorkspaceError) as caught:
        review.apply(hook=hook)
    assert "No space left" in caught.value.message
    assert bench.snapshot() == before
    assert bench.debris() == []
    assert bench.store.load(id).state == "open"
    assert not create.is_interrupted(bench.store.state, str(bench.project))
    bench.apply(id)
    assert bench.snapshot() == workbench.RESULT


def test_link_in_place_of_a_directory_is_not_followed(bench: Workbench) -> None:
    """When the host has a link where a directory was, nothing is written behind it."""
    id = bench.session(workbench.everything)
    outside = workbench.write(bench.base / "outside/main.py", "outside\n").parent
    with bench.review(id) as review:
        os.rename(bench.project / "src", bench.base / "src-moved")
        (bench.project / "src").symlink_to(outside)
        with pytest.raises(WorkspaceError):
            review.apply()
    assert workbench.snapshot(outside) == {"main.py": ("-", 0o644, b"outside\n")}


def test_hard_links_are_broken_not_written_through(bench: Workbench) -> None:
    """A file with a second name elsewhere is replaced under its name in the project alone."""
    outside = bench.base / "second-name"
    os.link(bench.project / "readme", outside)
    id = bench.session(lambda w: workbench.text(w, "readme", "new\n"))
    bench.apply(id)
    assert outside.read_text() == "hello\n"
    assert (bench.project / "readme").read_text() == "new\n"
    undo(bench.store, id)
    assert (bench.project / "readme").read_text() == "hello\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_directories(bench: Workbench) -> None:
    """A read-only directory of the user's own is opened for the apply and is read-only after."""
    before = bench.snapshot()

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src", mode=0o555)
        for path in (b"src/deep", b"src/deep/a", b"src/deep/a/b"):
            writer.directory(0, path)
        writer.whiteout(0, b"src/deep/a/b/file")
        workbench.text(writer, "src/main.py", "print(2)\n")
        workbench.text(writer, "src/added", "x\n")

    (bench.project / "src").chmod(0o555)
    (bench.project / "src/deep/a/b").chmod(0o555)
    read_only = bench.snapshot()
    assert read_only != before
    id = bench.session(build)
    bench.apply(id, exclude=((0, b"src/deep/a/b"),))
    after = bench.snapshot()
    assert after["src"] == ("d", 0o555, b"")
    assert after["src/added"] == ("-", 0o644, b"x\n")
    undo(bench.store, id)
    assert bench.snapshot() == read_only
    workbench.settle()
    bench.apply(id)
    assert "src/deep/a/b/file" not in bench.snapshot()
    (bench.project / "src").chmod(0o755)


def test_roll_back_that_fails(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """When even the roll-back fails, the journal stays and the next call finishes it."""
    id = bench.session(workbench.everything)
    before = bench.snapshot()

    def hook(point: str) -> None:
        if point == "executed":
            monkeypatch.setattr(os, "rmdir", refuse)
            refuse()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with bench.review(id) as review, pytest.raises(WorkspaceError) as caught:
        review.apply(hook=hook)
    assert caught.value.code == "interrupted"
    assert create.is_interrupted(bench.store.state, str(bench.project))
    monkeypatch.undo()
    with bench.review(id) as review:
        assert [done.finished for done in review.recovered] == [False]
        assert bench.snapshot() == before
    assert bench.debris() == []
