"""Reviewing: which changes are chosen, held back, left open, and by what."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.support import workbench
from tests.support.workbench import Workbench

from casemate.errors import ConflictError, UsageError, WorkspaceError
from casemate.policy.patterns import parse_pattern
from casemate.workspace import create, flags
from casemate.workspace.archive_writer import ArchiveWriter
from casemate.workspace.selection import Selection
from casemate.workspace.undo import undo


def test_partial_apply(bench: Workbench) -> None:
    """Applying some paths leaves the rest open; undo takes back one apply at a time."""
    before = bench.snapshot()
    id = bench.session(workbench.everything)
    applied = bench.apply(id, "src/main.py", "locked/deeper/up")
    assert {change.name for change in applied.changes} == {
        "src/main.py",
        "locked",
        "locked/deeper",
        "locked/deeper/up",
    }
    assert bench.store.load(id).state == "open"
    middle = bench.snapshot()
    bench.apply(id)
    assert bench.snapshot() == workbench.RESULT
    undo(bench.store, id)
    assert bench.snapshot() == middle
    undo(bench.store, id)
    assert bench.snapshot() == before


def test_selection_by_pattern(bench: Workbench) -> None:
    """Patterns select as in .gitignore, and can exclude."""
    id = bench.session(workbench.everything)
    with bench.review(id) as review:
        plan = review.plan(Selection(patterns=(parse_pattern("*.py"),)))
        assert {c.name for c in plan.chosen} == {"src/main.py", "src/new.py"}
        plan = review.plan(
            Selection(
                paths=((0, b"src"),),
                exclude_patterns=(parse_pattern("*.py"),),
                exclude=((0, b"moved"),),
            )
        )
        chosen = {change.name: change for change in plan.chosen}
        assert set(chosen) == {"src/tool", "src/deep/a", "src/deep/a/b"} - {
            "src/deep/a",
            "src/deep/a/b",
        }
        assert "src/deep" in {held.change.name for held in plan.held}


def test_hidden_and_protected_are_held(bench: Workbench) -> None:
    """Hidden and protected paths need to be named; naming a directory above is not enough."""
    workbench.write(bench.project / "conf/.env", "SECRET=1\n")
    (bench.project / "conf").chmod(0o755)

    def build(writer: ArchiveWriter) -> None:
        writer.whiteout(0, b"conf")
        writer.directory(0, b".github")
        writer.directory(0, b".github/workflows")
        workbench.text(writer, ".github/workflows/ci.yml", "on: push\n")
        workbench.text(writer, ".env", "SECRET=2\n")
        writer.symlink(0, b"escape", b"/home/someone/.ssh")

    id = bench.session(
        build,
        hide=create.encode_patterns([parse_pattern(".env")]),
        protect=create.encode_patterns([parse_pattern(".github/workflows/")]),
    )
    applied = bench.apply(id)
    assert {change.name for change in applied.changes} == {".github"}
    held = {held.change.name: (held.flag, held.nameable) for held in applied.held}
    assert held == {
        "conf": ("depends", False),
        "conf/.env": (flags.HIDDEN, True),
        ".github/workflows": (flags.PROTECTED, True),
        ".github/workflows/ci.yml": (flags.PROTECTED, True),
        ".env": (flags.HIDDEN, True),
        "escape": (flags.OUTSIDE_LINK, True),
    }
    assert (bench.project / "conf/.env").read_text() == "SECRET=1\n"
    assert not bench.apply(id, ".github", "conf", ".").changes
    assert {c.name for c in bench.apply(id, ".github/workflows").changes} == {
        ".github/workflows",
        ".github/workflows/ci.yml",
    }
    bench.apply(id, "conf/.env", "conf", "escape", ".env")
    assert not (bench.project / "conf").exists()
    assert os.readlink(bench.project / "escape") == "/home/someone/.ssh"
    assert bench.store.load(id).state == "applied"


def test_special_files_are_never_applied(bench: Workbench) -> None:
    """Fifos, sockets and devices stay out even when named, and do not keep the session open."""

    def build(writer: ArchiveWriter) -> None:
        writer.special(0, b"pipe")
        writer.file(0, b"claims", [], size=1 << 40)
        workbench.text(writer, "good", "x\n")

    id = bench.session(build)
    applied = bench.apply(id, "pipe", "claims", "good")
    assert {change.name for change in applied.changes} == {"good"}
    assert {held.flag for held in applied.held} == {flags.SPECIAL, flags.OVERSIZED}
    assert bench.store.load(id).state == "applied"


def test_new_file_on_the_host_keeps_its_directory(bench: Workbench) -> None:
    """A file that appeared in a directory the session deleted is a conflict, not a loss."""
    id = bench.session(lambda w: w.whiteout(0, b"src"))
    workbench.write(bench.project / "src/deep/a/mine", "mine\n")
    with pytest.raises(ConflictError) as caught:
        bench.apply(id)
    assert caught.value.paths == ("src/deep/a/mine",)
    applied = bench.apply(id, exclude=((0, b"src/deep/a/mine"),))
    assert (bench.project / "src/deep/a/mine").read_text() == "mine\n"
    assert not (bench.project / "src/main.py").exists()
    assert {held.change.name for held in applied.held} == {"src", "src/deep", "src/deep/a"}


def test_several_roots_in_one_transaction(bench: Workbench) -> None:
    """Changes to two project roots are applied together or not at all."""
    second = bench.base / "second"
    workbench.write(second / "file", "two\n")
    bench.extra_roots = [(1, str(second), "overlay")]

    def build(writer: ArchiveWriter) -> None:
        workbench.text(writer, "readme", "one new\n")
        writer.file(1, b"file", [(0, b"two new\n")], size=8, mode=0o644)

    id = bench.session(build)

    def hook(point: str) -> None:
        if point == "executed":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with bench.review(id) as review:
        with pytest.raises(WorkspaceError):
            review.apply(hook=hook)
        assert (second / "file").read_text() == "two\n"
        review.apply()
        assert review.locate(str(second / "file")) == (1, b"file")
        assert review.locate("x/../readme", directory=str(bench.project)) == (0, b"readme")
        with pytest.raises(UsageError):
            review.locate("/etc/passwd")
    assert (second / "file").read_text() == "two new\n"
    assert (bench.project / "readme").read_text() == "one new\n"


def test_two_reviews_of_one_session(bench: Workbench) -> None:
    """A review that another apply has overtaken does not apply a second time."""
    id = bench.session(workbench.everything)
    with bench.review(id) as first, bench.review(id) as second:
        first.apply()
        with pytest.raises(WorkspaceError) as caught:
            second.apply()
        assert caught.value.code == "stale"


def test_discarded_and_missing(bench: Workbench) -> None:
    """A discarded session is not applied, and a project that is gone is a clear error."""
    id = bench.session(workbench.everything)
    bench.store.discard(id)
    with bench.review(id) as review, pytest.raises(UsageError):
        review.apply()
    bench.store.recover(id)
    os.rename(bench.project, bench.base / "moved")
    with pytest.raises(WorkspaceError) as caught:
        bench.review(id)
    assert str(bench.project) in caught.value.message


def test_incomplete_archive_deletes_nothing_by_absence(bench: Workbench) -> None:
    """In a cut archive an opaque directory does not delete what may have been added again."""

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src", opaque=True)
        workbench.text(writer, "src/main.py", "print(2)\n")
        workbench.text(writer, "src/tool", "#!/bin/sh\n", 0o755)

    id = bench.session(build)
    path = Path(bench.store.load(id).archive_path)
    path.write_bytes(path.read_bytes()[:-60])
    assert bench.store.load(id).state == "incomplete"
    with pytest.raises(WorkspaceError) as caught:
        bench.review(id)
    assert caught.value.code == "incomplete"
    from casemate.workspace.review import open_review

    with open_review(bench.store, id, incomplete=True) as review:
        assert not review.complete
        assert [change.name for change in review.changes] == ["src/main.py"]


def test_what_direct_mode_held_back(bench: Workbench) -> None:
    """In direct mode, protected files that appeared wait in the archive to be applied by name."""
    id = bench.session(
        lambda writer: workbench.text(writer, ".envrc", "export A=1\n"),
        mode="direct",
        protect=create.encode_patterns([parse_pattern(".envrc")]),
    )
    assert [held.flag for held in bench.apply(id).held] == [flags.PROTECTED]
    assert not (bench.project / ".envrc").exists()
    bench.apply(id, ".envrc")
    assert (bench.project / ".envrc").read_text() == "export A=1\n"
    undo(bench.store, id)
    assert not (bench.project / ".envrc").exists()
