"""From what is to be visible to an ordered list of steps. Pure.

Every path here is real: no component of it is a symbolic link on the host. Links are steps of
their own, so the sandbox has the same path twice exactly where the host has.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from casemate.plan.model import Bind, Directory, File, Mask, Root, Scratch, Step, Symlink

OWN_FILES = "casemate's own files"
"""The reason of a mask that no rule lifts."""


def within(path: str, directory: str) -> bool:
    """Whether the path is the directory or lies beneath it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def nearest(path: str, directories: Iterable[str]) -> str:
    """The deepest of the directories that the path is or lies beneath; "" if none."""
    return max((d for d in directories if within(path, d)), key=len, default="")


@dataclass(slots=True)
class Layout:
    """What is to be visible, by real path."""

    roots: dict[str, Root] = field(default_factory=dict)
    binds: dict[str, Bind] = field(default_factory=dict)
    scratch: dict[str, Scratch] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    directories: dict[str, Directory] = field(default_factory=dict)
    links: dict[str, Symlink] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    """Path to the reason it is hidden."""

    def bind(self, path: str, *, writable: bool, reason: str) -> None:
        """Show a path; writable wins over read-only, the first reason over later ones."""
        known = self.binds.get(path)
        if known is None or (writable and not known.writable):
            self.binds[path] = Bind(path, path, writable, reason)

    def steps(self) -> tuple[Step, ...]:
        """The steps in an order in which each finds its parents made."""
        hidden = {p: why for p, why in self.hidden.items() if self._is_shown(p)}
        binds = {path: bind for path, bind in self.binds.items() if self._is_needed(bind, hidden)}
        found: dict[str, Step] = {**self.directories, **self.files, **self.scratch, **binds}
        found |= self.roots
        for path, why in hidden.items():
            # Something beneath it was named all the same: room is made for that alone.
            room = any(within(other, path) for other in found if other != path)
            found[path] = Scratch(path, 0o755, why) if room else Mask(path, why)
        shown = [path for path, step in found.items() if isinstance(step, Bind | Root)]
        masked = [path for path, step in found.items() if isinstance(step, Mask)]
        for path, link in self.links.items():
            around = nearest(path, [*shown, *masked, *self.scratch])
            if path not in found and around not in shown and around not in masked:
                found[path] = link
        self._add_parents(found, shown)
        return tuple(found[path] for path in sorted(found, key=lambda path: path.split("/")))

    def _is_shown(self, path: str) -> bool:
        """Whether a path to hide would be seen: it lies in a bind or root that is wider."""
        return bool(nearest(path, [p for p in (*self.binds, *self.roots) if p != path])) and not (
            path in self.binds or path in self.roots
        )

    def _is_needed(self, bind: Bind, hidden: dict[str, str]) -> bool:
        """Whether a bind shows or allows anything that what lies around it does not."""
        path = bind.target
        if path in self.roots:
            return False
        around = {p: b.writable for p, b in self.binds.items() if p != path}
        closest = nearest(path, [*around, *self.roots, *self.scratch, *hidden])
        if closest in self.roots:
            return False
        # Rules add up, so a narrower `read` takes nothing away from a wider `write`.
        return closest not in around or (bind.writable and not around[closest])

    @staticmethod
    def _add_parents(found: dict[str, Step], shown: list[str]) -> None:
        covers = [path for path, step in found.items() if isinstance(step, Scratch)]
        for path in list(found):
            parent = os.path.dirname(path)
            while parent != "/" and parent not in found:
                if nearest(parent, [*shown, *covers]) in shown:
                    break
                found[parent] = Directory(parent, 0o755, f"on the way to {path}")
                parent = os.path.dirname(parent)
