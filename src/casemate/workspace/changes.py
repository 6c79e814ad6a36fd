"""The changes of a session: what its archive does to the project as it lies on the host now.

The cost follows the number of changes: only paths with a record are looked at, and only deleted
or replaced directories are listed. The project is read beneath directory descriptors, never
through a link.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from casemate.errors import WorkspaceError
from casemate.workspace import archive, beneath, flags, names
from casemate.workspace.archive import Archive, Record
from casemate.workspace.entry import ABSENT, PROBE, Entry, observe, read_digest
from casemate.workspace.repositories import Repositories

Kind = Literal[
    "added",
    "modified",
    "deleted",
    "mode",
    "symlink",
    "renamed",
    "replaced",
    "directory-added",
    "directory-deleted",
]

Key = tuple[int, bytes]
"""(root index, path)."""

PathTest = Callable[[bytes, bool], bool]
"""Whether a pattern list matches (path, is it a directory)."""

LARGE = 1 << 20
"""Bytes from which a file is not shown as text."""

HOLES_MAX = 1 << 30
"""Bytes of holes from which a file counts as oversized: claiming them costs the sandbox nothing,
reading them costs the host."""

HOLES_TOTAL_MAX = 4 << 30
"""Bytes of holes in all files together; files beyond it count as oversized."""

DELETED_DIGEST_MAX = 64 << 20
"""Bytes up to which a file deleted by itself is digested; its identity is checked in any case."""

LISTED_MAX = 200_000
"""Entries listed in deleted directories, all together."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the project and what the session left.

    `before` is what lies on the host, `after` what the session wants there (its `mode` as the
    session set it; setuid, setgid and, on files, sticky bits are dropped when it is applied).
    """

    kind: Kind
    root: int
    path: bytes
    before: Entry
    after: Entry
    flags: frozenset[str] = frozenset()
    record: Record | None = None
    """Where the content of `after` is found in the archive."""
    source: bytes = b""
    """Of a rename: the old path, in the same root; `before` is then what lies there."""

    @property
    def key(self) -> Key:
        """What identifies it in a session."""
        return self.root, self.path

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every (root, path) it touches: for a rename the old path too."""
        return (self.key, (self.root, self.source)) if self.source else (self.key,)

    @property
    def name(self) -> str:
        """The path, fit for a terminal."""
        return names.display(self.path)

    @property
    def is_directory(self) -> bool:
        """Whether the change is about a directory itself."""
        return "directory" in (self.after.kind, self.before.kind) and self.kind != "replaced"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What lay at a path when the session was first reviewed."""

    entry: Entry
    conflict: bool


def never(_path: bytes, _directory: bool) -> bool:
    """The `PathTest` of an empty pattern list."""
    return False


def compare(
    opened: Archive,
    roots: Mapping[int, int],
    *,
    started_ns: int,
    hidden: PathTest = never,
    protected: PathTest = never,
    baselines: Mapping[Key, Baseline] | None = None,
) -> tuple[Change, ...]:
    """Every change, ordered by root and path; renames are not looked for.

    `roots` maps root indices to directory descriptors. `started_ns` is the session's start on
    CLOCK_REALTIME_COARSE: a file whose status changed later (ctime, inode(7)) was touched on the
    host meanwhile, since the sandbox cannot write there. `baselines` of an earlier review rule
    instead where they know the path. Raises `WorkspaceError` for a record in an unknown root.
    """
    comparison = _Comparison(opened, roots, started_ns, hidden, protected, baselines or {})
    try:
        for record in opened.records:
            comparison.record(record)
        comparison.mark_unlisted()
        found = sorted(comparison.changes.values(), key=lambda change: change.key)
        return tuple(found)
    except OSError as error:
        place = names.display(os.fsencode(error.filename)) if error.filename else "the project"
        raise WorkspaceError(f"cannot compare with {place}: {error.strerror}") from error


class _Comparison:
    def __init__(
        self,
        opened: Archive,
        roots: Mapping[int, int],
        started_ns: int,
        hidden: PathTest,
        protected: PathTest,
        baselines: Mapping[Key, Baseline],
    ) -> None:
        self.archive = opened
        self.roots = roots
        self.started_ns = started_ns
        self.hidden = hidden
        self.protected = protected
        self.baselines = baselines
        self.repositories = Repositories(opened, roots)
        self.changes: dict[Key, Change] = {}
        self.fresh: set[Key] = set()
        self.unlisted: set[Key] = set()
        self.unreachable: set[Key] = set()
        self.listed = 0
        self.holes_left = HOLES_TOTAL_MAX

    def record(self, record: Record) -> None:
        """Compare one record with the project."""
        root = self.roots.get(record.root)
        if root is None:
            raise WorkspaceError(
                f"the change archive names project root {record.root}, which the session lacks",
                code="damaged",
            )
        before = self.look(record.root, record.path)
        if record.type == archive.WHITEOUT:
            # Nobody inside deletes what is hidden from them: this is the supervisor covering it.
            if not self.hidden(record.path, before.kind == "directory"):
                self.delete(record.root, record.path, before)
            return
        if record.type in (archive.DIRECTORY, archive.OPAQUE):
            self.directory(record, before)
            return
        if before.kind == "directory":
            self.delete_contents(record.root, record.path)
        after = self.content(record)
        if before.kind == "file" and after.kind == "file":
            before = read_digest(root, record.path, before)
        if before.mode != after.mode or not before.same_content(after):
            self.add(record, before, after)

    def look(self, root: int, path: bytes) -> Entry:
        try:
            return observe(self.roots[root], path, digest=False)
        except OSError:
            self.unreachable.add((root, path))
            return ABSENT

    def directory(self, record: Record, before: Entry) -> None:
        # In a directory that replaces the one below, everything beneath is replaced too. Where
        # the archive was cut off, what was added again is not known, and so nothing is deleted.
        fresh = self.archive.complete and (
            record.type == archive.OPAQUE or (record.root, names.parent(record.path)) in self.fresh
        )
        if fresh:
            self.fresh.add((record.root, record.path))
        if before.kind != "directory":
            after = Entry("directory", mode=record.mode, mtime_ns=record.mtime_ns)
            self.add(record, before, after)
            return
        if fresh:
            self.delete_contents(record.root, record.path)
        if before.mode != record.mode:
            after = Entry("directory", mode=record.mode, mtime_ns=record.mtime_ns)
            self.add(record, before, after)

    def content(self, record: Record) -> Entry:
        """The entry that a file, link or special record wants."""
        if record.type == archive.SYMLINK:
            target = self.archive.target(record)
            return Entry("symlink", size=record.size, target=target, mtime_ns=record.mtime_ns)
        kind: Literal["file", "special"] = "file" if record.type == archive.FILE else "special"
        entry = Entry(kind, mode=record.mode, size=record.size, mtime_ns=record.mtime_ns)
        if kind == "special":
            return entry
        holes = record.size - record.data
        if holes > min(HOLES_MAX, self.holes_left):
            return entry
        self.holes_left -= holes
        probe = self.archive.open_content(record).read(PROBE)
        return replace(entry, digest=self.archive.digest(record), binary=b"\0" in probe)

    def delete(self, root: int, path: bytes, before: Entry) -> None:
        """The entry at `path` and all it holds is gone."""
        if not before.exists and (root, path) not in self.unreachable:
            return
        if before.kind == "directory":
            self.delete_contents(root, path)
            self.change("directory-deleted", root, path, before, ABSENT)
            return
        if before.kind == "file" and before.size <= DELETED_DIGEST_MAX:
            before = read_digest(self.roots[root], path, before)
        self.change("deleted", root, path, before, ABSENT)

    def delete_contents(self, root: int, top: bytes) -> None:
        """Delete what the directory `top` holds on the host and the archive does not re-add."""
        pending = [top]
        while pending:
            directory = pending.pop()
            for child, entry in self.children(root, directory):
                if entry is None:
                    self.unlisted.add((root, directory))
                elif self.archive.get(root, child) is not None:
                    continue  # its own record says what becomes of it
                elif entry.kind == "directory":
                    pending.append(child)
                    self.change("directory-deleted", root, child, entry, ABSENT)
                else:
                    self.change("deleted", root, child, entry, ABSENT)

    def children(self, root: int, path: bytes) -> Iterator[tuple[bytes, Entry | None]]:
        """What the directory `path` holds; an entry of None stands for what cannot be listed."""
        try:
            descriptor = beneath.open_directory(self.roots[root], path)
        except OSError:
            yield path, None
            return
        with os.scandir(descriptor) as listing:
            listed = [os.fsencode(item.name) for item in islice(listing, LISTED_MAX + 1)]
        os.close(descriptor)
        for name in listed:
            child = path + b"/" + name
            self.listed += 1
            if self.listed > LISTED_MAX:
                yield child, None
                return
            try:
                yield child, observe(self.roots[root], child, digest=False)
            except OSError:
                yield child, None

    def add(self, record: Record, before: Entry, after: Entry) -> None:
        """The change that `record` makes."""
        kind: Kind
        if before.kind == "file" and not before.digest:
            before = read_digest(self.roots[record.root], record.path, before)
        if not before.exists:
            kind = "added"
            if after.kind == "directory":
                kind = "directory-added"
            elif after.kind == "symlink":
                kind = "symlink"
        elif before.kind != after.kind:
            kind = "replaced"
        elif after.kind == "symlink":
            if before.same_content(after):
                return
            kind = "symlink"
        elif before.same_content(after):
            kind = "mode"
        else:
            kind = "modified"
        self.change(kind, record.root, record.path, before, after, record)

    def change(
        self,
        kind: Kind,
        root: int,
        path: bytes,
        before: Entry,
        after: Entry,
        record: Record | None = None,
    ) -> None:
        key = (root, path)
        found = _content_flags(path, before, after)
        directory = "directory" in (after.kind, before.kind)
        if self.hidden(path, directory):
            found.add(flags.HIDDEN)
        as_git = self.repositories.as_git(root, path)
        if self.protected(path, directory) or (as_git and self.protected(as_git, directory)):
            found.add(flags.PROTECTED)
        if key in self.unreachable:
            found.add(flags.UNREACHABLE)
        elif self.conflicts(key, before):
            found.add(flags.CONFLICT)
        self.changes[key] = Change(kind, root, path, before, after, frozenset(found), record)

    def mark_unlisted(self) -> None:
        """Flag the directories whose content could not be listed whole."""
        for key in self.unlisted:
            if key not in self.changes:
                kept = self.look(*key)
                self.change("mode", *key, kept, kept)
            change = self.changes[key]
            self.changes[key] = replace(change, flags=change.flags | {flags.UNLISTED})

    def conflicts(self, key: Key, before: Entry) -> bool:
        baseline = self.baselines.get(key)
        if baseline is not None:
            return baseline.conflict or not _unchanged(baseline.entry, before)
        # A directory's ctime moves with every entry made in it, so it says nothing.
        return before.kind not in ("absent", "directory") and before.ctime_ns > self.started_ns


def _unchanged(then: Entry, now: Entry) -> bool:
    if then.kind == "directory":
        return now.kind == "directory"
    return then.same_content(now) and then.mode == now.mode


def _content_flags(path: bytes, before: Entry, after: Entry) -> set[str]:
    """The flags that follow from the path and the two entries alone."""
    found = set()
    if after.kind == "special" or before.kind == "special":
        found.add(flags.SPECIAL)
    if after.kind == "file":
        if after.mode & 0o111 and not (before.kind == "file" and before.mode & 0o111):
            found.add(flags.EXECUTABLE)
        if after.binary or before.binary:
            found.add(flags.BINARY)
        if max(after.size, before.size) > LARGE:
            found.add(flags.LARGE)
        if not after.digest:
            found.add(flags.OVERSIZED)
    if after.mode & 0o6000 & ~before.mode and after.kind in ("file", "directory"):
        found.add(flags.SETUID)
    if after.kind == "symlink" and flags.leads_outside(path, after.target):
        found.add(flags.OUTSIDE_LINK)
    if after.kind in ("file", "symlink") and flags.runs_on_host(path):
        found.add(flags.RUNS_ON_HOST)
    return found
