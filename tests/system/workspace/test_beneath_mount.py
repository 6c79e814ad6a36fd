"""A file system mounted inside a project is not the project: it is never looked into."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import errno, os, sys
sys.path.insert(0, sys.argv[1])
from casemate.workspace import beneath
beneath._have_openat2 = sys.argv[2] == "openat2"
root = beneath.open_root(".")
try:
    beneath.status(root, b"mounted/file")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.mark.parametrize("way", ["openat2", "walk"])
def test_mount_point_is_refused(tmp_path: Path, way: str) -> None:
    """Beneath a mount point every look ends with EXDEV, in both ways of resolving."""
    (tmp_path / "mounted").mkdir()
    source = str(Path(__file__).parents[3] / "src")
    script = (
        'mount -t tmpfs none mounted && echo x > mounted/file && exec "$0" -I -c "$1" "$2" "$3"'
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, sys.executable, PROGRAM, source, way],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.stdout.strip() == "EXDEV", done.stderr
