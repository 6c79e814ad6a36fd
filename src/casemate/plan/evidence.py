"""The facts a cached plan rests on, checked on the start-up path: this module imports only os."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def signature(path: str, content: bool) -> tuple[int, ...]:
    """What identifies the thing at `path`, links followed.

    () if there is nothing that can be reached; else its type, device and inode, and with `content`
    also its size, modification and change time in nanoseconds. Source: stat(2), inode(7).
    """
    try:
        status = os.stat(path)
    except OSError:
        return ()
    identity = (status.st_mode & 0o170000, status.st_dev, status.st_ino)
    if not content:
        return identity
    return (*identity, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def holds(facts: Iterable[tuple[str, tuple[int, ...], bool]]) -> bool:
    """Whether every (path, signature, content) is still true."""
    return all(signature(path, content) == known for path, known, content in facts)
