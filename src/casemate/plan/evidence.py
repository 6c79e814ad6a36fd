"""The facts a plan rests on, and whether they still hold.

On the start-up path of `casemate run`, which checks a few hundred facts: it imports only `os`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT_BITS = 0o170000
SYMLINK = 0o120000


def signature(path: str, content: bool) -> tuple[int, ...]:
    """What identifies a path now; () if it does not exist or cannot be reached.

    Of existence (`content` false): (type, device, inode, owner), without following a link, and for
    a link its change time too: an inode number alone may be given out again. Of content: (type,
    device, inode, size, mtime_ns, ctime_ns) of what the path leads to. Source: inode(7).
    """
    try:
        if content:
            status = os.stat(path)
        else:
            status = os.lstat(path)
    except (OSError, ValueError):
        return ()
    kind = status.st_mode & FORMAT_BITS
    if content:
        return (
            kind,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
    if kind == SYMLINK:
        return kind, status.st_dev, status.st_ino, status.st_uid, status.st_ctime_ns
    return kind, status.st_dev, status.st_ino, status.st_uid


def holds(evidence: Iterable[tuple[str, tuple[int, ...], bool]]) -> bool:
    """Whether every fact (path, signature, content) is still as it was."""
    for path, expected, content in evidence:
        if expected:
            if signature(path, content) != expected:
                return False
        # Most facts are of absence, and access(2) answers those without an exception.
        elif os.access(path, os.F_OK):
            return False
    return True
