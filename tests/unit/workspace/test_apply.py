"""Applying: the project becomes what the session left, all or nothing, and can be undone."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trees
from trees import Workbench

from casemate.errors import ConflictError, UsageError, WorkspaceError
from casemate.policy.patterns import parse_pattern
from casemate.workspace import beneath, create, flags
from casemate.workspace.archive_writer import ArchiveWriter
from casemate.workspace.selection import Selection
from casemate.workspace.undo import undo


def other_file_system(tmp_path: Path) -> Path:
    """A directory on another file system than `tmp_path`."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system here")
    return Path(tempfile.mkdtemp(dir=shared))


@pytest.fixture(params=["same file system", "other file system", "no rename flags"])
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workbench]:
    """A project with the state on the same file system, on another, and without renameat2."""
    state = other_file_system(tmp_path) if request.param.startswith("other") else None
    if request.param.startswith("no"):
        monkeypatch.setattr(beneath, "_renameat2_number", None)
    bench = Workbench(tmp_path, state=state)
    root = bench.project
    trees.write(root / "readme", "hello\n")
    trees.write(root / "src/main.py", "print(1)\n")
    trees.write(root / "src/tool", "#!/bin/sh\n", 0o755)
    trees.write(root / "src/deep/a/b/file", "deep\n")
    (root / "link").symlink_to("readme")
    for directory in ("src", "src/deep", "src/deep/a", "src/deep/a/b"):
        (root / directory).chmod(0o755)
    yield bench
    if state is not None:
        os.system(f"rm -rf {state}")


def everything(writer: ArchiveWriter) -> None:
    """A session with every kind of change."""
    writer.directory(0, b"src")
    trees.text(writer, "src/main.py", "print(2)\n", 0o600)
    trees.text(writer, "src/tool", "#!/bin/sh\n", 0o640)
    trees.text(writer, "src/new.py", "new\n")
    writer.directory(0, b"locked", mode=0o555)
    trees.text(writer, "locked/inner", "inner\n", 0o444)
    writer.directory(0, b"locked/deeper", mode=0o711)
    writer.symlink(0, b"locked/deeper/up", b"../inner")
    writer.symlink(0, b"link", b"src/main.py")
    writer.directory(0, b"readme")
    trees.text(writer, "readme/was-a-file", "x\n")
    trees.text(writer, "src/deep", "was a directory\n")
    trees.text(writer, "moved", "deep\n")
    writer.file(0, b"sparse", [(1 << 20, b"end")], size=(1 << 20) + 3, mode=0o644)
    trees.text(writer, "odd\nname\xff", "odd\n")


RESULT = {
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
    "odd\nname\xff": ("-", 0o644, b"odd\n"),
}


def test_apply_then_undo_then_apply(bench: Workbench) -> None:
    """All kinds of changes arrive; undo restores the project exactly; it can be applied again."""
    before = bench.snapshot()
    id = bench.session(everything)
    for _ in range(2):
        applied = bench.apply(id)
        assert bench.snapshot() == RESULT
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
        trees.settle()
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
    assert (bench.project / "future").stat().st_mtime_ns <= trees.now_ns() + 10**9
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
    id = bench.session(lambda w: trees.text(w, "readme", "new\n"))
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
        trees.text(writer, "src/main.py", "print(2)\n")
        trees.text(writer, "src/new.py", "x\n")
        writer.directory(0, b"src/dir")
        trees.text(writer, "src/dir/inner", "x\n")

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
        trees.text(writer, "shared/sub/file", "x\n")

    applied = bench.apply(bench.session(build))
    assert not applied.remaining
    sub = (shared / "sub").stat()
    assert (sub.st_gid, stat.S_IMODE(sub.st_mode)) == (group, 0o2755)
    assert (shared / "sub/file").stat().st_gid == group


def test_partial_apply(bench: Workbench) -> None:
    """Applying some paths leaves the rest open; undo takes back one apply at a time."""
    before = bench.snapshot()
    id = bench.session(everything)
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
    assert bench.snapshot() == RESULT
    undo(bench.store, id)
    assert bench.snapshot() == middle
    undo(bench.store, id)
    assert bench.snapshot() == before


def test_selection_by_pattern(bench: Workbench) -> None:
    """Patterns select as in .gitignore, and can exclude."""
    id = bench.session(everything)
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


