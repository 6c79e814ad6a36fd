"""Undoing the latest apply of a session: its steps inverted, from the pre-images it kept."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from casemate.errors import ConflictError, UsageError
from casemate.workspace import beneath, names
from casemate.workspace import journal as journals
from casemate.workspace.changes import Key
from casemate.workspace.entry import Entry, observe, same_mode
from casemate.workspace.journal import Journal, Step
from casemate.workspace.locks import Root, locked, open_roots
from casemate.workspace.recovery import recover
from casemate.workspace.staging import PreimageSource
from casemate.workspace.store import Store
from casemate.workspace.transaction import Hook, Planned, run


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo did: the paths put back, as (root, path)."""

    session: str
    paths: tuple[Key, ...]


def undo(
    store: Store,
    id: str,
    *,
    force: Collection[Key] = (),
    everything: bool = False,
    hook: Hook = lambda _point: None,
) -> Undone:
    """Take back the session's latest apply; the session is open again.

    What was changed on the host since is a conflict, by digest and mode, and nothing is undone:
    `ConflictError`. Paths in `force` (all, with `everything`) are put back nevertheless. A
    directory made by the apply that now holds something else stays.
    """
    session = store.load(id)
    paths = [(root.index, root.path) for root in session.roots if root.mode != "readonly"]
    for _, path in paths:
        recover(store.state, path)
    with open_roots(paths) as roots, locked(store.state, roots.values(), session=id):
        latest = applied_transactions(session.directory)
        if not latest:
            raise UsageError(f"session {id} has nothing applied that could be undone")
        undone = latest[-1]
        planned, conflicts = _plan(session.directory, undone, roots, force, everything)
        if conflicts:
            shown = ", ".join(names.display(path) for path in conflicts[:5])
            raise ConflictError(
                f"changed on this machine since it was applied: {shown}; nothing was undone",
                paths=tuple(map(names.to_text, conflicts)),
                hint="`casemate undo --force PATH` puts the old content back nevertheless",
            )
        done = run(
            id, session.directory, roots, planned, kind="undo", reverts=undone.number, hook=hook
        )
    return Undone(id, tuple((step.root, step.path) for step in done.steps))


def applied_transactions(directory: str) -> list[Journal]:
    """The committed applies of the session in `directory` that were not undone, oldest first."""
    found = []
    try:
        listed = sorted(int(name) for name in os.listdir(f"{directory}/undo") if name.isdecimal())
    except FileNotFoundError:
        return []
    for number in listed:
        try:
            found.append(journals.read(f"{directory}/undo/{number}/journal"))
        except FileNotFoundError:
            continue
    reverted = {journal.reverts for journal in found if journal.kind == "undo"}
    return [j for j in found if j.kind == "apply" and j.number not in reverted]


def applied_keys(directory: str) -> set[Key]:
    """The changes of the session, as (root, path), that are applied and were not undone."""
    return {key for journal in applied_transactions(directory) for key in journal.keys}


def _plan(
    directory: str,
    undone: Journal,
    roots: Mapping[int, Root],
    force: Collection[Key],
    everything: bool,
) -> tuple[list[Planned], list[bytes]]:
    planned = []
    conflicts = []
    handled: dict[Key, Entry] = {}
    for step in reversed(undone.steps):
        key = (step.root, step.path)
        inverse = step.inverse
        root = roots[step.root].descriptor
        now = handled.get(key) or observe(root, step.path, digest=bool(inverse.before.digest))
        if inverse.action == "rmdir" and _holds_more(root, inverse, handled):
            continue
        if _already(inverse, now):
            continue
        if not _as_applied(inverse, now):
            both = "directory" in (now.kind, inverse.after.kind)
            if both or not (everything or key in force):
                conflicts.append(step.path)
                continue
            inverse = replace(inverse, before=now)
        handled[key] = inverse.after
        source = None
        if inverse.action in ("place", "swap") and inverse.after.kind == "file":
            source = PreimageSource(f"{directory}/undo/{undone.number}", step.slot)
        planned.append(Planned(inverse, source))
    return planned, conflicts


def _as_applied(inverse: Step, now: Entry) -> bool:
    """Whether the path is as the apply left it."""
    expected = inverse.before
    if expected.kind == "directory":
        modes = inverse.action != "chmod" or same_mode(expected, now)
        return now.kind == "directory" and modes
    if expected.kind == "file" and not same_mode(expected, now):
        return False
    return expected.same_content(now)


def _already(inverse: Step, now: Entry) -> bool:
    """Whether the path is already as it was before the apply."""
    if inverse.after.kind != now.kind:
        return False
    if now.kind in ("file", "directory") and not same_mode(inverse.after, now):
        return False
    return inverse.after.same_content(now)


def _holds_more(root: int, step: Step, handled: Mapping[Key, Entry]) -> bool:
    """Whether a directory made by the apply holds what the undo does not take away."""
    try:
        descriptor = beneath.open_directory(root, step.path)
    except OSError:
        return False
    try:
        listed = os.listdir(descriptor)
    finally:
        os.close(descriptor)
    for name in listed:
        key = (step.root, step.path + b"/" + os.fsencode(name))
        if key not in handled or handled[key].exists:
            return True
    return False
