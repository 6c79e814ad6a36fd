"""What a review looks at, told by the times of last access that the kernel keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casemate import Sandbox

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


def _never_read(path: Path) -> None:
    """Sets the time of last access to 1970, so that a reader moves it even under relatime."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns), follow_symlinks=False)


def _was_read(path: Path) -> bool:
    return path.lstat().st_atime_ns != 0


def test_review_reads_only_what_changed(project: Path) -> None:
    """A review and an apply read the files that changed and no other file or directory."""
    probe = project / "probe"
    probe.write_text("x")
    _never_read(probe)
    probe.read_text()
    if not _was_read(probe):
        pytest.skip("this file system keeps no times of last access")
    for number in range(300):
        directory = project / f"part{number // 20}" / f"piece{number}"
        directory.mkdir(parents=True)
        (directory / "file").write_text(str(number))
    changed = project / "part3" / "piece61" / "file"
    with Sandbox(project) as sandbox:
        sandbox.run(["sh", "-c", f"echo changed > {changed}"])
    # Not the file itself: its change would be one on the host, and so a conflict.
    paths = project.rglob("*")
    everything = [path for path in paths if path != changed and not path.is_symlink()]
    for path in everything:
        _never_read(path)

    changes = sandbox.changes()
    sandbox.apply()

    assert [change.path for change in changes] == ["part3/piece61/file"]
    touched = {path for path in everything if path.exists() and _was_read(path)}
    assert touched <= {*changed.parents}