def test_files_edited_after_apply_stay_applied(bench: Workbench) -> None:
    """What the user edits after an apply is neither offered again nor clobbered by undo."""
    id = bench.session(everything)
    bench.apply(id)
    trees.write(bench.project / "src/main.py", "edited by the user\n", 0o600)
    with bench.review(id) as review:
        assert review.changes == ()
    edited = bench.snapshot()
    with pytest.raises(ConflictError) as caught:
        undo(bench.store, id)
    assert caught.value.paths == ("src/main.py",)
    assert bench.snapshot() == edited
    undo(bench.store, id, force=[(0, b"src/main.py")])
    assert (bench.project / "src/main.py").read_text() == "print(1)\n"


def test_undo_leaves_a_directory_that_holds_something_else(bench: Workbench) -> None:
    """A directory made by the apply stays when the user has put a file into it."""
    id = bench.session(everything)
    bench.apply(id)
    (bench.project / "readme").chmod(0o755)
    with pytest.raises(ConflictError):
        trees.write(bench.project / "readme/mine", "mine\n")
        undo(bench.store, id)
    os.rename(bench.project / "readme/mine", bench.project / "locked/deeper/mine")
    undo(bench.store, id)
    assert (bench.project / "locked/deeper/mine").read_text() == "mine\n"
    assert not (bench.project / "locked/inner").exists()
    assert (bench.project / "readme").read_text() == "hello\n"


def test_conflicts_apply_nothing(bench: Workbench) -> None:
    """One conflict holds everything; forcing its path, or leaving it out, goes on."""
    id = bench.session(everything)
    trees.write(bench.project / "src/main.py", "edited on the host\n")
    before = bench.snapshot()
    with pytest.raises(ConflictError) as caught:
        bench.apply(id)
    assert caught.value.paths == ("src/main.py",)
    assert bench.snapshot() == before
    bench.apply(id, exclude=((0, b"src/main.py"),))
    assert (bench.project / "src/main.py").read_text() == "edited on the host\n"
    assert (bench.project / "moved").exists()
    bench.apply(id, force=((0, b"src/main.py"),))
    assert bench.snapshot() == RESULT
    undo(bench.store, id)
    assert (bench.project / "src/main.py").read_text() == "edited on the host\n"


def test_theirs(bench: Workbench) -> None:
    """Taking the session's version of everything overrides conflicts, deletions included."""
    id = bench.session(lambda w: w.whiteout(0, b"readme"))
    trees.write(bench.project / "readme", "edited on the host\n")
    bench.apply(id, theirs=True)
    assert not (bench.project / "readme").exists()


def test_change_between_review_and_apply(bench: Workbench) -> None:
    """A file changed while the review is open is found by its digest, and nothing is applied."""
    id = bench.session(everything)
    with bench.review(id) as review:
        target = bench.project / "src/main.py"
        old = target.stat()
        target.write_text("print(9)\n")
        os.utime(target, ns=(old.st_atime_ns, old.st_mtime_ns))
        before = bench.snapshot()
        with pytest.raises(ConflictError) as caught:
            review.apply()
        assert caught.value.paths == ("src/main.py",)
    assert bench.snapshot() == before
    assert bench.debris() == []


def test_reviewed_content_is_what_counts(bench: Workbench) -> None:
    """After a first review, a change on the host is a conflict even with its times set back."""
    id = bench.session(lambda w: trees.text(w, "readme", "new\n"))
    with bench.review(id) as review:
        assert not review.changes[0].flags
    (bench.project / "readme").write_text("HELLO\n")
    with bench.review(id) as review:
        assert flags.CONFLICT in review.changes[0].flags


def test_change_on_the_host_in_the_middle(bench: Workbench) -> None:
    """A file edited after the first steps makes all of them roll back."""
    id = bench.session(everything)
    before = bench.snapshot()
    edited = False

    def hook(point: str) -> None:
        nonlocal edited
        if point == "step" and not edited:
            edited = True
            trees.write(bench.project / "src/main.py", "edited in the middle\n")

    with bench.review(id) as review, pytest.raises(ConflictError):
        review.apply(hook=hook)
    assert bench.snapshot() == before | {"src/main.py": ("-", 0o644, b"edited in the middle\n")}
    assert bench.debris() == []


@pytest.mark.parametrize("point", ["begun", "stage", "journal", "step", "executed"])
def test_any_failure_rolls_back(bench: Workbench, point: str) -> None:
    """A full disk at any point leaves the project as it was and nothing behind."""
    id = bench.session(everything)
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
    assert bench.snapshot() == RESULT


