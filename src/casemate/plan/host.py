"""Facts about the host, each remembered as evidence, so that a plan knows when it is stale."""

from __future__ import annotations

import os
import stat

from casemate.plan.evidence import signature
from casemate.plan.model import Evidence

_LINKS_MAX = 40
"""As the kernel's own limit, path_resolution(7)."""


class Host:
    """The file system as the planner sees it. Every answer is also evidence."""

    def __init__(self) -> None:
        self.uid = os.geteuid()
        self._facts: dict[str, tuple[tuple[int, ...], bool]] = {}

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Everything looked at so far."""
        return tuple(
            Evidence(path, known, content) for path, (known, content) in self._facts.items()
        )

    def look(self, path: str, content: bool = True) -> None:
        """Remember `path` as it is now. To be called before it is read, never after.

        Of a directory only its existence is remembered: what comes and goes in it is no fact.
        """
        known = self._facts.get(path)
        content = content and not os.path.isdir(path)
        if known is None or (content and not known[1]):
            self._facts[path] = (signature(path, content), content)

    def kind(self, path: str) -> str:
        """ "directory", "file", "other", or "" if there is nothing; links followed."""
        self.look(self._topmost_missing(path), content=False)
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return ""
        if stat.S_ISDIR(mode):
            return "directory"
        return "file" if stat.S_ISREG(mode) else "other"

    def resolve(self, path: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The real path, and every symbolic link passed on the way: (its real place, its text).

        ("", ()) if there is nothing. Source: path_resolution(7).
        """
        if not self.kind(path):
            return "", ()
        links: list[tuple[str, str]] = []
        current = ""
        waiting = path.split("/")[::-1]
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                current = current.rpartition("/")[0]
                continue
            step = f"{current}/{name}"
            try:
                text = os.readlink(step)
            except OSError:
                current = step
                continue
            links.append((step, text))
            if len(links) > _LINKS_MAX:
                return "", ()
            current = "" if text.startswith("/") else current
            waiting += text.split("/")[::-1]
        real = current or "/"
        if real != path:
            self.look(real, content=False)
        return real, tuple(links)

    def real(self, path: str) -> str:
        """The real path, or "" if there is nothing."""
        return self.resolve(path)[0]

    def read(self, path: str, size_max: int) -> bytes | None:
        """The content of a regular file that is no link, or None; never more than `size_max`."""
        self.look(path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > size_max:
                return None
            return os.read(descriptor, size_max)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def owner(self, path: str) -> int:
        """The user a path belongs to, -1 if there is nothing; a link's own owner."""
        try:
            return os.lstat(path).st_uid
        except OSError:
            return -1

    def is_link(self, path: str) -> bool:
        """Whether the path itself is a symbolic link."""
        self.look(path, content=False)
        return os.path.islink(path)

    def usable(self, path: str) -> bool:
        """Whether this process can list and enter a directory."""
        return os.access(path, os.R_OK | os.X_OK)

    def _topmost_missing(self, path: str) -> str:
        """The path itself, or the highest part of it that is missing: one fact for many paths."""
        missing = path
        while not os.path.lexists(missing):
            parent = os.path.dirname(missing.rstrip("/"))
            if parent in ("", missing) or os.path.lexists(parent):
                break
            missing = parent
        return missing
