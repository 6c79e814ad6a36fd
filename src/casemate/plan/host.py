"""The host's file system as a plan sees it: read-only, and every look is remembered.

Each answer a plan was built on becomes evidence, so that a cached plan is known to be stale when
one of them changes. The evidence is taken before the answer: a change in between makes the plan
stale, never wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from casemate.plan.evidence import FORMAT_BITS, signature
from casemate.plan.model import Evidence

Kind = Literal["missing", "directory", "file", "symlink", "socket", "fifo", "device"]

LINKS_MAX = 40
"""Symbolic links followed in one path, as in the kernel. path_resolution(7)"""

READ_MAX = 4 << 20
"""Bytes of the largest file that is read."""

KINDS: Mapping[int, Kind] = {
    0o040000: "directory",
    0o100000: "file",
    0o120000: "symlink",
    0o140000: "socket",
    0o010000: "fifo",
    0o020000: "device",
    0o060000: "device",
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path leads. Of a missing one, `real` is where it would be."""

    path: str
    real: str
    kind: Kind
    links: tuple[tuple[str, str], ...]
    """Each symbolic link on the way: its own real place and what it holds."""


class Host:
    """Looks at the host. Holds no state but what it has seen."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, bool], tuple[int, ...]] = {}

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Everything looked at so far."""
        return tuple(Evidence(path, seen, content) for (path, content), seen in self._seen.items())

    def kind(self, path: str) -> Kind:
        """What is at a path, a link itself included; "missing" also if it cannot be reached."""
        seen = self._look(path, content=False)
        return KINDS.get(seen[0], "device") if seen else "missing"

    def owner(self, path: str) -> int:
        """The user id that owns what is at a path; -1 if it is missing."""
        seen = self._look(path, content=False)
        return seen[3] if seen else -1

    def resolve(self, path: str) -> Resolved:
        """Follows an absolute path link by link. A loop of links is "missing"."""
        pending = path.split("/")[::-1]
        real: list[str] = []
        links: list[tuple[str, str]] = []
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                real = real[:-1]
                continue
            here = "/".join(("", *real, name))
            kind = self.kind(here)
            if kind == "symlink" and len(links) < LINKS_MAX:
                destination = self.readlink(here)
                links.append((here, destination))
                if destination.startswith("/"):
                    real = []
                pending += destination.split("/")[::-1]
                continue
            real.append(name)
            rest = [part for part in reversed(pending) if part not in ("", ".")]
            if kind in ("missing", "symlink") or (rest and kind != "directory"):
                return Resolved(path, "/".join(("", *real, *rest)), "missing", tuple(links))
        where = "/".join(("", *real)) if real else "/"
        return Resolved(path, where, self.kind(where), tuple(links))

    def readlink(self, path: str) -> str:
        """What a symbolic link holds; "" if it is none."""
        self._look(path, content=False)
        return self._readlink(path)

    def read(self, path: str) -> bytes | None:
        """The content of a regular file, links followed; None if there is none to be read.

        Raises `OSError` for a file that exists and cannot be read, or is larger than `READ_MAX`.
        """
        seen = self._look(path, content=True)
        if not seen:
            return None
        if KINDS.get(seen[0]) != "file":
            raise OSError(f"not a regular file: {path}")
        if seen[3] > READ_MAX:
            raise OSError(f"too large to be read: {path}")
        return self._read(path)

    def readable(self, path: str) -> bool:
        """Whether this user may list and enter a directory. access(2)"""
        return os.access(path, os.R_OK | os.X_OK)

    def _look(self, path: str, *, content: bool) -> tuple[int, ...]:
        key = (path, content)
        if key not in self._seen:
            self._seen[key] = self._signature(path, content)
        return self._seen[key]

    # What a test replaces.

    def _signature(self, path: str, content: bool) -> tuple[int, ...]:
        return signature(path, content)

    def _readlink(self, path: str) -> str:
        try:
            return os.readlink(path)
        except OSError:
            return ""

    def _read(self, path: str) -> bytes:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(path, flags)
        try:
            # Asked before it is made a file object: that refuses a directory without closing it.
            if os.fstat(descriptor).st_mode & FORMAT_BITS != 0o100000:
                raise OSError(f"not a regular file: {path}")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(READ_MAX + 1)
        finally:
            os.close(descriptor)
        if len(content) > READ_MAX:
            raise OSError(f"too large to be read: {path}")
        return content