def test_hidden_and_protected_are_held(bench: Workbench) -> None:
    """Hidden and protected paths need to be named; naming a directory above is not enough."""
    trees.write(bench.project / "conf/.env", "SECRET=1\n")
    (bench.project / "conf").chmod(0o755)

    def build(writer: ArchiveWriter) -> None:
        writer.whiteout(0, b"conf")
        writer.directory(0, b".github")
        writer.directory(0, b".github/workflows")
        trees.text(writer, ".github/workflows/ci.yml", "on: push\n")
        trees.text(writer, ".env", "SECRET=2\n")
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
        trees.text(writer, "good", "x\n")

    id = bench.session(build)
    applied = bench.apply(id, "pipe", "claims", "good")
    assert {change.name for change in applied.changes} == {"good"}
    assert {held.flag for held in applied.held} == {flags.SPECIAL, flags.OVERSIZED}
    assert bench.store.load(id).state == "applied"


def test_new_file_on_the_host_keeps_its_directory(bench: Workbench) -> None:
    """A file that appeared in a directory the session deleted is a conflict, not a loss."""
    id = bench.session(lambda w: w.whiteout(0, b"src"))
    trees.write(bench.project / "src/deep/a/mine", "mine\n")
    with pytest.raises(ConflictError) as caught:
        bench.apply(id)
    assert caught.value.paths == ("src/deep/a/mine",)
    applied = bench.apply(id, exclude=((0, b"src/deep/a/mine"),))
    assert (bench.project / "src/deep/a/mine").read_text() == "mine\n"
    assert not (bench.project / "src/main.py").exists()
    assert {held.change.name for held in applied.held} == {"src", "src/deep", "src/deep/a"}


def test_link_in_place_of_a_directory_is_not_followed(bench: Workbench) -> None:
    """When the host has a link where a directory was, nothing is written behind it."""
    id = bench.session(everything)
    outside = trees.write(bench.base / "outside/main.py", "outside\n").parent
    with bench.review(id) as review:
        os.rename(bench.project / "src", bench.base / "src-moved")
        (bench.project / "src").symlink_to(outside)
        with pytest.raises(WorkspaceError):
            review.apply()
    assert trees.snapshot(outside) == {"main.py": ("-", 0o644, b"outside\n")}


def test_hard_links_are_broken_not_written_through(bench: Workbench) -> None:
    """A file with a second name elsewhere is replaced under its name in the project alone."""
    outside = bench.base / "second-name"
    os.link(bench.project / "readme", outside)
    id = bench.session(lambda w: trees.text(w, "readme", "new\n"))
    bench.apply(id)
    assert outside.read_text() == "hello\n"
    assert (bench.project / "readme").read_text() == "new\n"
    undo(bench.store, id)
    assert (bench.project / "readme").read_text() == "hello\n"


def test_several_roots_in_one_transaction(bench: Workbench) -> None:
    """Changes to two project roots are applied together or not at all."""
    second = bench.base / "second"
    trees.write(second / "file", "two\n")
    bench.extra_roots = [(1, str(second), "overlay")]

    def build(writer: ArchiveWriter) -> None:
        trees.text(writer, "readme", "one new\n")
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
    id = bench.session(everything)
    with bench.review(id) as first, bench.review(id) as second:
        first.apply()
        with pytest.raises(WorkspaceError) as caught:
            second.apply()
        assert caught.value.code == "stale"


def test_discarded_and_missing(bench: Workbench) -> None:
    """A discarded session is not applied, and a project that is gone is a clear error."""
    id = bench.session(everything)
    bench.store.discard(id)
    with bench.review(id) as review, pytest.raises(UsageError):
        review.apply()
    bench.store.recover(id)
    os.rename(bench.project, bench.base / "moved")
    with pytest.raises(WorkspaceError) as caught:
        bench.review(id)
    assert str(bench.project) in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory(bench: Workbench) -> None:
    """A directory that may not be written makes the apply fail as a whole, with its name."""
    id = bench.session(everything)
    (bench.project / "src").chmod(0o555)
    before = bench.snapshot()
    with pytest.raises(WorkspaceError) as caught:
        bench.apply(id, theirs=True)
    assert "Permission denied" in caught.value.message
    assert bench.snapshot() == before
    assert bench.debris() == []


def test_incomplete_archive_deletes_nothing_by_absence(bench: Workbench) -> None:
    """In a cut archive an opaque directory does not delete what may have been added again."""

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src", opaque=True)
        trees.text(writer, "src/main.py", "print(2)\n")
        trees.text(writer, "src/tool", "#!/bin/sh\n", 0o755)

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


def test_roll_back_that_fails(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """When even the roll-back fails, the journal stays and the next call finishes it."""
    id = bench.session(everything)
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
