"""Real overlay layers: real programs edit a project in a mounted overlay, and the upper directory
is turned into a change archive as the supervisor does it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from casemate.workspace.archive_writer import ArchiveWriter

_MOUNT = (
    'mount -t overlay overlay -o "userxattr,lowerdir=$1,upperdir=$2,workdir=$3" "$1" && '
    'cd "$1" && exec sh -eu -c "$4"'
)


def edit(project: Path, layer: Path, script: str) -> Path:
    """Run `script` (sh) in an overlay mounted over `project`; the upper directory.

    In a user namespace of its own, so that it works for everyone and leaves no mount behind.
    """
    upper, work = layer / "upper", layer / "work"
    upper.mkdir(parents=True)
    # The upper directory is the root of the merged tree and must look as the project's does.
    upper.chmod(stat.S_IMODE(project.stat().st_mode))
    work.mkdir()
    subprocess.run(
        ["unshare", "-Urm", "sh", "-eu", "-c", _MOUNT, "sh", project, upper, work, script],
        check=True,
    )
    return upper


def archive(writer: ArchiveWriter, upper: Path, *, root: int = 0) -> None:
    """Write the upper directory of an overlay as records, parents first."""
    _entry(writer, root, b".", os.fsencode(upper))


def _entry(writer: ArchiveWriter, root: int, path: bytes, place: bytes) -> None:
    status = os.lstat(place)
    mode, modified = stat.S_IMODE(status.st_mode), status.st_mtime_ns
    if stat.S_ISDIR(status.st_mode):
        writer.directory(root, path, opaque=_is_opaque(place), mode=mode, mtime_ns=modified)
        for name in sorted(os.listdir(place)):
            _entry(writer, root, name if path == b"." else path + b"/" + name, place + b"/" + name)
    elif stat.S_ISLNK(status.st_mode):
        writer.symlink(root, path, os.readlink(place), mtime_ns=modified)
    elif stat.S_ISREG(status.st_mode):
        with open(place, "rb") as file:
            content = file.read()
        writer.file(root, path, [(0, content)], size=len(content), mode=mode, mtime_ns=modified)
    elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        writer.whiteout(root, path)
    else:
        writer.special(root, path, mode=mode, mtime_ns=modified)


def _is_opaque(place: bytes) -> bool:
    for name in ("user.overlay.opaque", "trusted.overlay.opaque"):
        try:
            return os.getxattr(place, name) == b"y"
        except OSError:
            continue
    return False
