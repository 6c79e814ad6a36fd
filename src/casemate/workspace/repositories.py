"""Directories that git takes for a repository without their being called `.git`.

git looks for one in every directory above the current one, and obeys its configuration and hooks
as it does any other's. A directory counts that holds HEAD, objects and refs; what protects parts
of a `.git` directory then protects the same parts of it. Source: gitrepository-layout(5).
"""

from __future__ import annotations

from collections.abc import Mapping

from casemate.workspace import archive, beneath, names
from casemate.workspace.archive import Archive

_MARKS = (b"HEAD", b"objects", b"refs")


class Repositories:
    """What looks like a repository once a session's changes are applied, or did so before.

    `roots` maps root indices to directory descriptors.
    """

    def __init__(self, opened: Archive, roots: Mapping[int, int]) -> None:
        self._archive = opened
        self._roots = roots
        self._known: dict[tuple[int, bytes], bool] = {}

    def as_git(self, root: int, path: bytes) -> bytes | None:
        """`path` with the nearest such directory above it called `.git`; None without one."""
        for above in (*names.ancestors(path), b"."):
            if self._looks_like_one(root, above):
                inner = path if above == b"." else path[len(above) + 1 :]
                return b".git/" + inner if above == b"." else above + b"/.git/" + inner
        return None

    def _looks_like_one(self, root: int, directory: bytes) -> bool:
        key = (root, directory)
        if key not in self._known:
            prefix = b"" if directory == b"." else directory + b"/"
            self._known[key] = all(self._exists(root, prefix + mark) for mark in _MARKS)
        return self._known[key]

    def _exists(self, root: int, path: bytes) -> bool:
        record = self._archive.get(root, path)
        if record is not None and record.type != archive.WHITEOUT:
            return True
        try:
            return beneath.status(self._roots[root], path) is not None
        except OSError:
            return False
