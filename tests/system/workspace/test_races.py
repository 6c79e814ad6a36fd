"""A directory swapped for a link while changes are applied never lets anything out (E9)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tests.support import workbench

from casemate.errors import ConflictError
from casemate.workspace import beneath, steps
from casemate.workspace.entry import ABSENT, from_status, observe
from casemate.workspace.journal import Step

ROUNDS = 10_000


def test_writing_by_path_follows_the_link(tmp_path: Path) -> None:
    """The attack works against a writer that uses paths: this is what the rest prevents."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project/target").symlink_to(outside)
    (tmp_path / "project/target/file").write_text("escaped")
    assert (outside / "file").read_text() == "escaped"


def test_parent_swapped_for_a_link(tmp_path: Path) -> None:
    """Ten thousand steps race with a thread that swaps their directory; none gets outside."""
    project, outside, slots = tmp_path / "project", tmp_path / "outside", tmp_path / "slots"
    for directory in (project / "target", outside, slots):
        directory.mkdir(parents=True)
    workbench.write(outside / "existing", "untouched\n")
    workbench.write(project / "target/existing", "old\n")
    (project / "bait").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for _ in range(50):
                exchange(project, b"target", b"bait")

    root, place = beneath.open_root(str(project)), beneath.open_root(str(slots))
    thread = threading.Thread(target=swap)
    thread.start()
    done = refused = 0
    try:
        for number in range(ROUNDS):
            step = staged(root, place, number)
            try:
                steps.execute(step, root, place)
                done += 1
            except (OSError, ConflictError):
                refused += 1
    finally:
        stop.set()
        thread.join()
        os.close(root)
        os.close(place)
    assert workbench.snapshot(outside) == {"existing": ("-", 0o644, b"untouched\n")}
    assert done
    assert refused


def exchange(project: Path, one: bytes, other: bytes) -> None:
    directory = os.open(project, os.O_PATH)
    try:
        beneath.rename(directory, one, directory, other, beneath.RENAME_EXCHANGE)
    finally:
        os.close(directory)


def staged(root: int, place: int, number: int) -> Step:
    """In turn a new file and a change of the existing one."""
    slot = str(number)
    path = b"target/existing" if number % 2 else b"target/%d" % number
    descriptor = os.open(slot, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=place)
    os.write(descriptor, b"from the session\n")
    os.fchmod(descriptor, 0o644)
    after = from_status(os.fstat(descriptor))
    os.close(descriptor)
    before = ABSENT
    if number % 2:
        before = observe(root, path, digest=False)
        if not before.exists:
            before = observe(root, b"bait/existing", digest=False)
    return Step(0, path, before, after, slot)
