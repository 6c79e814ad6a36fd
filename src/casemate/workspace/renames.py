"""Renames: a deleted and an added file with the very same content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from casemate.workspace import flags
from casemate.workspace.changes import Change, Key
from casemate.workspace.entry import read_digest


def with_renames(changes: tuple[Change, ...], roots: Mapping[int, int]) -> tuple[Change, ...]:
    """The changes with each pair of a deleted and an added file of one content made a rename.

    Each digest is taken once and each deleted file used once, so the cost is linear.
    """
    wanted = {(c.root, c.after.size) for c in changes if c.kind == "added" and c.after.digest}
    by_digest: dict[tuple[int, str], list[Change]] = {}
    by_name: dict[tuple[int, str, bytes], list[Change]] = {}
    for old in changes:
        size = old.before.size
        if old.kind != "deleted" or old.before.kind != "file" or not size:
            continue
        if (old.root, size) in wanted:
            before = old.before
            if not before.digest:
                before = read_digest(roots[old.root], old.path, before)
            old = replace(old, before=before)
            by_digest.setdefault((old.root, before.digest), []).append(old)
            name = (old.root, before.digest, _base(old.path))
            by_name.setdefault(name, []).append(old)
    gone: set[Key] = set()
    found: list[Change] = []
    for change in changes:
        if change.kind == "added" and change.after.digest and change.after.size:
            digest = (change.root, change.after.digest)
            # Of several equal files the one that kept its name is the likelier source.
            old_change = _take(by_name.get((*digest, _base(change.path))), gone)
            old_change = old_change or _take(by_digest.get(digest), gone)
            if old_change is not None:
                change = _renamed(change, old_change)
        found.append(change)
    return tuple(change for change in found if change.key not in gone)


def _take(candidates: list[Change] | None, gone: set[Key]) -> Change | None:
    while candidates:
        candidate = candidates.pop()
        if candidate.key not in gone:
            gone.add(candidate.key)
            return candidate
    return None


def _renamed(change: Change, old: Change) -> Change:
    both = change.flags | old.flags
    if old.before.mode & 0o111:
        both -= {flags.EXECUTABLE}
    return replace(change, kind="renamed", source=old.path, before=old.before, flags=both)


def _base(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
