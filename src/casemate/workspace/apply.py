"""Applying changes: the steps that a set of chosen changes takes, in an order that works."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from casemate.workspace.archive import Archive
from casemate.workspace.changes import Change
from casemate.workspace.entry import ABSENT, Entry
from casemate.workspace.journal import Step
from casemate.workspace.staging import ArchiveSource
from casemate.workspace.transaction import Planned

_USABLE = 0o700


def steps(changes: Iterable[Change], opened: Archive) -> list[Planned]:
    """The steps for `changes`, each of which must be meant to happen.

    Directories that become writable come first, then what goes (files, then directories from the
    bottom), then what comes (directories from the top, then files), then the remaining modes.
    """
    first: list[Planned] = []
    files_gone: list[Planned] = []
    directories_gone: list[Planned] = []
    directories_made: list[Planned] = []
    files_made: list[Planned] = []
    last: list[Planned] = []
    for change in changes:
        before, after = change.before, clean(change.after)
        if change.kind == "mode":
            grants = after.kind == "directory" and after.mode & _USABLE & ~before.mode
            (first if grants else last).append(_plan(change, before, after))
            continue
        if change.kind == "renamed":
            gone = Step(change.root, change.source, before, ABSENT)
            files_gone.append(Planned(gone))
            before = ABSENT
        elif before.kind == "directory":
            directories_gone.append(_plan(change, before, ABSENT))
            before = ABSENT
        elif before.exists and after.kind in ("absent", "directory"):
            files_gone.append(_plan(change, before, ABSENT))
            before = ABSENT
        if after.kind == "directory":
            # Usable until everything in it is made; a last step sets the final mode.
            usable = replace(after, mode=after.mode | _USABLE)
            directories_made.append(_plan(change, before, usable))
            if usable.mode != after.mode:
                last.append(_plan(change, usable, after))
        elif after.exists:
            source = None
            if after.kind == "file" and change.record is not None:
                source = ArchiveSource(opened, change.record)
            files_made.append(Planned(Step(change.root, change.path, before, after), source))
    directories_gone.sort(key=_depth, reverse=True)
    directories_made.sort(key=_depth)
    last.sort(key=_depth, reverse=True)
    return first + files_gone + directories_gone + directories_made + files_made + last


def clean(entry: Entry) -> Entry:
    """The entry as it may reach the host: no setuid, no setgid, no sticky bit on a file."""
    if entry.kind == "file":
        return replace(entry, mode=entry.mode & 0o777)
    if entry.kind == "directory":
        return replace(entry, mode=entry.mode & 0o1777)
    return entry


def _plan(change: Change, before: Entry, after: Entry) -> Planned:
    return Planned(Step(change.root, change.path, before, after))


def _depth(planned: Planned) -> int:
    path = planned.step.path
    return 0 if path == b"." else 1 + path.count(b"/")
