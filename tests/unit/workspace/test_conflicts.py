"""Conflicts: what changed on the host is never overwritten silently, by apply or by undo."""

from __future__ import annotations

import os

import pytest
from tests.support import workbench
from tests.support.workbench import Workbench

from casemate.errors import ConflictError
from casemate.workspace import flags
from casemate.workspace.undo import undo


def test_files_edited_after_apply_stay_applied(bench: Workbench) -> None:
    """What the user edits after an apply is neither offered again nor clobbered by undo."""
    id = bench.session(workbench.everything)
    bench.apply(id)
    workbench.write(bench.project / "src/main.py", "edited by the user\n", 0o600)
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
    id = bench.session(workbench.everything)
    bench.apply(id)
    (bench.project / "readme").chmod(0o755)
    with pytest.raises(ConflictError):
        workbench.write(bench.project / "readme/mine", "mine\n")
        undo(bench.store, id)
    os.rename(bench.project / "readme/mine", bench.project / "locked/deeper/mine")
    undo(bench.store, id)
    assert (bench.project / "locked/deeper/mine").read_text() == "mine\n"
    assert not (bench.project / "locked/inner").exists()
    assert (bench.project / "readme").read_text() == "hello\n"


def test_conflicts_apply_nothing(bench: Workbench) -> None:
    """One conflict holds everything; forcing its path, or leaving it out, goes on."""
    id = bench.session(workbench.everything)
    workbench.write(bench.project / "src/main.py", "edited on the host\n")
    before = bench.snapshot()
    with pytest.raises(ConflictError) as caught:
        bench.apply(id)
    assert caught.value.paths == ("src/main.py",)
    assert bench.snapshot() == before
    bench.apply(id, exclude=((0, b"src/main.py"),))
    assert (bench.project / "src/main.py").read_text() == "edited on the host\n"
    assert (bench.project / "moved").exists()
    bench.apply(id, force=((0, b"src/main.py"),))
    assert bench.snapshot() == workbench.RESULT
    undo(bench.store, id)
    assert (bench.project / "src/main.py").read_text() == "edited on the host\n"


def test_theirs(bench: Workbench) -> None:
    """Taking the session's version of everything overrides conflicts, deletions included."""
    id = bench.session(lambda w: w.whiteout(0, b"readme"))
    workbench.write(bench.project / "readme", "edited on the host\n")
    bench.apply(id, theirs=True)
    assert not (bench.project / "readme").exists()


def test_change_between_review_and_apply(bench: Workbench) -> None:
    """A file changed while the review is open is found by its digest, and nothing is applied."""
    id = bench.session(workbench.everything)
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
    id = bench.session(lambda w: workbench.text(w, "readme", "new\n"))
    with bench.review(id) as review:
        assert not review.changes[0].flags
    (bench.project / "readme").write_text("HELLO\n")
    with bench.review(id) as review:
        assert flags.CONFLICT in review.changes[0].flags


def test_change_on_the_host_in_the_middle(bench: Workbench) -> None:
    """A file edited after the first steps makes all of them roll back."""
    id = bench.session(workbench.everything)
    before = bench.snapshot()
    edited = False

    def hook(point: str) -> None:
        nonlocal edited
        if point == "step" and not edited:
            edited = True
            workbench.write(bench.project / "src/main.py", "edited in the middle\n")

    with bench.review(id) as review, pytest.raises(ConflictError):
        review.apply(hook=hook)
    assert bench.snapshot() == before | {"src/main.py": ("-", 0o644, b"edited in the middle\n")}
    assert bench.debris() == []
